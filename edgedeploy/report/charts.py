"""The charts of the HTML page as inline SVG: trade-off, distribution, time series, power, bars."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from edgedeploy.records import Source
from edgedeploy.report import svg
from edgedeploy.report.decimate import min_max
from edgedeploy.report.text import SUPERSCRIPTS, count_of

Array = NDArray[Any]

CARD_WIDTH = 360
HISTOGRAM_BINS = 64
# The histogram's axis ends this many times the distance from p50 to p99 beyond p50; what lies
# farther out is drawn as one bar that says how many samples it holds, and up to where.
TAIL_BEYOND_P99 = 2.0
TIMELINE_BINS = 300
LABEL_LIMIT = 24
LABEL_PX = 14
COVERED_PX = 3


class Point(NamedTuple):
    """A row in the trade-off of accuracy against latency."""

    name: str
    latency_s: float
    accuracy: float
    source: Source
    on_front: bool
    shown: str


class Phase(NamedTuple):
    """A stretch of a power chart: its name, start and end in seconds of the chart's axis."""

    name: str
    start_s: float
    end_s: float


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "_Box") -> bool:
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.bottom <= other.top or other.bottom <= self.top)


def tradeoff(
    key: str, points: Sequence[Point], title: str, unit: str, *, width: float, height: float
) -> Markup:
    """Accuracy (up) against p50 latency (right, logarithmic where it spans much).

    The front is a stepped line through filled marks; other rows are hollow. Of marks that cover
    each other one is drawn, so any number of rows makes a chart of bounded size.
    """
    latencies = [p.latency_s for p in points]
    accuracies = [p.accuracy for p in points]
    log = svg.wide_range(min(latencies), max(latencies), 4)
    x = svg.scale_over(min(latencies), max(latencies), 58, width - 14, log=log, margin=0.09)
    y = svg.scale_over(min(accuracies), max(accuracies), height - 40, 26, log=False)
    per, name = svg.time_unit(max(latencies))
    ticks = _ticks(x, 6 if width < 500 else 10, per)
    drawn = svg.left_axis(y, x.start, x.end, _ticks(y, 5, 1.0))
    drawn += svg.bottom_axis(x, y.start, ticks, f"p50 latency, {name}{' (log)' if log else ''}")
    drawn.append(svg.text(4, 13, f"{title}{f', {unit}' if unit else ''}", "axis-title"))
    front = [p for p in points if p.on_front]
    drawn.append(_stairs(x, y, front))
    seen: set[tuple[int, int]] = set()
    boxes: list[_Box] = []
    rest: list[Point] = []
    for point in [*front, *(p for p in points if not p.on_front)]:
        at, up = x(point.latency_s), y(point.accuracy)
        place = (round(at / COVERED_PX), round(up / COVERED_PX))
        if point.on_front or place not in seen:
            seen.add(place)
            boxes.append(_Box(at - 5, up - 5, at + 5, up + 5))
            rest.append(point)
    mixed = len({p.source for p in points}) > 1
    drawn += [_mark(x(p.latency_s), y(p.accuracy), p) for p in reversed(rest)]
    labelled = rest if len(points) <= LABEL_LIMIT else [p for p in rest if p.on_front]
    for point in labelled[:LABEL_LIMIT]:
        drawn.append(_label(x, y, point, boxes, width, mixed=mixed))
    described = f"{count_of(len(points), 'row')}; on the Pareto front: " + "; ".join(
        p.shown for p in front[:LABEL_LIMIT]
    )
    return svg.figure(key, (width, height), f"{title} against p50 latency", described, drawn)


def _stairs(x: svg.Scale, y: svg.Scale, front: list[Point]) -> Markup:
    """The boundary of what is dominated: from each front point right, then up to the next."""
    path = []
    for index, point in enumerate(front):
        px, py = x(point.latency_s), y(point.accuracy)
        path.append(f"M{px:.1f} {py:.1f}" if index == 0 else f"H{px:.1f}V{py:.1f}")
    if path:
        path.append(f"H{x.end:.1f}")
    return svg.element("path", d="".join(path), class_="front")


def _mark(x: float, y: float, point: Point) -> Markup:
    """Circle measured, square emulated, triangle estimated, diamond published."""
    class_ = "mark on-front" if point.on_front else "mark"
    tip = svg.element("title", point.shown)
    if point.source == "measured":
        return svg.element("circle", tip, cx=x, cy=y, r=4.5, class_=class_)
    shapes: dict[Source, str] = {
        "emulated": "M-4 -4H4V4H-4Z",
        "estimated": "M0 -5.5L5 4H-5Z",
        "published": "M0 -6L6 0L0 6L-6 0Z",
        "measured": "",
    }
    move = f"translate({x:.1f} {y:.1f})"
    return svg.element("path", tip, d=shapes[point.source], transform=move, class_=class_)


def _label(
    x: svg.Scale, y: svg.Scale, point: Point, boxes: list[_Box], width: float, *, mixed: bool
) -> Markup:
    """The point's name where it covers nothing yet: right, left, above, below; else nothing."""
    name = point.name + (SUPERSCRIPTS[point.source] if mixed else "")
    name = name if len(name) <= 32 else f"{name[:31]}…"
    px, py, span = x(point.latency_s), y(point.accuracy), len(name) * svg.CHARACTER_PX
    below_right, above_left = (px + 7, py + 16, "start"), (px - 7, py - 8, "end")
    right, left_of = (px + 9, py + 4, "start"), (px - 9, py + 4, "end")
    above, below = (px, py - 9, "middle"), (px, py + 18, "middle")
    others = (above, below, (px + 7, py - 8, "start"), (px - 7, py + 16, "end"))
    sides = (right, left_of, below_right, above_left)
    # The front's line leaves a point to the right and downwards.
    first = (below_right, above_left, left_of, right) if point.on_front else sides
    for left, base, anchor in (*first, *others):
        start = left - {"start": 0.0, "middle": span / 2, "end": span}[anchor]
        box = _Box(start, base - LABEL_PX + 3, start + span, base + 3)
        inside = x.start < box.left and box.right < width and y.end - 12 < box.top < y.start - 12
        if inside and not any(box.meets(other) for other in boxes):
            boxes.append(box)
            return svg.text(left, base, name, "label" if point.on_front else "label dim", anchor)
    return Markup("")


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
    spread = np.log(values[values <= end]) if log else values[values <= end]
    counts, edges = np.histogram(spread, bins=HISTOGRAM_BINS)
    bounds = [x(float(edge)) for edge in (np.exp(edges) if log else edges)]
    bottom, top = height - 38, 38
    unit_px = (bottom - top) / max(int(counts.max()), beyond)
    per, unit = svg.time_unit(middle)
    drawn = [_columns(bounds, counts.tolist(), bottom, unit_px)]
    drawn += svg.bottom_axis(
        x, bottom, _ticks(x, 5, per), f"latency, {unit}{' (log)' if log else ''}"
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
    drawn = svg.left_axis(y, x.start, x.end, _ticks(y, 3, per))
    per_x, unit_x = svg.time_unit(end)
    drawn += svg.bottom_axis(x, y.start, _ticks(x, 5, per_x), f"time, {unit_x}")
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
    drawn += svg.left_axis(y, x.start, x.end, _ticks(y, 4, 1.0))
    drawn += svg.bottom_axis(x, y.start, _ticks(x, 6, 1.0), "time, s")
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


def _ticks(scale: svg.Scale, count: int, per: float) -> list[tuple[float, str]]:
    """Ticks with labels in units of `per`."""
    values = scale.ticks(count)
    return list(zip(values, svg.numbers([value / per for value in values]), strict=True))


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
