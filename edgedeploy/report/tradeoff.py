"""The chart of accuracy against latency with its Pareto front, as inline SVG."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from edgedeploy.records import Source
from edgedeploy.report import svg
from edgedeploy.report.text import SUPERSCRIPTS, count_of

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
    ticks = svg.labelled_ticks(x, 6 if width < 500 else 10, per)
    drawn = svg.left_axis(y, x.start, x.end, svg.labelled_ticks(y, 5, 1.0))
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
    above_right = (px + 7, py - 8, "start")
    above, below = (px, py - 9, "middle"), (px, py + 18, "middle")
    others = (above, below, above_right, (px - 7, py + 16, "end"))
    sides = (right, left_of, below_right, above_left)
    # The front's line leaves a point to the right and downwards.
    free = (below_right, above_left, above_right, left_of, right)
    first = free if point.on_front else sides
    for left, base, anchor in (*first, *others):
        start = left - {"start": 0.0, "middle": span / 2, "end": span}[anchor]
        box = _Box(start, base - LABEL_PX + 3, start + span, base + 3)
        inside = x.start < box.left and box.right < width and y.end - 12 < box.top < y.start - 12
        if inside and not any(box.meets(other) for other in boxes):
            boxes.append(box)
            return svg.text(left, base, name, "label" if point.on_front else "label dim", anchor)
    return Markup("")
