"""What the HTML page shows of one row in detail: latency, layers, memory, power."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from edgedeploy.counts import COUNTED
from edgedeploy.figures import format_figure
from edgedeploy.records import Figure, Layer, Measurement, Missed, Row, Series
from edgedeploy.report import charts, svg
from edgedeploy.report.table import figure_label
from edgedeploy.report.text import MARKS

Array = NDArray[Any]
SeriesArrays = Mapping[str, tuple[Array, Array]]

LATENCY_STATS = (
    "latency_count",
    "latency_min_s",
    "latency_mean_s",
    "latency_p50_s",
    "latency_p90_s",
    "latency_p95_s",
    "latency_p99_s",
    "latency_cv",
    "latency_drift",
)
POWER_STATS = (
    "power_w",
    "power_net_w",
    "power_idle_w",
    "energy_per_inference_j",
    "energy_per_inference_net_j",
)
TOP_LAYERS = 15
NO_SERIES = "the raw samples were not at hand when this page was made"


class Stat(NamedTuple):
    """A labelled figure: its text, the mark of its source, or why it is null."""

    label: str
    text: str
    mark: str = ""
    reason: str = ""


class Latency(NamedTuple):
    """Distribution and time series of a row, or why they are not drawn."""

    histogram: Markup | None
    timeline: Markup | None
    stats: list[Stat]
    reason: str = ""


class Bar(NamedTuple):
    """One line of a bar chart: names, text, a bar (drawn), or why it is null."""

    label: str
    detail: str
    text: str
    drawing: Markup
    share: str = ""
    mark: str = ""
    reason: str = ""


class Power(NamedTuple):
    """Power of a row: a chart where series are kept, and figures."""

    chart: Markup | None
    stats: list[Stat]


def stats(row: Row, keys: tuple[str, ...]) -> list[Stat]:
    """The figures `keys` of a row, those that it has."""
    return [_stat(key, row.figures[key]) for key in keys if key in row.figures]


def _stat(key: str, figure: Figure) -> Stat:
    mark = MARKS[figure.source] if figure.source is not None else ""
    return Stat(figure_label(key), format_figure(key, figure), mark, figure.reason or "")


def latency(key: str, name: str, row: Row, arrays: SeriesArrays) -> Latency:
    """Histogram and time series of the latency window; times are in seconds on the drawings."""
    shown = stats(row, LATENCY_STATS)
    series = _series(row.measurement, "latency")
    if not series or series[0].key not in arrays:
        timing_reason = row.measurement.timing_reason if row.measurement is not None else None
        if timing_reason is not None:
            return Latency(None, None, stats(row, COUNTED), timing_reason)
        return Latency(None, None, shown, NO_SERIES if series else "no latency series recorded")
    t_ns, values = arrays[series[0].key]
    seconds = np.asarray(values, dtype=np.float64)
    t_s = (np.asarray(t_ns, dtype=np.float64) - float(t_ns[0] if len(t_ns) else 0)) / 1e9
    sound = np.isfinite(seconds) & (seconds > 0)
    seconds, t_s = seconds[sound], t_s[sound]
    if not len(seconds):
        return Latency(None, None, shown, "the latency series is empty")
    marks = [
        (label, float(figure.value))
        for label in ("p50", "p99")
        if (figure := row.figures.get(f"latency_{label}_s")) is not None
        and figure.value is not None
        and seconds.min() <= figure.value <= seconds.max()
    ]
    median = next((value for label, value in marks if label == "p50"), None)
    return Latency(
        charts.histogram(f"{key}-h", seconds, marks, f"Latency distribution of {name}"),
        charts.timeline(f"{key}-l", t_s, seconds, median, f"Latency over time of {name}"),
        shown,
    )


def layers(measured: tuple[Layer, ...]) -> list[Bar]:
    """The slowest layers by mean time, cycles or instructions, and one line for all others."""
    ordered = sorted(measured, key=_cost, reverse=True)
    total = sum(_cost(layer) for layer in ordered) or 1.0
    top, rest = ordered[:TOP_LAYERS], ordered[TOP_LAYERS:]
    costs = [_cost(layer) for layer in top] + ([sum(map(_cost, rest))] if rest else [])
    longest = max(costs, default=0) or 1.0
    timed = all(layer.time_s is not None for layer in measured)
    per, unit = svg.time_unit(longest) if timed else (1.0, "")
    unit = unit or (
        "instructions" if any(m.instructions is not None for m in measured) else "cycles"
    )
    named = [(m.name, "" if m.op in m.name else m.op, "") for m in top]
    if rest:
        named.append((f"{len(rest)} others", "", "rest"))
    return [
        Bar(
            name,
            op,
            f"{cost / per:.3g} {unit}" if timed else f"{cost:,.0f} {unit}",
            charts.bar(cost / longest, kind),
            f"{100 * cost / total:.1f} %",
        )
        for (name, op, kind), cost in zip(named, costs, strict=True)
    ]


def _cost(layer: Layer) -> float:
    """What a layer takes, in the unit that its device has."""
    costs = (layer.time_s, layer.cycles, layer.instructions)
    return next((cost for cost in costs if cost is not None), 0.0)


def memory(row: Row, largest: float) -> list[Bar]:
    """Peak while loading, peak while running, and artifact size on the scale 0 to `largest`."""
    bars = []
    for kind, key in enumerate(("memory_load_peak_bytes", "memory_steady_bytes", "artifact_bytes")):
        figure = row.figures.get(key)
        if figure is None:
            continue
        stat = _stat(key, figure)
        drawing = charts.bar((figure.value or 0) / (largest or 1), f"m{kind}")
        bars.append(Bar(stat.label, "", stat.text, drawing, mark=stat.mark, reason=stat.reason))
    return bars


def power(key: str, name: str, row: Row, arrays: SeriesArrays) -> Power | None:
    """Power over time and its figures; None where no power figure has a value."""
    shown = stats(row, POWER_STATS)
    if all(stat.reason for stat in shown):
        return None
    return Power(_power_chart(key, name, row.measurement, arrays), shown)


def missed_power(row: Row) -> tuple[str, tuple[Missed, ...]]:
    """Why a row has no power, and the instruments that could not be had with their remedies."""
    figure = row.figures.get("power_w") or row.figures.get("energy_per_inference_j")
    reason = figure.reason if figure is not None and figure.reason else "power was not recorded"
    missed = row.measurement.missed if row.measurement is not None else ()
    # The reason lists the instruments in parentheses; they follow one by one, with remedies.
    return reason.partition(" (")[0] if missed else reason, missed


def _power_chart(
    key: str, name: str, measurement: Measurement | None, arrays: SeriesArrays
) -> Markup | None:
    sensors = [*_series(measurement, "power"), *_series(measurement, "energy")]
    sensors = [s for s in sensors if s.key in arrays and len(arrays[s.key][0]) > 1]
    sensors = [s for s in sensors if s.total] or sensors
    if not sensors or measurement is None:
        return None
    clock = sensors[0].clock
    sensors = [s for s in sensors if s.clock == clock][:3]
    windows = [w for w in measurement.windows if w.clock == clock]
    starts = [float(arrays[s.key][0][0]) for s in sensors] + [float(w.start_ns) for w in windows]
    zero = min(starts)
    phases = [
        charts.Phase(w.phase, (w.start_ns - zero) / 1e9, (w.end_ns - zero) / 1e9) for w in windows
    ]
    traces = [
        (f"{s.instrument} {s.scope}", t, watts)
        for s in sensors
        for t, watts in [_watts(s, *arrays[s.key], zero)]
        if len(watts)
    ]
    return charts.power(key, traces, phases, f"Power over time of {name}") if traces else None


def _watts(series: Series, t_ns: Array, values: Array, zero_ns: float) -> tuple[Array, Array]:
    """Seconds and watts; an energy counter gives the mean power between two of its readings."""
    t = (np.asarray(t_ns, dtype=np.float64) - zero_ns) / 1e9
    numbers = np.asarray(values, dtype=np.float64)
    sound = np.isfinite(numbers)
    t, numbers = t[sound], numbers[sound]
    if series.quantity == "power":
        return t, numbers
    # a counter may be read more often than it moves
    moved = np.concatenate(([True], np.diff(numbers) != 0)) if len(numbers) else sound[:0]
    t, numbers = t[moved], numbers[moved]
    gained, elapsed = np.diff(numbers), np.diff(t)
    if series.counter_range:
        gained = np.where(gained < 0, gained + series.counter_range, gained)
    known = elapsed > 0
    return t[1:][known], gained[known] / elapsed[known]


def _series(measurement: Measurement | None, quantity: str) -> list[Series]:
    found = measurement.series if measurement is not None else ()
    return [series for series in found if series.quantity == quantity]
