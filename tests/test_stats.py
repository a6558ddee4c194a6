"""Percentiles, drift and bootstrap intervals: values by hand, laws, and how often they err."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from specimens import latencies

from edgedeploy.stats import (
    block_count,
    cv,
    difference_interval,
    drift,
    mean,
    median_interval,
    percentile,
    percentile_reason,
    ratio_interval,
    resampled_medians,
    samples_needed,
    side_median,
    std,
)

finite = st.floats(1e-9, 1e3)


@pytest.mark.parametrize(
    ("p", "needed"), [(0.5, 20), (0.9, 100), (0.95, 200), (0.99, 1000), (0.999, 10_000)]
)
def test_a_percentile_needs_ten_samples_beyond_it(p: float, needed: int) -> None:
    assert samples_needed(p) == needed
    values = np.arange(needed, dtype=float)
    assert percentile(values, p) == pytest.approx(p * (needed - 1))
    assert percentile(values[1:], p) is None


@pytest.mark.parametrize("p", [0.0, 1.0, 50, -0.1])
def test_a_percentile_outside_of_0_to_1_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match=r"a fraction in \(0, 1\)"):
        percentile(np.ones(100), p)


def test_the_reason_names_the_percentile_and_both_counts() -> None:
    assert percentile_reason(57, 0.99) == "p99 needs 1000 samples, 57 were taken"
    assert percentile_reason(3, 0.999) == "p99.9 needs 10000 samples, 3 were taken"


@given(arrays(float, st.integers(20, 300), elements=finite), st.floats(0.01, 0.96))
def test_percentiles_are_numpys_where_there_are_enough_samples(
    values: NDArray[np.float64], p: float
) -> None:
    enough = len(values) >= 10 / (1 - p)
    assert percentile(values, p) == (np.quantile(values, p) if enough else None)


@given(arrays(float, 1000, elements=finite), st.permutations(range(4)))
def test_percentiles_rise_with_p_and_ignore_order(
    values: NDArray[np.float64], order: list[int]
) -> None:
    found = [percentile(values, p) or math.nan for p in (0.5, 0.9, 0.95, 0.99)]
    assert found == sorted(found)
    shuffled = np.concatenate([values[250 * i : 250 * i + 250] for i in order])
    assert [percentile(shuffled, p) for p in (0.5, 0.9, 0.95, 0.99)] == found


def test_mean_std_and_cv_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert mean(values) == 2.5
    assert std(values) == pytest.approx(math.sqrt(5 / 3))
    assert cv(values) == pytest.approx(math.sqrt(5 / 3) / 2.5)


def test_what_too_few_samples_do_not_give_is_none() -> None:
    assert mean(np.array([])) is None
    assert mean(np.array([2.0])) == 2.0
    assert std(np.array([2.0])) is None
    assert cv(np.array([2.0])) is None
    assert cv(np.zeros(5)) is None
    assert drift(np.ones(59)) is None


def test_drift_is_the_last_third_over_the_first() -> None:
    values = np.concatenate([np.full(20, 2.0), np.full(25, 9.0), np.full(22, 2.5)])
    assert drift(values) == 0.25
    assert drift(values[::-1]) == pytest.approx(2 / 2.5 - 1)
    assert drift(np.ones(60)) == 0.0


@pytest.mark.parametrize("n", [20, 101, 1000, 1501])
def test_resampled_medians_are_the_medians_of_the_resamples(n: int) -> None:
    values = latencies(1e-3, n=n)
    blocks = block_count(values)
    weights = np.random.default_rng(3).multinomial(blocks, np.full(blocks, 1 / blocks), size=200)
    block = np.arange(n) * blocks // n
    expected = [np.median(np.repeat(values, drawn[block])) for drawn in weights]
    assert resampled_medians(values, 200, np.random.default_rng(3)).tolist() == expected


def test_resampled_medians_of_two_far_modes_need_the_whole_range() -> None:
    values = np.repeat([1.0, 2.0], 50)
    found = set(resampled_medians(values, 500, np.random.default_rng(0)).tolist())
    assert found == {1.0, 1.5, 2.0}


def test_correlated_samples_are_cut_into_fewer_blocks() -> None:
    rng = np.random.default_rng(0)
    assert block_count(rng.normal(size=1000)) == 32
    assert block_count(np.ones(1000)) == 32
    slow = np.repeat(rng.normal(size=20), 50)
    assert block_count(slow) == 10
    assert block_count(np.ones(5)) == 5


def test_an_interval_of_a_correlated_series_is_wider() -> None:
    independent = median_interval(latencies(1e-3, n=2000))
    correlated = median_interval(np.repeat(latencies(1e-3, n=40), 50))
    assert correlated.high - correlated.low > 2 * (independent.high - independent.low)


def test_an_interval_has_the_width_theory_gives_for_independent_samples() -> None:
    n, sigma = 4000, 0.05
    found = median_interval(1e-3 + 1e-3 * np.random.default_rng(1).normal(0, sigma, n))
    theory = 2 * 1.96 * math.sqrt(math.pi / 2) * sigma * 1e-3 / math.sqrt(n)
    assert found.high - found.low == pytest.approx(theory, rel=0.25)


def test_memory_does_not_grow_with_the_resamples() -> None:
    values = latencies(1e-3, n=100_000)
    tracemalloc.start()
    found = median_interval(values, resamples=2000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.low < 1e-3 < found.high
    assert peak < 128e6


def test_ratio_and_difference_are_those_of_the_medians() -> None:
    before, after = latencies(1e-3, seed=1), latencies(1.2e-3, seed=2)
    ratio = ratio_interval([before], [after])
    difference = difference_interval([before], [after])
    assert ratio.value == pytest.approx(np.median(after) / np.median(before))
    assert difference.value == pytest.approx(np.median(after) - np.median(before))
    assert 1.19 < ratio.low < 1.2 < ratio.high < 1.21
    assert 0.19e-3 < difference.low < 0.2e-3 < difference.high < 0.21e-3


def test_several_runs_count_by_the_geometric_mean_of_their_medians() -> None:
    runs = [np.full(20, 1e-3), np.full(20, 4e-3)]
    assert side_median(runs) == pytest.approx(2e-3)
    found = ratio_interval(runs, [np.full(20, 2e-3)])
    assert found.value == pytest.approx(1.0)
    assert found.low < 0.5
    assert found.high > 2


def test_an_interval_does_not_depend_on_the_order_of_runs() -> None:
    runs = [latencies(1e-3 * k, n=100, seed=i) for i, k in enumerate((1, 1.1, 0.97))]
    other = [latencies(1e-3, n=100, seed=9)]
    first = ratio_interval(runs, other, resamples=200)
    assert ratio_interval([r.copy() for r in runs[::-1]], other, resamples=200) == first
    assert ratio_interval(runs, other, resamples=200, seed=1) != first


def test_run_to_run_variation_widens_the_interval() -> None:
    def runs(shift: float, first: int) -> list[NDArray[np.float64]]:
        scales = (1 - shift, 1, 1 + shift)
        return [latencies(1e-3 * k, n=300, seed=first + i) for i, k in enumerate(scales)]

    quiet = ratio_interval(runs(0, 0), runs(0, 10), resamples=500)
    noisy = ratio_interval(runs(0.03, 0), runs(0.03, 10), resamples=500)
    assert noisy.high - noisy.low > 5 * (quiet.high - quiet.low)


def test_many_runs_take_students_t_beyond_the_table() -> None:
    rng = np.random.default_rng(0)
    runs = [np.full(20, math.exp(x)) for x in rng.normal(0, 0.02, 20)]
    found = ratio_interval(runs[:10], runs[10:])
    sides = [np.log([run[0] for run in side]) for side in (runs[:10], runs[10:])]
    error = math.sqrt(sum(float(np.var(side, ddof=1)) for side in sides) / 10)
    # Student's t of 18 degrees of freedom is 2.101.
    assert math.log(found.high / found.low) == pytest.approx(2 * 2.101 * error, rel=0.1)


@settings(max_examples=40)
@given(
    arrays(float, st.integers(20, 120), elements=finite),
    arrays(float, st.integers(20, 120), elements=finite),
    st.integers(0, 5),
)
def test_an_interval_contains_its_point_estimate(
    before: NDArray[np.float64], after: NDArray[np.float64], seed: int
) -> None:
    for found in (
        median_interval(before, resamples=50, seed=seed),
        ratio_interval([before], [after], resamples=50, seed=seed),
        ratio_interval([before, after], [after], resamples=50, seed=seed),
        difference_interval([before], [after], resamples=50, seed=seed),
    ):
        assert found.low <= found.value <= found.high


@settings(max_examples=30)
@given(st.floats(0.01, 100), st.integers(0, 20))
def test_scaling_one_side_scales_ratio_and_interval(k: float, seed: int) -> None:
    before, after = latencies(1e-3, n=60, seed=seed), latencies(1e-3, n=60, seed=seed + 100)
    plain = ratio_interval([before], [after], resamples=100)
    scaled = ratio_interval([before], [k * after], resamples=100)
    assert scaled == pytest.approx([k * x for x in plain], rel=1e-9)


@pytest.mark.parametrize(("runs", "most"), [((1, 1), 12), ((3, 3), 12), ((5, 1), 14)])
def test_intervals_miss_about_as_rarely_as_they_say(runs: tuple[int, int], most: int) -> None:
    """Over 120 pairs of equal sides 5 % would be 6 misses."""
    rng = np.random.default_rng(7)
    between = 0.0 if runs == (1, 1) else 0.03

    def side(count: int) -> list[NDArray[np.float64]]:
        return [np.exp(rng.normal(0, between) + rng.normal(0, 0.02, 200)) for _ in range(count)]

    found = [ratio_interval(side(runs[0]), side(runs[1]), resamples=300) for _ in range(120)]
    assert sum(not low <= 1 <= high for _, low, high in found) <= most
