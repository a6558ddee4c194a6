"""Power and energy of a measurement: figures by hand, channels chosen, reasons of nulls."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from specimens import IDLE, LATENCY, S, channel, measurement

from edgedeploy.power import power_figures
from edgedeploy.records import Figure, Missed, Series, Window

T = np.arange(0, 6 * S + 1, S // 100, dtype=np.int64)
# 4 W at rest, 10 W from 2.5 s on.
POWER_W = np.where(T < 2.5 * S, 4.0, 10.0)
NAMES = (
    "power_w",
    "power_net_w",
    "power_idle_w",
    "energy_per_inference_j",
    "energy_per_inference_net_j",
)


def counter(power_w: NDArray[np.float64], start_j: float = 0.0) -> NDArray[np.float64]:
    steps = (power_w[1:] + power_w[:-1]) / 2 * np.diff(T) / 1e9
    return start_j + np.concatenate(([0.0], np.cumsum(steps)))


def figures(
    *channels: tuple[Series, NDArray[np.float64]], **changes: Any
) -> dict[str, float | None]:
    return {k: f.value for k, f in full(*channels, **changes).items()}


def full(*channels: tuple[Series, NDArray[np.float64]], **changes: Any) -> dict[str, Figure]:
    raw = {s.key: (T, values) for s, values in channels}
    return power_figures(measurement(series=tuple(s for s, _ in channels), **changes), raw)


def expected(scale: float = 1.0) -> dict[str, Any]:
    """10 W over 2 s and 1000 inferences is 20 mJ each, 8 mJ of them idling."""
    values = (10.0, 6.0, 4.0, 0.020, 0.012)
    return {k: pytest.approx(scale * v) for k, v in zip(NAMES, values, strict=True)}


def reasons(found: dict[str, Figure]) -> set[str | None]:
    return {found[k].reason for k in NAMES}


def test_power_samples_give_gross_net_and_idle() -> None:
    assert figures((channel("p", "power"), POWER_W)) == expected()


def test_an_energy_counter_that_wraps_gives_the_same() -> None:
    values = counter(POWER_W, start_j=95.0) % 100.0
    assert figures((channel("e", "energy", counter_range=100.0), values)) == expected()


def test_figures_have_units_and_the_source_of_the_measurement() -> None:
    found = full((channel("p", "power"), POWER_W), source="emulated")
    assert [found[k].unit for k in NAMES] == ["W", "W", "W", "J", "J"]
    assert {f.source for f in found.values()} == {"emulated"}


def test_total_channels_of_an_instrument_are_summed_and_others_are_not() -> None:
    found = figures(
        (channel("package-0", "power"), POWER_W),
        (channel("package-1", "power"), POWER_W),
        (channel("core-0", "power", total=False), POWER_W),
    )
    assert found == expected(2.0)


def test_counters_go_before_samples_of_the_same_instrument() -> None:
    power, energy = channel("p", "power"), channel("e", "energy", counter_range=1e6)
    assert figures((power, 3 * POWER_W), (energy, counter(POWER_W))) == expected()


def test_a_counter_that_cannot_be_used_leaves_it_to_the_samples() -> None:
    power, energy = channel("p", "power"), channel("e", "energy")
    assert figures((power, POWER_W), (energy, np.zeros(len(T)))) == expected()


def test_two_instruments_are_never_added_up_and_the_first_that_gives_energy_wins() -> None:
    inside = channel("inside", "power", instrument="first")
    outside = channel("outside", "power", instrument="second")
    assert figures((inside, POWER_W), (outside, 2 * POWER_W)) == expected()
    slow = channel("inside", "power", instrument="first", period_s=1.0)
    assert figures((slow, POWER_W), (outside, 2 * POWER_W)) == expected(2.0)


def test_idle_power_remains_where_the_latency_window_cannot_be_had() -> None:
    gap = POWER_W.copy()
    gap[(T > 3.5 * S) & (T < 4.5 * S)] = math.nan
    found = full((channel("p", "power"), gap))
    assert found["power_idle_w"].value == pytest.approx(4.0)
    reason = "meter p, latency: readings are missing for 1 s of the window (one every 0.01 s)"
    assert {found[k].reason for k in NAMES if k != "power_idle_w"} == {reason}


def test_net_needs_an_idle_window() -> None:
    found = full((channel("p", "power"), POWER_W), windows=(LATENCY,))
    assert found["power_w"].value == pytest.approx(10.0)
    for name in ("power_net_w", "power_idle_w", "energy_per_inference_net_j"):
        assert found[name].reason == "there is no idle window"


def test_a_net_energy_below_nothing_is_null() -> None:
    found = full((channel("p", "power"), np.where(T < 2.5 * S, 11.0, 10.0)))
    assert found["power_w"].value == pytest.approx(10.0)
    assert found["energy_per_inference_net_j"].reason == (
        "idling over the latency window's time takes 22 J, inference 20 J: the idle window was not"
        " idle, or the difference is too small"
    )


def test_another_clock_is_not_integrated_over_this_ones_windows() -> None:
    found = full((channel("p", "power", clock="meter"), POWER_W))
    assert found["power_w"].reason == (
        "meter p, latency: its clock 'meter' is not the window's clock 'host-monotonic'"
    )
    windows = [Window(**{**_fields(w), "clock": "meter"}) for w in (IDLE, LATENCY)]
    assert (
        figures((channel("p", "power", clock="meter"), POWER_W), windows=tuple(windows))
        == expected()
    )


def _fields(window: Window) -> dict[str, Any]:
    return {name: getattr(window, name) for name in window.__struct_fields__}


def test_a_unit_that_is_not_si_is_refused() -> None:
    found = full((channel("p", "power", unit="mW"), 1000 * POWER_W))
    assert found["power_w"].reason == "meter p, latency: its unit is 'mW', expected 'W'"


def test_a_window_shorter_than_ten_updates_of_the_sensor_is_refused() -> None:
    found = full((channel("p", "power", period_s=0.15), POWER_W))
    assert found["power_w"].value == pytest.approx(10.0)
    assert found["power_idle_w"].reason == (
        "meter p, idle: the window of 1 s spans 6.7 updates of the sensor (one every 0.15 s), 10"
        " are needed: lengthen it to 1.5 s"
    )


def test_a_counter_that_moves_under_a_hundred_times_is_refused_in_that_window() -> None:
    values = np.floor((counter(POWER_W) + 1e-9) / 0.15) * 0.15
    found = full((channel("e", "energy"), values))
    assert found["power_w"].value == pytest.approx(10.0, rel=0.01)
    assert found["power_net_w"].value is None
    assert found["power_idle_w"].reason == (
        "meter e, idle: the window of 1 s spans 26.8 updates of the sensor (one every 0.0373 s),"
        " 100 are needed: lengthen it to 3.73 s"
    )


def test_why_there_is_no_power_is_said() -> None:
    assert reasons(full()) == {"no instrument read power"}
    missed = (Missed(what="meter", reason="no permission"), Missed(what="rail", reason="absent"))
    assert reasons(full(missed=missed)) == {
        "no instrument read power (meter: no permission; rail: absent)"
    }
    part = channel("rail VDD_CPU", "power", total=False)
    assert reasons(full((part, POWER_W))) == {
        "no channel stands for the whole device; there are meter rail VDD_CPU"
    }


def test_a_series_missing_from_the_file_is_said() -> None:
    found = power_figures(measurement(series=(channel("p", "power"),)), {})
    assert found["power_w"].reason == (
        "meter p, latency: its raw series 'p' is not in the run's series file"
    )


def test_no_energy_per_inference_without_an_inference() -> None:
    empty = Window(phase="latency", start_ns=3 * S, end_ns=5 * S, count=0)
    found = full((channel("p", "power"), POWER_W), windows=(IDLE, empty))
    assert found["power_net_w"].value == pytest.approx(6.0)
    assert found["energy_per_inference_j"].reason == ("no inference finished in the latency window")


def test_without_a_latency_window_all_but_idle_is_null() -> None:
    found = full((channel("p", "power"), POWER_W), windows=(IDLE,))
    assert found["power_idle_w"].value == pytest.approx(4.0)
    assert found["power_w"].reason == "there is no latency window"
