"""Charts of one row as inline SVG: latency distribution, time series, power, bars."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from edgedeploy.report import svg
from edgedeploy.report.decimate import min_max
from edgedeploy.report.text import count_of

Array = NDArray[Any]

CARD_WIDTH = 360
HISTOGRAM_BINS = 64
# The histogram's axis ends this many times the distance from p50 to p99 beyond p50; what lies
# farther out is drawn as one bar that says how many samples it holds, and up to where.
TAIL_BEYOND_P99 = 2.0
TIMELINE_BINS = 300


class Phase(NamedTuple):
    """A stretch of a power chart: its name, start and end in seconds of the chart's axis."""

    name: str
    start_s: float
    end_s: float


def histogram(key: str, values: Array, marks: Sequence[tuple[str, float]], title: str) -> Markup:
    """How often each latency occurred, in seconds; `marks` are percentiles drawn as lines.

    A long tail would press the body into a few bins: samples beyond the axis are counted in a bar
    of their own at its end, in another colour. Any bin with a sample is at least a pixel high.
    """
    width, height = CARD_WIDTH, 172
    low, middle, high = float(np.min(values)), float(np.median(values)), float(np.max(values))
    end = middle + (1 + TAIL_BEYOND_P99) * (float(np.quantile(values, 0.99)) - middle)
    end = high if high <= end or end <= low else end
    beyond = int(np.count_nonzero(values > end))
    right = width - 12 if not beyond else width - 40
    log = svg.wide_range(low, end)
    x = svg.scale_over(low, end, 12, right, log=log)
    body, limits = values[values <= end], (x.low, x.high)
    if log:
        body, limits = np.log(body), (math.log(x.low), math.log(x.high))
    counts, edges = np.histogram(body, bins=HISTOGRAM_BINS, range=limits)
    bounds = [x(float(edge)) for edge in (np.exp(edges) if log else edges)]
    bottom, top = height - 38, 38
    unit_px = (bottom - top) / max(int(counts.max()), beyond)
    per, unit = svg.time_unit(middle)
    drawn = [_columns(bounds, counts.tolist(), bottom, unit_px)]
    drawn += svg.bottom_axis(
        x, bottom, svg.labelled_ticks(x, 5, per), f"latency, {unit}{' (log)' if log else ''}"
    )
    if beyond:
        size = max(1.0, unit_px * beyond)
        drawn.append(
            svg.element("path", d=_column(width - 28, width - 16, bottom, size), class_="tail")
        )
        told = f"{beyond:,} more up to {_short(high, per, unit)}"
        drawn.append(svg.text(width - 12, bottom - size - 6, told, "label dim", "end"))
    for row, (name, value) in enumerate(mark for mark in marks if mark[1] <= end):
        at, base = x(value), 12 + 13 * row
        drawn.append(svg.line(at, base - 8, at, bottom, "percentile"))
        flip = at > width - 100
        shown = f"{name} {_short(value, per, unit)}"
        drawn.append(svg.text(at - 4 if flip else at + 4, base, shown, "label", _end(flip)))
    told = ", ".join(f"{name} {_short(value, per, unit)}" for name, value in marks)
    tail = f"; {beyond:,} beyond the axis, up to {_short(high, per, unit)}" if beyond else ""
    description = f"{count_of(len(values), 'sample')}; {told}{tail}"
    return svg.figure(key, (width, height), title, description, drawn)


def _columns(bounds: list[float], counts: list[int], bottom: float, unit_px: float) -> Markup:
    path = [
        _column(bounds[i], bounds[i + 1] - 0.4, bottom, max(1.0, unit_px * count))
        for i, count in enumerate(counts)
        if count
    ]
    return svg.element("path", d="".join(path), class_="bars")


def _column(left: float, right: float, bottom: float, size: float) -> str:
    return f"M{left:.1f} {bottom:.1f}V{bottom - size:.1f}H{right:.1f}V{bottom:.1f}Z"


def _short(seconds: float, per: float, unit: str) -> str:
    """Three significant digits or more in the chart's unit."""
    value = seconds / per
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def _end(flip: bool) -> str:
    return "end" if flip else "start"


def timeline(key: str, t_s: Array, values: Array, median: float | None, title: str) -> Markup:
    """Latency over time: per bin a stroke from its least to its greatest value, all in seconds."""
    width, height = CARD_WIDTH, 140
    low, high = float(np.min(values)), float(np.max(values))
    log = svg.wide_range(low, high)
    y = svg.scale_over(low, high, height - 38, 18, log=log)
    end = max(float(t_s[-1]), 1e-9)
    x = svg.Scale(0.0, end, 46, width - 10)
    per, unit = svg.time_unit(high if not log else float(np.median(values)))
    drawn = svg.left_axis(y, x.start, x.end, svg.labelled_ticks(y, 3, per))
    per_x, unit_x = svg.time_unit(end)
    drawn += svg.bottom_axis(x, y.start, svg.labelled_ticks(x, 5, per_x), f"time, {unit_x}")
    drawn.append(svg.text(4, 10, f"latency, {unit}{' (log)' if log else ''}", "axis-title"))
    drawn.append(_trace(x, y, t_s, values, "trace"))
    if median is not None and low <= median <= high:
        drawn.append(svg.line(x.start, y(median), x.end, y(median), "percentile"))
    description = f"{count_of(len(values), 'sample')} over {svg.number(end / per_x)} {unit_x}"
    return svg.figure(key, (width, height), title, description, drawn)


def power(
    key: str, traces: Sequence[tuple[str, Array, Array]], phases: Sequence[Phase], title: str
) -> Markup:
    """Power over time in watts: traces are (name, t in seconds, values); phases are shaded."""
    width, height = CARD_WIDTH, 190
    highest = max(float(np.max(values)) for _, _, values in traces)
    end = max([1e-9, *(float(t[-1]) for _, t, _ in traces), *(p.end_s for p in phases)])
    x = svg.Scale(0.0, end, 46, width - 10)
    y = svg.Scale(0.0, highest * 1.08 or 1.0, height - 38, 52)
    drawn = _phases(x, phases, y.end - 8, y.start)
    drawn += svg.left_axis(y, x.start, x.end, svg.labelled_ticks(y, 4, 1.0))
    drawn += svg.bottom_axis(x, y.start, svg.labelled_ticks(x, 6, 1.0), "time, s")
    drawn.append(svg.text(4, 12, "power, W", "axis-title"))
    for index, (_, t, values) in enumerate(traces):
        drawn.append(_trace(x, y, np.maximum(t, 0.0), values, f"trace t{index % 3}"))
    names = ", ".join(name for name, _, _ in traces)
    return svg.figure(key, (width, height), title, f"{names}; peak {highest:.3g} W", drawn)


def _trace(x: svg.Scale, y: svg.Scale, t: Array, values: Array, class_: str) -> Markup:
    """A line through the least and greatest value of each bin."""
    bins = min_max(t, values, TIMELINE_BINS)
    triples = zip(bins.t.tolist(), bins.low.tolist(), bins.high.tolist(), strict=True)
    path = "".join(f"L{x(at):.1f} {y(a):.1f}V{y(b):.1f}" for at, a, b in triples)
    return svg.element("path", d=f"M{path[1:]}", class_=class_)


def _phases(x: svg.Scale, phases: Sequence[Phase], top: float, bottom: float) -> list[Markup]:
    """Every other phase shaded; names above, on two lines in turn so that short ones fit."""
    drawn: list[Markup] = []
    ends = [0.0, 0.0]
    for index, phase in enumerate(phases):
        left, right = x(max(0.0, phase.start_s)), x(phase.end_s)
        span = max(0.0, right - left)
        shade = f"phase p{index % 2}"
        drawn.append(
            svg.element("rect", x=left, y=top, width=span, height=bottom - top, class_=shade)
        )
        name = phase.name.replace("_", " ")
        half = len(name) * svg.CHARACTER_PX / 2
        middle = min((left + right) / 2, x.end - half)
        if middle - half > ends[index % 2]:
            drawn.append(svg.text(middle, top - 16 + 12 * (index % 2), name, "tick", "middle"))
            ends[index % 2] = middle + half + 4
    return drawn


def bar(share: float, class_: str = "") -> Markup:
    """A bar as wide as its `share` (0 to 1) of what holds it; the text beside it says how much."""
    part = min(1.0, max(0.0, share)) if math.isfinite(share) else 0.0
    # What is not nothing stays visible.
    percent = f"{max(0.6, 100 * part) if part else 0:.2f}%"
    filled = svg.element("rect", width=percent, height="100%", class_=f"bar {class_}".strip())
    return svg.element("svg", filled, class_="barbox", aria_hidden="true")
