"""A report's numbers, computed from records and raw series, and how each one is written out."""

import math
from collections.abc import Mapping

from edgedeploy.counts import COUNTED
from edgedeploy.energy import RawSeries
from edgedeploy.power import power_figures
from edgedeploy.records import (
    Accuracy,
    Artifact,
    Emulation,
    Figure,
    Ladder,
    Measurement,
    Model,
    Source,
    Window,
)
from edgedeploy.stats import cv, drift, mean, percentile, percentile_reason, samples_needed, std

LATENCY, DEVICE_LATENCY = "latency", "device_latency"
ENERGY = "energy_per_inference_j"
DEPLOYED_RUNG, EMULATED_RUNG = "deployed", "emulated"
NULL = "\N{EM DASH}"

# Column titles, in the order of a row's figures. An accuracy is named by its metric:
# `accuracy_top1`, or `accuracy` where nothing was evaluated.
FIGURE_LABELS = {
    "accuracy": "Accuracy",
    "accuracy_top1": "Top-1",
    "accuracy_top5": "Top-5",
    "latency_p50_s": "p50",
    "latency_p90_s": "p90",
    "latency_p95_s": "p95",
    "latency_p99_s": "p99",
    "latency_mean_s": "Mean",
    "latency_min_s": "Min",
    "latency_std_s": "Std",
    "latency_cv": "CV",
    "latency_drift": "Drift",
    "latency_count": "Timed",
    "latency_device_p50_s": "Device p50",
    "latency_device_p99_s": "Device p99",
    "instructions": "Instructions",
    "cycles": "Cycles",
    "throughput_hz": "Throughput",
    "throughput_concurrency": "Streams",
    "latency_chip_s": "Chip latency",
    "throughput_chip_hz": "Chip rate",
    "power_w": "Power",
    "power_net_w": "Net power",
    "power_idle_w": "Idle power",
    "energy_per_inference_j": "Energy/inf.",
    "energy_per_inference_net_j": "Net energy/inf.",
    "memory_load_peak_bytes": "Load memory",
    "memory_steady_bytes": "Run memory",
    "memory_flash_bytes": "Flash",
    "memory_sram_bytes": "SRAM",
    "memory_psram_bytes": "PSRAM",
    "memory_stack_bytes": "Stack",
    "artifact_bytes": "Artifact",
    "parameters": "Parameters",
    "macs": "MACs",
    "snr_db": "SNR",
    "top1_agreement": "Agreement",
    "compile_s": "Compile",
    "temperature_before_c": "Temp. before",
    "temperature_after_c": "Temp. after",
}
PERCENTILES = {
    "latency_p50_s": 0.5,
    "latency_p90_s": 0.9,
    "latency_p95_s": 0.95,
    "latency_p99_s": 0.99,
}
MEMORY = {"memory_load_peak_bytes": "load_peak", "memory_steady_bytes": "steady"}
# Kinds of a microcontroller's memory answer that add up to each of its memories.
DEVICE_MEMORY = {
    "memory_flash_bytes": ("flash_model", "flash_code"),
    "memory_sram_bytes": ("sram_arena", "static", "stack_peak"),
    "memory_psram_bytes": ("psram_arena",),
    "memory_stack_bytes": ("stack_peak",),
}
LOWER_IS_BETTER = ("nme", "mse", "rmse", "mae", "loss", "error", "lpips", "perplexity", "bpp")
SIGNED = ("latency_drift",)
PERCENT = ("latency_cv", "latency_drift", "top1_agreement")
PREFIXES = {-9: "n", -6: "\N{MICRO SIGN}", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}
# Counts below are written whole: 34,000 parameters, but 2.24 M.
PLAIN_BELOW = 100_000
# Smallest and largest prefix of a unit, as powers of ten.
PREFIX_RANGE = {"s": (-9, 0), "J": (-9, 3), "W": (-9, 3), "B": (0, 12), "1": (0, 12)}


def row_figures(
    *,
    model: Model | None,
    artifact: Artifact | None,
    measurement: Measurement | None,
    series: RawSeries,
    ladder: Ladder | None,
    emulation: Emulation | None = None,
    source: Source | None = None,
) -> dict[str, Figure]:
    """All figures of a row, in the order of `FIGURE_LABELS`: always the same ones but for what only
    microcontrollers and emulators tell (cycles, instructions, SRAM, PSRAM, flash, stack), and what
    only a vendor's own tool (chip latency, chip rate) or a clock beside the host's does.

    `series` maps a Series' key to its times (ns) and values in SI units; key "latency" holds the
    start and the duration in s of every inference timed. What was read off the device has the
    measurement's source, or `source`, the target's, where there is no measurement; file size and
    compile time are measured on this host; parameters and MACs are counted on the graph, which no
    device has confirmed, so "estimated". A null has its reason.
    """
    source = measurement.source if measurement else source
    judged = measurement or emulation
    made: Source = "emulated" if artifact and artifact.virtual else "measured"
    return {
        **_accuracy(judged.accuracy if judged else None, judged is not None),
        **_latency(measurement, series),
        **_by_device_clock(measurement, series),
        **_counted(measurement, series),
        **_throughput(measurement),
        **_told_by_vendor(measurement),
        **_power(measurement, series),
        **_memory(measurement),
        "artifact_bytes": _had(artifact.size_bytes if artifact else None, "B", made, "no artifact"),
        "parameters": _had(model.parameters if model else None, "1", "estimated", "no model"),
        "macs": _had(
            model.macs if model else None,
            "1",
            "estimated",
            model.macs_reason if model else "no model",
        ),
        **_parity(ladder, source),
        "compile_s": _had(
            artifact.duration_s or None if artifact else None,
            "s",
            made,
            "not recorded" if artifact else "no artifact",
        ),
        "temperature_before_c": _temperature(measurement, after=False),
        "temperature_after_c": _temperature(measurement, after=True),
    }


def format_figure(name: str, figure: Figure) -> str:
    """A figure for people: `1.23 ms`, `91.64 %`, `2.24 M`, `842/s`; a dash where it is null.

    Three significant digits, decimal prefixes (MB is 1e6 bytes). How it was had is not in the
    text: renderers mark it by `figure.source`.
    """
    value, unit = figure.value, figure.unit
    if value is None:
        return NULL
    if name in PERCENT or (name.startswith("accuracy") and unit == "1"):
        digits = 2 if name.startswith("accuracy") else 1
        return f"{100 * value:{'+' if name in SIGNED else ''}.{digits}f} %"
    if unit == "Hz":
        return f"{_digits(value)}/s"
    if unit == "1" and isinstance(value, int) and abs(value) < PLAIN_BELOW:
        return f"{value:,}"
    if unit in PREFIX_RANGE and math.isfinite(value):
        return _prefixed(value, unit)
    return f"{value:.{2 if name.startswith('accuracy') else 1}f} {unit}"


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of an accuracy metric is the better one: errors and losses."""
    return any(word in LOWER_IS_BETTER for word in metric.lower().replace("-", "_").split("_"))


def _prefixed(value: float, unit: str) -> str:
    if not value:
        return f"0 {unit}".removesuffix(" 1")
    # Rounded first, or 999.96 us would be written as 1000 us.
    rounded = float(f"{value:.3g}")
    low, high = PREFIX_RANGE[unit]
    power = 3 * math.floor(math.log10(abs(rounded)) / 3)
    power = min(max(power, low), high)
    text = f"{value:.0f}" if unit == "B" and power == 0 else _digits(value / 10.0**power)
    return f"{text} {PREFIXES[power]}{'' if unit == '1' else unit}".rstrip()


def _digits(value: float) -> str:
    """Three significant digits, more where that many stand before the point."""
    rounded = abs(float(f"{value:.3g}"))
    return f"{value:,.{2 if rounded < 10 else 1 if rounded < 100 else 0}f}"


def _had(value: float | int | None, unit: str, source: Source | None, reason: str | None) -> Figure:
    if value is None or source is None:
        return Figure(value=None, unit=unit, reason=reason or "not recorded")
    return Figure(value=value, unit=unit, source=source)


def _accuracy(accuracy: Accuracy | None, measured: bool) -> dict[str, Figure]:
    if accuracy is None:
        reason = "no evaluation set" if measured else "no measurement"
        return {"accuracy": _had(None, "1", None, reason)}
    name = f"accuracy_{accuracy.metric}"
    return {name: _had(accuracy.value, accuracy.unit, accuracy.source, accuracy.reason)}


def _latency(measurement: Measurement | None, series: RawSeries) -> dict[str, Figure]:
    units = {name: "s" if name.endswith("_s") else "1" for name in FIGURE_LABELS}
    names = [
        name
        for name in FIGURE_LABELS
        if name.startswith("latency") and not name.startswith(("latency_chip", "latency_device"))
    ]
    if measurement is None or LATENCY not in series:
        reason = "the raw latencies are not in the run's series file"
        reason = (measurement.timing_reason or reason) if measurement else "no measurement"
        return {name: _had(None, units[name], None, reason) for name in names}
    values = series[LATENCY][1]
    n = len(values)
    few = {name: percentile_reason(n, p) for name, p in PERCENTILES.items()}
    few["latency_drift"] = f"drift needs {3 * samples_needed(0.5)} samples, {n} were taken"
    found: dict[str, float | int | None] = {
        **{name: percentile(values, p) for name, p in PERCENTILES.items()},
        "latency_mean_s": mean(values),
        "latency_min_s": float(values.min()) if n else None,
        "latency_std_s": std(values),
        "latency_cv": cv(values),
        "latency_drift": drift(values),
        "latency_count": n,
    }
    too_few = f"{n} inferences were timed"
    return {
        name: _had(found[name], units[name], measurement.source, few.get(name, too_few))
        for name in names
    }


def _by_device_clock(measurement: Measurement | None, series: RawSeries) -> dict[str, Figure]:
    """Percentiles by the device's own clock; only of a device that has one beside the host's."""
    if measurement is None or DEVICE_LATENCY not in series:
        return {}
    values = series[DEVICE_LATENCY][1]
    return {
        f"latency_device_{name}_s": _had(
            percentile(values, p), "s", measurement.source, percentile_reason(len(values), p)
        )
        for name, p in (("p50", 0.5), ("p99", 0.99))
    }


def _counted(measurement: Measurement | None, series: RawSeries) -> dict[str, Figure]:
    """Mean of what the device counted in one inference; only of a device that counts."""
    source = measurement.source if measurement else None
    means = {name: mean(series[name][1]) for name in COUNTED if name in series}
    return {
        name: _had(None if value is None else round(value), "1", source, "no inference was counted")
        for name, value in means.items()
    }


def _throughput(measurement: Measurement | None) -> dict[str, Figure]:
    """Of the throughput window with the highest rate."""
    windows = measurement.windows if measurement else ()
    finished = [w for w in windows if w.phase == "throughput" and w.count and w.end_ns > w.start_ns]
    reason = "no throughput window in which an inference finished"
    reason = (measurement.timing_reason or reason) if measurement else "no measurement"
    best = max(finished, key=_rate_hz, default=None)
    source = measurement.source if measurement else None
    return {
        "throughput_hz": _had(_rate_hz(best) if best else None, "Hz", source, reason),
        "throughput_concurrency": _had(best.concurrency if best else None, "1", source, reason),
    }


def _told_by_vendor(measurement: Measurement | None) -> dict[str, Figure]:
    """What the vendor's own tool said; only of devices that have one."""
    if measurement is None:
        return {}
    return {
        told.name: _had(told.value, told.unit, measurement.source, None)
        for told in measurement.vendor_figures
        if told.name in FIGURE_LABELS
    }


def _rate_hz(window: Window) -> float:
    return 1e9 * window.count / (window.end_ns - window.start_ns)


def _power(measurement: Measurement | None, series: RawSeries) -> dict[str, Figure]:
    if measurement is not None:
        return power_figures(measurement, series)
    names = [name for name in FIGURE_LABELS if name.startswith(("power", "energy"))]
    return {
        name: _had(None, "W" if name.endswith("_w") else "J", None, "no measurement")
        for name in names
    }


def _memory(measurement: Measurement | None) -> dict[str, Figure]:
    if measurement is None:
        return {name: _had(None, "B", None, "no measurement") for name in MEMORY}
    reason = measurement.memory_reason or "the device does not tell"
    known = measurement.memory_bytes
    found = {
        name: _had(known.get(key), "B", measurement.source, reason) for name, key in MEMORY.items()
    }
    for name, kinds in DEVICE_MEMORY.items():
        parts = [known[kind] for kind in kinds if kind in known]
        if parts:
            found[name] = _had(sum(parts), "B", measurement.source, None)
    return found


def _parity(ladder: Ladder | None, source: Source | None) -> dict[str, Figure]:
    """The rung of the deployed artifact, or else of the emulated one, against the source."""
    rungs = [r for r in (ladder.rungs if ladder else ()) if r.reference != EMULATED_RUNG]
    rung = next((r for r in reversed(rungs) if r.name == DEPLOYED_RUNG), None)
    if rung is None:
        rung = next((r for r in rungs if r.name == EMULATED_RUNG), None)
        source = "emulated" if rung else source
    if rung is None or source is None:
        reason = "parity of the deployed artifact was not checked"
        reason = reason if rung is None else "not known how the deployed outputs were had"
        return {
            "snr_db": _had(None, "dB", None, reason),
            "top1_agreement": _had(None, "1", None, reason),
        }
    noiseless = "equal to the reference bit for bit: no noise" if rung.equal else rung.reason
    return {
        "snr_db": _had(rung.snr_db, "dB", source, noiseless),
        "top1_agreement": _had(
            rung.top1_agreement, "1", source, rung.reason or "the outputs are not class scores"
        ),
    }


def _temperature(measurement: Measurement | None, *, after: bool) -> Figure:
    """The hottest sensor of `temperatures_c` in the facts."""
    if measurement is None:
        return _had(None, "°C", None, "no measurement")
    zones = (measurement.facts_after if after else measurement.facts).get("temperatures_c")
    values = zones.values() if isinstance(zones, Mapping) else ()
    known = [float(v) for v in values if isinstance(v, int | float)]
    reason = "no temperature sensor was found"
    return _had(max(known, default=None), "°C", measurement.source, reason)
