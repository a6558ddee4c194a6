"""SVG written by hand: escaped elements, scales with round ticks, axes."""

import itertools
import math
from typing import NamedTuple

from markupsafe import Markup, escape

from edgedeploy.report.text import MINUS, printable

TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "\N{MICRO SIGN}s"), (1e-9, "ns"))
# Mean advance of a digit or small letter at the charts' 11 px; labels are placed by it.
CHARACTER_PX = 6.0
# Data closer together than this share of itself are drawn as one value.
SAME = 1e-6


class Scale(NamedTuple):
    """Maps data from `low` to `high` onto pixels from `start` to `end`, in logarithm if `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of `value`."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """About `count` round values within the scale, rising."""
        if self.log:
            found = _log_ticks(self.low, self.high, count)
            if len(found) >= 3:
                return found
        return _linear_ticks(self.low, self.high, count)


def scale_over(
    low: float, high: float, start: float, end: float, *, log: bool, margin: float = 0.04
) -> Scale:
    """A scale with `margin` times the data's extent on both sides of it, never of zero extent."""
    apart = high - low > SAME * abs(high)
    if log:
        factor = (high / low) ** margin if apart else 1.2
        return Scale(low / factor, high * factor, start, end, log=True)
    added = (high - low) * margin if apart else abs(high) * 0.1 or 1.0
    return Scale(low - added, high + added, start, end)


def wide_range(low: float, high: float, ratio: float = 8.0) -> bool:
    """Whether data spans so much that a logarithmic scale shows it better."""
    return low > 0 and high / low > ratio


def _linear_ticks(low: float, high: float, count: int) -> list[float]:
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12 - math.floor(math.log10(step))) for k in range(first, last + 1)]


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**d for d in decades for m in multiples if low <= m * 10.0**d <= high]
        if len(found) <= count + 1:
            return found
    return found[:: math.ceil(len(found) / count)]


def time_unit(seconds: float) -> tuple[float, str]:
    """The unit in which a time of this size reads best, as (seconds in it, name)."""
    return next((u for u in TIME_UNITS if abs(seconds) >= u[0]), TIME_UNITS[-1])


def numbers(values: list[float]) -> list[str]:
    """Tick labels: on an even grid all with as many decimals as the one that needs the most."""
    shown = [number(value) for value in values]
    steps = [b - a for a, b in itertools.pairwise(values)]
    even = not steps or max(steps) - min(steps) < 1e-6 * max(steps)
    if not even or any("e" in text for text in shown):
        return shown
    decimals = max((len(text.partition(".")[2]) for text in shown), default=0)
    return [f"{value:,.{decimals}f}".replace("-", MINUS) for value in values]


def labelled_ticks(scale: Scale, count: int, per: float) -> list[tuple[float, str]]:
    """Ticks of a scale with their labels in units of `per`."""
    values = scale.ticks(count)
    return list(zip(values, numbers([value / per for value in values]), strict=True))


def number(value: float) -> str:
    """A tick's number: as short as it goes, with a true minus sign."""
    text = f"{value:.6g}"
    if "e" not in text:
        whole, _, rest = text.partition(".")
        text = f"{int(whole):,}{'.' + rest if rest else ''}" if whole != "-0" else text
    return text.replace("-", MINUS)


def element(tag: str, content: Markup | str = "", **attributes: str | float) -> Markup:
    """An element; everything that is not Markup is escaped, coordinates are rounded to 0.1."""
    parts = [f"<{tag}"]
    for name, value in attributes.items():
        if isinstance(value, float | int):
            shown = f"{value:.1f}".removesuffix(".0")
        else:
            shown = str(escape(printable(value)))
        parts.append(f' {name.rstrip("_").replace("_", "-")}="{shown}"')
    inner = content if isinstance(content, Markup) else escape(printable(content))
    parts.append(f">{inner}</{tag}>" if inner else "/>")
    return Markup("".join(parts))


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> Markup:
    """A label with its baseline at (x, y)."""
    attributes: dict[str, str | float] = {"x": x, "y": y}
    if anchor != "start":
        attributes["text_anchor"] = anchor
    if class_:
        attributes["class"] = class_
    return element("text", content, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def figure(
    key: str, size: tuple[float, float], title: str, description: str, content: list[Markup]
) -> Markup:
    """A drawing with a title and description for screen readers; `key` is unique on the page."""
    width, height = size
    return element(
        "svg",
        Markup("").join(
            [
                element("title", title or "chart", id=f"{key}-t"),
                element("desc", description or title, id=f"{key}-d"),
                *content,
            ]
        ),
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
        class_="chart",
        aria_labelledby=f"{key}-t {key}-d",
    )


def bottom_axis(scale: Scale, y: float, ticks: list[tuple[float, str]], title: str) -> list[Markup]:
    """A horizontal axis at `y`, labels below it, the title below these at the right."""
    drawn = [line(scale.start, y, scale.end, y, "axis")]
    right = -math.inf
    for value, label in ticks:
        x, half = scale(value), len(label) * CHARACTER_PX / 2
        if x - half < right + 6:
            continue
        drawn.append(line(x, y, x, y + 4, "axis"))
        drawn.append(text(x, y + 15, label, "tick", "middle"))
        right = x + half
    drawn.append(text(scale.end, y + 29, title, "axis-title", "end"))
    return drawn


def left_axis(scale: Scale, x: float, right: float, ticks: list[tuple[float, str]]) -> list[Markup]:
    """Horizontal grid lines from `x` to `right` with labels left of them."""
    drawn: list[Markup] = []
    for value, label in ticks:
        y = scale(value)
        drawn.append(line(x, y, right, y, "grid"))
        drawn.append(text(x - 6, y + 4, label, "tick", "end"))
    return drawn
