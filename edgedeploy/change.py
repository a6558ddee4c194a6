"""How accuracy and energy changed between two sides of runs of the same target and precision."""

import math
import re
import statistics
from collections.abc import Sequence

from msgspec import structs

from edgedeploy.figures import ENERGY
from edgedeploy.records import Accuracy, Record, Row

SIDES = ("baseline", "candidate")


class AccuracyChange(Record):
    """`delta` is candidate minus baseline in the metric's unit, `delta_error` its standard error.

    Each side's accuracy is the median of its runs'. `reason` says why there is no delta.
    """

    metric: str | None = None
    unit: str | None = None
    baseline: float | None = None
    candidate: float | None = None
    delta: float | None = None
    delta_error: float | None = None
    reason: str | None = None


class EnergyChange(Record):
    """Energy an inference, the median of each side's runs; `ratio` is candidate over baseline."""

    baseline_j: float | None = None
    candidate_j: float | None = None
    ratio: float | None = None
    reason: str | None = None


def accuracy_change(baseline: Sequence[Row], candidate: Sequence[Row]) -> AccuracyChange:
    """Accuracy of two sides, compared where metric, sample count and source are alike.

    The standard error takes the two sides as independent samples; on one evaluation set they are
    not, and the true error is smaller.
    """
    found = [[m.accuracy for r in side if (m := r.measurement)] for side in (baseline, candidate)]
    had = [[a for a in side if a is not None and a.value is not None] for side in found]
    first, second = (median([a.value for a in side]) for side in had)
    known = [a for side in had for a in side]
    change = AccuracyChange(
        metric=known[0].metric if known else None,
        unit=known[0].unit if known else None,
        baseline=first,
        candidate=second,
    )
    kinds = list(dict.fromkeys(f"{a.metric} of {a.count} samples, {a.source}" for a in known))
    if first is None or second is None:
        lacking = [name for name, side in zip(SIDES, had, strict=True) if not side]
        reasons = [f": {a.reason}" for side in found for a in side if a is not None and a.reason]
        reason = f"no accuracy of the {' and '.join(lacking)}{''.join(reasons[:1])}"
        return _replace(change, reason=reason)
    if len(kinds) > 1:
        return _replace(change, reason=f"unlike accuracies: {'; '.join(kinds)}")
    error = _binomial_error(known[0], first, second)
    return _replace(change, delta=second - first, delta_error=error)


def energy_change(
    baseline: Sequence[Row], candidate: Sequence[Row], unlike: str = ""
) -> EnergyChange:
    """Energy of two sides; no ratio where `unlike` says why they may not be compared."""
    figures = [
        [r.figures[ENERGY] for r in side if ENERGY in r.figures] for side in (baseline, candidate)
    ]
    first, second = (median([f.value for f in side]) for side in figures)
    if unlike:
        return EnergyChange(baseline_j=first, candidate_j=second, reason=unlike)
    if first and second is not None:
        return EnergyChange(baseline_j=first, candidate_j=second, ratio=second / first)
    lacking = 0 if not first else 1
    reasons = [f": {f.reason}" for f in figures[lacking] if f.reason]
    reason = f"no energy of the {SIDES[lacking]}{''.join(reasons[:1])}"
    return EnergyChange(baseline_j=first, candidate_j=second, reason=reason)


def median(values: Sequence[float | int | None]) -> float | None:
    """The median of what is not None; None of nothing."""
    had = [float(v) for v in values if v is not None]
    return statistics.median(had) if had else None


def _replace(change: AccuracyChange, **fields: float | str | None) -> AccuracyChange:
    return structs.replace(change, **fields)


def _binomial_error(accuracy: Accuracy, first: float, second: float) -> float | None:
    """Standard error of the difference of two shares of right answers; None of other metrics."""
    share = accuracy.unit == "1" and re.fullmatch(r"accuracy|top[-_]?\d+", accuracy.metric)
    if not share or not accuracy.count or not (0 <= first <= 1 and 0 <= second <= 1):
        return None
    return math.sqrt((first * (1 - first) + second * (1 - second)) / accuracy.count)
