"""How what a device counts in one inference changed: instructions and cycles, side against side."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from edgedeploy.records import Record, Row
from edgedeploy.stats import RESAMPLES, Values, ratio_interval, samples_needed, side_median

Counted = Literal["instructions", "cycles"]

COUNTED: tuple[Counted, ...] = ("instructions", "cycles")
FEWEST = samples_needed(0.5)


class CountChange(Record):
    """One count of an inference; `ratio` is candidate over baseline, so above 1 is more work.

    `exact` is set where every inference of a side counted the same, so the ratio has no error.
    Where counts vary, a side's is the geometric mean of its runs' medians and `ratio_low` and
    `ratio_high` bound the 95 % interval; they are null where there are too few counts for one.
    """

    figure: Counted
    baseline: float
    candidate: float
    ratio: float
    ratio_low: float | None = None
    ratio_high: float | None = None
    exact: bool = False


def count_changes(
    sides: Sequence[Sequence[tuple[Row, Mapping[str, Values]]]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[CountChange, ...]:
    """Counts that every run of both sides has; a run is its row and its raw counts by figure.

    A run without raw counts stands with its row's figure, the mean of an inference.
    """
    found = []
    for name in COUNTED:
        runs = [[_values(row, raw, name) for row, raw in side] for side in sides]
        if all(runs) and all(len(v) and np.median(v) > 0 for side in runs for v in side):
            raw = all(len(raw.get(name, ())) for side in sides for _, raw in side)
            found.append(_change(name, runs, raw=raw, resamples=resamples, seed=seed))
    return tuple(found)


def count_words(change: CountChange) -> str:
    """The change for people: `instructions an inference +5.0 % (1,000 to 1,050, exact)`."""
    found = f"{change.figure} an inference {100 * (change.ratio - 1):+.2f} %"
    if change.exact:
        how = "exact"
    elif change.ratio_low is None or change.ratio_high is None:
        how = f"no interval: under {FEWEST} counts are on record"
    else:
        low, high = (100 * (ratio - 1) for ratio in (change.ratio_low, change.ratio_high))
        how = f"95 % interval {low:+.2f} to {high:+.2f} %"
    return f"{found} ({change.baseline:,.0f} to {change.candidate:,.0f}, {how})"


def _values(row: Row, raw: Mapping[str, Values], name: str) -> Values:
    counts = raw.get(name)
    if counts is not None and len(counts):
        return counts
    figure = row.figures.get(name)
    return np.array([] if figure is None or figure.value is None else [float(figure.value)])


def _change(
    name: Counted, runs: Sequence[Sequence[Values]], *, raw: bool, resamples: int, seed: int
) -> CountChange:
    constant = all(len(np.unique(np.concatenate(list(side)))) == 1 for side in runs)
    # the way over logarithms would leave its rounding in counts that are whole
    before, after = (float(side[0][0]) if constant else side_median(side) for side in runs)
    change = CountChange(
        figure=name,
        baseline=before,
        candidate=after,
        ratio=after / before,
        exact=constant and raw,
    )
    few = any(len(values) < FEWEST for side in runs for values in side)
    if constant or few:
        return change
    interval = ratio_interval(runs[0], runs[1], resamples=resamples, seed=seed)
    return CountChange(
        figure=name,
        baseline=before,
        candidate=after,
        ratio=interval.value,
        ratio_low=interval.low,
        ratio_high=interval.high,
    )
