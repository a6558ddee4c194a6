"""Statistics of latency samples: percentiles, drift, and bootstrap intervals of medians."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 0.95
SAMPLES_BEYOND = 10
FEWEST_BLOCKS = 10
# At most this many weights at once, 8 bytes each: 16 MB however many samples there are.
CHUNK_CELLS = 2_000_000
# Student's t, two-sided 95 %, by degrees of freedom from 1.
STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
NORMAL_Z = 1.959964


class Interval(NamedTuple):
    """A point estimate and the 95 % interval around it; `low <= value <= high`."""

    value: float
    low: float
    high: float


def samples_needed(p: float) -> int:
    """ceil(10 / (1 - p)): with fewer, under ten samples lie beyond the percentile."""
    if not 0 < p < 1:
        msg = f"a percentile is asked for as a fraction in (0, 1), not {p!r}"
        raise ValueError(msg)
    # 10 / (1 - 0.9) is 100.00000000000003 in floating point, and must not become 101.
    return math.ceil(round(SAMPLES_BEYOND / (1 - p), 6))


def percentile(values: Values, p: float) -> float | None:
    """The p-quantile, p in (0, 1), linearly interpolated; None under `samples_needed(p)`."""
    if len(values) < samples_needed(p):
        return None
    return float(np.quantile(values, p))


def percentile_reason(count: int, p: float) -> str:
    """Why the percentile of `count` samples is null."""
    return f"p{100 * p:g} needs {samples_needed(p)} samples, {count} were taken"


def mean(values: Values) -> float | None:
    """The arithmetic mean; None of no samples."""
    return float(np.mean(values)) if len(values) else None


def std(values: Values) -> float | None:
    """The standard deviation with n - 1 below; None under two samples."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def cv(values: Values) -> float | None:
    """Coefficient of variation, standard deviation over mean; None where either is not had."""
    spread, middle = std(values), mean(values)
    return spread / middle if spread is not None and middle else None


def drift(values: Values) -> float | None:
    """Median of the last third over that of the first, minus 1; `values` in order of time.

    None under 60 samples: each third's median needs 20.
    """
    third = len(values) // 3
    if third < samples_needed(0.5):
        return None
    first, last = float(np.median(values[:third])), float(np.median(values[-third:]))
    return last / first - 1 if first else None


def block_count(values: Values) -> int:
    """Into how many runs of neighbours a series is cut before it is resampled.

    Latencies are autocorrelated (clock steps, timer ticks, other processes' time slices), so
    samples drawn singly would give intervals too narrow; neighbours are kept together instead
    (Carlstein, Ann. Statist. 14, 1986; Künsch, Ann. Statist. 17, 1989). A block has at least
    sqrt(n) samples, and more where Carlstein's rule for a first-order autoregression,
    (sqrt(6) r / (1 - r^2))^(2/3) n^(1/3), asks for it; r is the lag-1 autocorrelation of "above
    the median or not", which is the series a median's error is the mean of (Bahadur).
    """
    n = len(values)
    above = (values > np.median(values)) - 0.5
    above -= above.mean()
    power = float(above @ above)
    r = float(above[1:] @ above[:-1]) / power if power else 0.0
    r = min(max(r, 0.0), 0.99)
    length = max(math.sqrt(n), (math.sqrt(6) * r / (1 - r * r)) ** (2 / 3) * n ** (1 / 3))
    return min(n, max(FEWEST_BLOCKS, int(n / length + 0.5)))


def resampled_medians(values: Values, count: int, rng: np.random.Generator) -> Values:
    """Medians of `count` block resamples of a series, shape (count,); exact, not approximated.

    A resample is a weight per block, so its median is a weighted one: the samples are sorted once,
    and weights are summed up only around the middle; the rare resample whose median lies farther
    out is done over all samples. Memory is that of the weights, one a block and resample, and of
    one chunk of `CHUNK_CELLS`, however many samples there are.
    """
    n, blocks = len(values), block_count(values)
    block = np.arange(n) * blocks // n
    order = np.argsort(values, kind="stable")
    ordered, block_ordered = values[order], block[order]
    weights = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=count)
    weights = weights.T.astype(np.int32)
    half = (np.bincount(block, minlength=blocks) @ weights) / 2
    medians = np.full(count, np.nan)
    for reach in (0.02, 0.1, 0.5):
        low, high = math.floor(n * (0.5 - reach)), math.ceil(n * (0.5 + reach))
        below = np.bincount(block_ordered[:low], minlength=blocks)
        todo = np.flatnonzero(np.isnan(medians))
        step = max(1, CHUNK_CELLS // max(1, high - low))
        for start in range(0, len(todo), step):
            columns = todo[start : start + step]
            chosen = weights[:, columns]
            before = below @ chosen
            sums = before + np.cumsum(chosen[block_ordered[low:high]], axis=0)
            found = (before < half[columns]) & (sums[-1] > half[columns])
            # The two middle samples, the same one where the total weight is odd.
            left = np.argmax(sums >= half[columns], axis=0)
            right = np.argmax(sums > half[columns], axis=0)
            middle = (ordered[low + left] + ordered[low + right]) / 2
            medians[columns[found]] = middle[found]
    return medians


def median_interval(values: Values, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The median of one series and its 95 % block bootstrap interval (percentile method)."""
    medians = resampled_medians(values, resamples, np.random.default_rng(seed))
    return _interval(float(np.median(values)), medians, block_count(values) - 1)


def ratio_interval(
    baseline: Sequence[Values],
    candidate: Sequence[Values],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Candidate over baseline: the ratio of median latencies, and its 95 % interval.

    Each side is one series of positive values or more, a run each; a side's median is the
    geometric mean of its runs' medians. Runs are resampled first, then samples within a run by
    blocks (hierarchical bootstrap; Kalibera and Jones, ISMM 2013: run-to-run variation dominates).
    Runs' relative deviations are pooled over both sides, so five runs against one work too. A
    bootstrap over a handful of runs is too narrow; deviations are scaled by sqrt(n / (n - sides))
    and the interval by Student's t over the normal's z (Hesterberg, Am. Stat. 69, 2015). With one
    run a side nothing is known of run-to-run variation, and the interval does not hold it.
    Independent of the order of runs.
    """
    before, after, freedom = _sides(baseline, candidate, resamples, seed)
    logs = _interval(after.point - before.point, after.draws - before.draws, freedom)
    return Interval(*(math.exp(x) for x in logs))


def difference_interval(
    baseline: Sequence[Values],
    candidate: Sequence[Values],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Candidate minus baseline in the samples' unit; else as `ratio_interval`."""
    before, after, freedom = _sides(baseline, candidate, resamples, seed)
    point = math.exp(after.point) - math.exp(before.point)
    return _interval(point, np.exp(after.draws) - np.exp(before.draws), freedom)


def side_median(runs: Sequence[Values]) -> float:
    """The geometric mean of the runs' medians: what a ratio of two sides is the ratio of."""
    # fsum rounds once, so the order of runs leaves no trace.
    return math.exp(math.fsum(math.log(float(np.median(run))) for run in runs) / len(runs))


class _Side(NamedTuple):
    point: float
    draws: Values


def _sides(
    baseline: Sequence[Values], candidate: Sequence[Values], resamples: int, seed: int
) -> tuple[_Side, _Side, int]:
    """Logarithms of both sides' medians with their resamples, and the degrees of freedom."""
    sides = [sorted(runs, key=lambda run: float(np.median(run))) for runs in (baseline, candidate)]
    logs = [np.log([float(np.median(run)) for run in runs]) for runs in sides]
    deviations = [log - log.mean() for log in logs if len(log) > 1]
    freedom = sum(len(d) - 1 for d in deviations)
    pool = np.concatenate(deviations) if deviations else np.zeros(1)
    pool = pool * math.sqrt(len(pool) / freedom) if freedom else pool
    done: list[_Side] = []
    for runs, log, sequence in zip(sides, logs, np.random.SeedSequence(seed).spawn(2), strict=True):
        rng = np.random.default_rng(sequence)
        shape = (resamples, len(runs))
        within = np.stack([np.log(resampled_medians(run, resamples, rng)) for run in runs])
        blocks = np.array([block_count(run) for run in runs])
        within = (within - log[:, np.newaxis]) * np.sqrt(blocks / (blocks - 1))[:, np.newaxis]
        between = pool[rng.integers(len(pool), size=shape)]
        inner = within[rng.integers(len(runs), size=shape), rng.integers(resamples, size=shape)]
        point = float(log.mean())
        done.append(_Side(point, point + (between + inner).mean(axis=1)))
    if not freedom:
        freedom = sum(block_count(run) - 1 for runs in sides for run in runs)
    return done[0], done[1], freedom


def _interval(point: float, draws: Values, freedom: int) -> Interval:
    """Percentile interval, widened for few runs; made to hold its own point estimate."""
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(x) for x in np.quantile(draws, [tail, 1 - tail]))
    wider = _student_t(freedom) / NORMAL_Z
    low, high = point + wider * (low - point), point + wider * (high - point)
    return Interval(point, min(low, point), max(high, point))


def _student_t(freedom: int) -> float:
    """Two-sided 95 % quantile; beyond the table, Fisher's expansion (Abramowitz, Stegun 26.7.5)."""
    if freedom <= len(STUDENT_T):
        return STUDENT_T[freedom - 1]
    z = NORMAL_Z
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
