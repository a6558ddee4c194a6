"""Energy over a window of a measurement, from power samples or from a counter that wraps."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Key of a Series to its times, in ns of its clock, and its values in SI units.
RawSeries = Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]

# A window shorter than this many updates of its sensor mostly shows where the updates fell. What a
# counter went up by is only known to a step at each end, where power samples are a mean of many.
PERIODS_NEEDED = {"power": 10, "energy": 100}
# The part of a window that the counter's edges in it must span.
SPANNED_PART = 0.9
# How long samples may be missing: the larger of this many usual spacings and this part of a window.
GAP_SPACINGS = 5
GAP_PART = 0.05
# How far outside the samples a window's edge may lie, in usual spacings, the nearest value held.
EDGE_SPACINGS = 1.5
FEWEST_INSIDE = 2


class Reading(NamedTuple):
    """A figure read off a series, or why it is not to be had; exactly one of the two is None."""

    value: float | None
    reason: str | None = None


def trapezoid_energy(
    t_ns: NDArray[np.int64], power_w: NDArray[np.float64], start_ns: int, end_ns: int
) -> Reading:
    """Energy in J of power samples over [start_ns, end_ns], by trapezoids.

    Power at the edges is interpolated between the samples around them. No value when fewer than
    two samples lie inside, when samples are missing (NaN counts as missing) for longer than
    5 usual spacings and 5 % of the window, or when the window reaches beyond the samples.
    """
    known = np.isfinite(power_w)
    t_s, power = (t_ns[known] - start_ns) / 1e9, power_w[known]
    length_s = (end_ns - start_ns) / 1e9
    reason = _uncovered(t_s, length_s) or _gap(t_s, (0.0, length_s), length_s)
    if reason:
        return Reading(None, reason)
    inside = (t_s > 0) & (t_s < length_s)
    if np.count_nonzero(inside) < FEWEST_INSIDE:
        count = np.count_nonzero(inside)
        return Reading(None, f"{count} power samples lie in the window, 2 are needed")
    at_s = np.concatenate(([0.0], t_s[inside], [length_s]))
    at_w = np.interp(at_s, t_s, power)
    return Reading(float(np.sum(np.diff(at_s) * (at_w[1:] + at_w[:-1]) / 2)))


def counter_delta(
    t_ns: NDArray[np.int64],
    values: NDArray[np.float64],
    start_ns: int,
    end_ns: int,
    counter_range: float | None,
) -> Reading:
    """How far a counter went up over [start_ns, end_ns], in its unit, wraps undone.

    A counter moves in steps, and tells nothing between two of them. So the window is aligned to
    its edges, the readings at which it had moved: what it went up from the first edge at or after
    the start to the last at or before the end, times the window's length over the time between
    these two edges. (The same as to share the inferences in proportion to time.) What is left out
    at each end is less than one step's time; there the mean rate is taken, not that of the step.
    An edge is seen late by less than the time between two readings.

    `counter_range` is the value at which it starts again from 0. However many times it wraps, each
    wrap is seen as long as it is polled more often than twice a wrap. Readings missing within the
    window do no harm. No value when between two readings it moved, or at its usual rate would have
    moved, over half the range (a wrap may be missed), when it fell and has no range (it was reset),
    when readings are missing at the window's edges, or when its edges span under 90 % of it.
    """
    known = np.isfinite(values)
    t_s, count = (t_ns[known] - start_ns) / 1e9, values[known]
    length_s = (end_ns - start_ns) / 1e9
    reason = _uncovered(t_s, length_s) or _gap_at_edges(t_s, length_s)
    if reason:
        return Reading(None, reason)
    steps = np.diff(count)
    if counter_range is None:
        if np.any(steps < 0):
            return Reading(None, "the energy counter fell and has no range to wrap at: a reset")
    else:
        steps = np.where(steps < 0, steps + counter_range, steps)
        reason = _wrap_missed(np.diff(t_s), steps, counter_range)
        if reason:
            return Reading(None, reason)
    total = np.cumsum(steps)
    edges = _edges(t_s, count, length_s)
    if len(edges) == 0:
        return Reading(None, "the energy counter did not move in the window")
    first, last = edges[0], edges[-1]
    between_s = float(t_s[last + 1] - t_s[first + 1])
    if between_s < SPANNED_PART * length_s:
        return Reading(
            None,
            f"the energy counter moved over {between_s:.3g} s of the window of {length_s:.3g} s",
        )
    return Reading(float(total[last] - total[first]) * length_s / between_s)


def counter_period_s(
    t_ns: NDArray[np.int64],
    values: NDArray[np.float64],
    start_ns: int,
    end_ns: int,
    declared_s: float | None,
) -> float | None:
    """Mean seconds between a counter's edges within a window, and never less than declared.

    Where it is polled more seldom than it moves, that is the time between readings. None of under
    two edges.
    """
    known = np.isfinite(values)
    t_s = (t_ns[known] - start_ns) / 1e9
    edges = _edges(t_s, values[known], (end_ns - start_ns) / 1e9)
    if len(edges) < FEWEST_INSIDE:
        return None
    at_s = t_s[edges + 1]
    return max(float(at_s[-1] - at_s[0]) / (len(edges) - 1), declared_s or 0.0)


def update_period_s(
    t_ns: NDArray[np.int64], values: NDArray[np.float64], declared_s: float | None
) -> float | None:
    """Seconds between the values of a sensor of power: as declared, else between changed readings.

    Never less than the usual time between readings; None of under two readings.
    """
    known = np.isfinite(values)
    t, v = t_ns[known], values[known]
    if len(t) < FEWEST_INSIDE:
        return None
    spacing_s = float(np.median(np.diff(t))) / 1e9
    moved = t[1:][np.diff(v) != 0]
    if declared_s is None and len(moved) > 1:
        declared_s = float(np.median(np.diff(moved))) / 1e9
    return max(spacing_s, declared_s or 0.0)


def window_needed_s(quantity: str, period_s: float | None, window_s: float | None = None) -> float:
    """The shortest window in s that gives an energy: of a sensor of `quantity` ("energy", a
    counter, or "power") that updates every `period_s`, and whose program asks for `window_s`.
    """
    return max(PERIODS_NEEDED.get(quantity, 0) * (period_s or 0.0), window_s or 0.0)


def too_short(
    start_ns: int,
    end_ns: int,
    period_s: float | None,
    quantity: str = "power",
    window_s: float | None = None,
) -> str | None:
    """Why a window is too short for a sensor that updates every `period_s`; None if it is not."""
    length_s = (end_ns - start_ns) / 1e9
    needed_s = window_needed_s(quantity, period_s, window_s)
    # Clock readings are whole nanoseconds: a window of exactly ten periods must pass.
    if length_s >= needed_s * (1 - 1e-9):
        return None
    if period_s is None or length_s >= window_needed_s(quantity, period_s) * (1 - 1e-9):
        return (
            f"the window has {length_s:.3g} s, and this sensor's mean can be relied on over"
            f" {needed_s:.3g} s or more: lengthen it to {needed_s:.3g} s"
        )
    return (
        f"the window of {length_s:.3g} s spans {length_s / period_s:.1f} updates of the sensor"
        f" (one every {period_s:.3g} s), {PERIODS_NEEDED[quantity]} are needed: lengthen it to"
        f" {needed_s:.3g} s"
    )


def _edges(
    t_s: NDArray[np.float64], count: NDArray[np.float64], length_s: float
) -> NDArray[np.intp]:
    """Which steps between readings, by their number, end within a window and moved the counter."""
    at_s = t_s[1:]
    found: NDArray[np.intp] = np.flatnonzero(
        (np.diff(count) != 0) & (at_s >= 0) & (at_s <= length_s)
    )
    return found


def _uncovered(t_s: NDArray[np.float64], length_s: float) -> str | None:
    """Why readings at `t_s`, seconds after a window's start, do not reach over it; else None."""
    if length_s <= 0:
        return f"the window is {length_s:g} s long"
    if len(t_s) < FEWEST_INSIDE:
        return f"the sensor gave {len(t_s)} readings in all, {FEWEST_INSIDE} are needed"
    spacings = np.diff(t_s)
    if np.any(spacings < 0):
        return "the readings' times go backwards"
    usual = float(np.median(spacings))
    outside = max(float(t_s[0]), length_s - float(t_s[-1]))
    if outside > EDGE_SPACINGS * usual:
        return f"{outside:.3g} s at the window's edge have no readings (one every {usual:.3g} s)"
    return None


def _gap(t_s: NDArray[np.float64], part: tuple[float, float], length_s: float) -> str | None:
    """Why readings are too far apart somewhere in `part` of a window; None if they are not."""
    spacings = np.diff(t_s)
    usual = float(np.median(spacings))
    gap = float(np.max(spacings[(t_s[1:] > part[0]) & (t_s[:-1] < part[1])], initial=0.0))
    if gap > max(GAP_SPACINGS * usual, GAP_PART * length_s):
        return f"readings are missing for {gap:.3g} s of the window (one every {usual:.3g} s)"
    return None


def _gap_at_edges(t_s: NDArray[np.float64], length_s: float) -> str | None:
    return _gap(t_s, (0.0, 0.0), length_s) or _gap(t_s, (length_s, length_s), length_s)


def _wrap_missed(
    spacings_s: NDArray[np.float64], steps: NDArray[np.float64], counter_range: float
) -> str | None:
    """Why a counter may have wrapped unseen; None if it was polled often enough."""
    timed = spacings_s > 0
    rates = steps[timed] / spacings_s[timed]
    expected = float(np.median(rates)) * float(np.max(spacings_s)) if len(rates) else 0.0
    most = max(float(np.max(steps)), expected)
    if most <= counter_range / 2 and np.all(steps >= 0):
        return None
    return (
        f"the energy counter moves by {most:g} between two readings, over half of its range of"
        f" {counter_range:g}: a wrap may have been missed; poll it more often"
    )
