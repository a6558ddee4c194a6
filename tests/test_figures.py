"""A row's figures from records and raw series, and how they are written out."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from specimens import IDLE, LATENCY, S, artifact, channel, latencies, measurement, model, top1

from edgedeploy.counts import COUNTED
from edgedeploy.energy import RawSeries
from edgedeploy.figures import (
    DEVICE_MEMORY,
    FIGURE_LABELS,
    format_figure,
    lower_is_better,
    row_figures,
)
from edgedeploy.records import Figure, Ladder, Rung, Window

LATENCY_S = latencies(2e-3)
RAW: RawSeries = {"latency": (3 * S + np.arange(1000) * 2_000_000, LATENCY_S)}


def figures(**changes: Any) -> dict[str, Figure]:
    fields: dict[str, Any] = {
        "model": model(),
        "artifact": artifact(),
        "measurement": measurement(),
        "series": RAW,
        "ladder": None,
    }
    return row_figures(**{**fields, **changes})


def ladder(*rungs: Rung) -> Ladder:
    return Ladder(rungs=rungs, samples=16)


SOME = (
    "latency_chip_s",
    "throughput_chip_hz",
    "latency_device_p50_s",
    "latency_device_p99_s",
)


def test_all_figures_are_there_in_order_whatever_is_missing() -> None:
    names = [
        name
        for name in FIGURE_LABELS
        if not name.startswith("accuracy_") and name not in (*COUNTED, *DEVICE_MEMORY, *SOME)
    ]
    nothing = row_figures(model=None, artifact=None, measurement=None, series={}, ladder=None)
    assert list(nothing) == names
    assert list(figures()) == names
    assert all(f.value is None and f.reason for f in nothing.values())
    evaluated = figures(measurement=measurement(accuracy=top1(0.9164)))
    assert list(evaluated) == ["accuracy_top1", *names[1:]]


def test_units_are_the_ones_in_the_names_had_or_not() -> None:
    ends = {"s": "s", "hz": "Hz", "w": "W", "j": "J", "bytes": "B", "db": "dB", "c": "°C"}
    nothing = row_figures(model=None, artifact=None, measurement=None, series={}, ladder=None)
    for found in (figures(), nothing):
        for name, figure in found.items():
            assert figure.unit == ends.get(name.rpartition("_")[2], "1"), name


def test_latency_figures_are_the_statistics_of_the_raw_series() -> None:
    found = figures()
    for name, p in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        assert found[f"latency_{name}_s"].value == np.quantile(LATENCY_S, p)
    assert found["latency_mean_s"].value == pytest.approx(LATENCY_S.mean())
    assert found["latency_min_s"].value == LATENCY_S.min()
    assert found["latency_std_s"].value == pytest.approx(LATENCY_S.std(ddof=1))
    assert found["latency_cv"].value == pytest.approx(LATENCY_S.std(ddof=1) / LATENCY_S.mean())
    first, last = np.median(LATENCY_S[:333]), np.median(LATENCY_S[-333:])
    assert found["latency_drift"].value == pytest.approx(last / first - 1)
    assert found["latency_count"].value == 1000
    assert {f.source for k, f in found.items() if k.startswith("latency")} == {"measured"}


def test_percentiles_of_too_few_samples_are_null_and_say_so() -> None:
    found = figures(series={"latency": (np.arange(57), LATENCY_S[:57])})
    assert found["latency_p50_s"].value == np.median(LATENCY_S[:57])
    assert found["latency_p90_s"].reason == "p90 needs 100 samples, 57 were taken"
    assert found["latency_p99_s"].reason == "p99 needs 1000 samples, 57 were taken"
    assert found["latency_drift"].reason == "drift needs 60 samples, 57 were taken"
    assert found["latency_count"].value == 57


def test_no_latency_at_all_is_null_but_for_the_count() -> None:
    found = figures(series={"latency": (np.array([], np.int64), np.array([]))})
    assert found["latency_count"].value == 0
    assert found["latency_mean_s"].reason == "0 inferences were timed"
    assert found["latency_min_s"].value is None
    lost = figures(series={})
    assert lost["latency_count"].reason == "the raw latencies are not in the run's series file"


def test_the_best_throughput_window_wins() -> None:
    windows = (
        LATENCY,
        Window(phase="throughput", start_ns=0, end_ns=S, count=900, concurrency=1),
        Window(phase="throughput", start_ns=0, end_ns=2 * S, count=3000, concurrency=4),
        Window(phase="throughput", start_ns=0, end_ns=3 * S, count=3300, concurrency=8),
    )
    found = figures(measurement=measurement(windows=windows))
    assert found["throughput_hz"].value == 1500.0
    assert found["throughput_concurrency"].value == 4


def test_no_finished_throughput_window_is_null() -> None:
    empty = Window(phase="throughput", start_ns=0, end_ns=S, count=0)
    found = figures(measurement=measurement(windows=(IDLE, LATENCY, empty)))
    for name in ("throughput_hz", "throughput_concurrency"):
        assert found[name].reason == "no throughput window in which an inference finished"


def test_power_comes_through() -> None:
    t = np.arange(0, 6 * S + 1, S // 100, dtype=np.int64)
    raw = {**RAW, "p": (t, np.where(t < 2.5 * S, 4.0, 10.0))}
    found = figures(measurement=measurement(series=(channel("p", "power"),)), series=raw)
    assert found["energy_per_inference_j"].value == pytest.approx(0.020)
    assert found["power_net_w"].value == pytest.approx(6.0)


def test_memory_file_size_and_compile_time() -> None:
    found = figures(measurement=measurement(memory_bytes={"load_peak": 9_000_000, "steady": 0}))
    assert found["memory_load_peak_bytes"].value == 9_000_000
    assert found["memory_steady_bytes"].value == 0
    assert found["artifact_bytes"].value == 1_140_000
    assert found["compile_s"].value == 1.5
    told = figures(measurement=measurement(memory_reason="not on this system"))
    assert told["memory_steady_bytes"].reason == "not on this system"
    assert figures()["memory_steady_bytes"].reason == "the device does not tell"
    assert figures(artifact=artifact(duration_s=0.0))["compile_s"].reason == "not recorded"


def test_counts_on_the_graph_are_estimated_whatever_was_measured() -> None:
    found = figures()
    assert (found["parameters"].value, found["parameters"].source) == (2_236_682, "estimated")
    assert (found["macs"].value, found["macs"].source) == (300_000_000, "estimated")
    unknown = figures(model=model(macs=None, macs_reason="op Foo is not known"))
    assert unknown["macs"].reason == "op Foo is not known"


def test_what_an_emulator_gave_does_not_look_measured() -> None:
    emulated = measurement(
        source="emulated",
        accuracy=top1(0.9, source="emulated"),
        memory_bytes={"load_peak": 1, "steady": 1},
        facts={"temperatures_c": {"cpu": 40}},
        windows=(LATENCY, Window(phase="throughput", start_ns=0, end_ns=S, count=9)),
    )
    found = figures(
        measurement=emulated, ladder=ladder(Rung(name="deployed", reference="torch", snr_db=30.0))
    )
    measured = {k for k, f in found.items() if f.source == "measured"}
    assert measured == {"artifact_bytes", "compile_s"}


def test_accuracy_keeps_its_own_unit_source_and_reason() -> None:
    found = figures(measurement=measurement(accuracy=top1(0.9164, source="emulated")))
    assert found["accuracy_top1"] == Figure(value=0.9164, unit="1", source="emulated")
    lost = figures(measurement=measurement(accuracy=top1(None, reason="the worker died")))
    assert lost["accuracy_top1"].reason == "the worker died"
    assert figures()["accuracy"].reason == "no evaluation set"
    assert figures(measurement=None)["accuracy"].reason == "no measurement"


def test_parity_is_that_of_the_deployed_artifact() -> None:
    quantized = Rung(name="quantized", reference="torch", snr_db=20.0, top1_agreement=0.5)
    deployed = Rung(name="deployed", reference="torch", snr_db=27.5, top1_agreement=0.875)
    found = figures(ladder=ladder(quantized, deployed))
    assert found["snr_db"] == Figure(value=27.5, unit="dB", source="measured")
    assert found["top1_agreement"] == Figure(value=0.875, unit="1", source="measured")
    unchecked = "parity of the deployed artifact was not checked"
    assert figures(ladder=ladder(quantized))["snr_db"].reason == unchecked
    assert figures()["top1_agreement"].reason == unchecked


def test_parity_nulls_say_why() -> None:
    equal = ladder(Rung(name="deployed", reference="torch", equal=True, top1_agreement=1.0))
    found = figures(ladder=equal)
    assert found["snr_db"].reason == "equal to the reference bit for bit: no noise"
    assert found["top1_agreement"].value == 1.0
    broken = ladder(Rung(name="deployed", reference="torch", broken=True, reason="shapes differ"))
    assert figures(ladder=broken)["snr_db"].reason == "shapes differ"
    boxes = ladder(Rung(name="deployed", reference="torch", snr_db=9.0))
    assert figures(ladder=boxes)["top1_agreement"].reason == "the outputs are not class scores"


def test_parity_without_a_measurement_takes_the_targets_source_or_none() -> None:
    checked = ladder(Rung(name="deployed", reference="torch", snr_db=9.0))
    assert figures(measurement=None, ladder=checked)["snr_db"].value is None
    found = figures(measurement=None, ladder=checked, source="emulated")
    assert found["snr_db"] == Figure(value=9.0, unit="dB", source="emulated")


def test_temperature_is_that_of_the_hottest_sensor() -> None:
    hot = measurement(
        facts={"temperatures_c": {"cpu": 41.5, "board": 30.0, "none": None}},
        facts_after={"temperatures_c": {}},
    )
    found = figures(measurement=hot)
    assert found["temperature_before_c"] == Figure(value=41.5, unit="°C", source="measured")
    assert found["temperature_after_c"].reason == "no temperature sensor was found"


@pytest.mark.parametrize(
    ("name", "value", "unit", "text"),
    [
        ("latency_p50_s", 0.00123456, "s", "1.23 ms"),
        ("latency_p50_s", 45.39e-6, "s", "45.4 \N{MICRO SIGN}s"),
        ("latency_p50_s", 999.96e-6, "s", "1.00 ms"),
        ("latency_p50_s", 0.1, "s", "100 ms"),
        ("latency_p50_s", 1.0, "s", "1.00 s"),
        ("latency_p50_s", 3e-9, "s", "3.00 ns"),
        ("latency_p50_s", 2e-10, "s", "0.20 ns"),
        ("latency_std_s", 0.0, "s", "0 s"),
        ("compile_s", 1234.5, "s", "1,234 s"),
        ("power_w", 12.34, "W", "12.3 W"),
        ("power_w", 0.0823, "W", "82.3 mW"),
        ("energy_per_inference_j", 0.0200, "J", "20.0 mJ"),
        ("energy_per_inference_j", 3.3e-6, "J", "3.30 \N{MICRO SIGN}J"),
        ("artifact_bytes", 1_140_000, "B", "1.14 MB"),
        ("artifact_bytes", 999, "B", "999 B"),
        ("artifact_bytes", 1_000, "B", "1.00 kB"),
        ("memory_steady_bytes", 0, "B", "0 B"),
        ("memory_steady_bytes", 2_500_000_000, "B", "2.50 GB"),
        ("throughput_hz", 842.4, "Hz", "842/s"),
        ("throughput_hz", 12345.6, "Hz", "12,346/s"),
        ("throughput_hz", 9.87, "Hz", "9.87/s"),
        ("throughput_concurrency", 4, "1", "4"),
        ("latency_count", 12_345, "1", "12,345"),
        ("parameters", 34_567, "1", "34,567"),
        ("parameters", 2_236_682, "1", "2.24 M"),
        ("macs", 300_000_000, "1", "300 M"),
        ("macs", 4_140_000_000, "1", "4.14 G"),
        ("accuracy_top1", 0.91642, "1", "91.64 %"),
        ("accuracy_psnr", 32.456, "dB", "32.46 dB"),
        ("latency_cv", 0.0234, "1", "2.3 %"),
        ("latency_drift", 0.0123, "1", "+1.2 %"),
        ("latency_drift", -0.0123, "1", "-1.2 %"),
        ("top1_agreement", 1.0, "1", "100.0 %"),
        ("snr_db", 27.46, "dB", "27.5 dB"),
        ("snr_db", math.inf, "dB", "inf dB"),
        ("temperature_before_c", 41.5, "°C", "41.5 °C"),
    ],
)
def test_figures_are_written_for_people(
    name: str, value: float | int, unit: str, text: str
) -> None:
    assert format_figure(name, Figure(value=value, unit=unit, source="measured")) == text


def test_a_null_is_a_dash() -> None:
    null = Figure(value=None, unit="J", reason="no instrument")
    assert format_figure("energy_per_inference_j", null) == "\N{EM DASH}"


@given(st.floats(1e-9, 900), st.sampled_from(["s", "J", "W"]))
def test_a_written_value_is_within_its_three_digits(value: float, unit: str) -> None:
    text = format_figure("x", Figure(value=value, unit=unit, source="measured"))
    number, written = text.split(" ")
    scale = {"n": 1e-9, "\N{MICRO SIGN}": 1e-6, "m": 1e-3, "": 1.0}[written.removesuffix(unit)]
    assert float(number) * scale == pytest.approx(value, rel=0.00501)
    assert 1 <= float(number) < 1000
    assert len(number.replace(".", "")) == 3


def test_errors_are_better_small_and_shares_are_better_large() -> None:
    assert [m for m in ("top1", "nme", "psnr", "val_loss", "miou") if lower_is_better(m)] == [
        "nme",
        "val_loss",
    ]
