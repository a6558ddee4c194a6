"""Laws of what the charts are drawn from: Pareto front, decimation, round ticks."""

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.report import svg
from edgedeploy.report.decimate import min_max
from edgedeploy.report.pareto import pareto_front

# Few distinct values, so that ties and duplicates are common.
COORDINATES = st.one_of(st.integers(0, 6).map(float), st.floats(-1e6, 1e6))
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@given(st.lists(st.tuples(COORDINATES, COORDINATES), max_size=40))
def test_the_front_is_exactly_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    front = pareto_front(points)
    undominated = {i for i, p in enumerate(points) if not any(dominates(q, p) for q in points)}
    assert set(front) == undominated
    assert len(front) == len(set(front))
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


def test_the_front_of_a_known_set() -> None:
    assert pareto_front([(3, 0.9), (1, 0.5), (2, 0.5), (2, 0.8), (4, 0.9)]) == [1, 3, 0]


@given(st.lists(FINITE, min_size=1, max_size=300), st.integers(1, 50))
def test_decimation_keeps_least_and_greatest(values: list[float], count: int) -> None:
    array = np.array(values)
    bins = min_max(np.arange(len(values)), array, count)
    assert len(bins.t) == min(count, len(values))
    assert bins.low.min() == array.min()
    assert bins.high.max() == array.max()
    assert (bins.low <= bins.high).all()
    assert (np.diff(bins.t) > 0).all()


def test_decimation_of_a_known_series() -> None:
    bins = min_max(np.array([0, 10, 20, 30]), np.array([1.0, 5.0, 2.0, 0.0]), 2)
    assert bins.t.tolist() == [0, 20]
    assert bins.low.tolist() == [1, 0]
    assert bins.high.tolist() == [5, 2]


@given(
    st.floats(1e-9, 1e9),
    st.floats(0, 1e6),
    st.booleans(),
    st.integers(2, 10),
)
def test_ticks_rise_within_the_scale(low: float, extent: float, log: bool, count: int) -> None:
    scale = svg.scale_over(low, low * (1 + extent), 50, 300, log=log)
    ticks = scale.ticks(count)
    assert 1 <= len(ticks) <= 3 * count + 2
    assert all(a < b for a, b in itertools.pairwise(ticks))
    slack = 1e-6 * (scale.high - scale.low)
    assert all(scale.low - slack <= t <= scale.high + slack for t in ticks)
    assert all(49.9 <= scale(t) <= 300.1 for t in ticks)


def test_ticks_of_known_scales() -> None:
    assert svg.Scale(0, 1, 0, 100).ticks(5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert svg.Scale(1, 100, 0, 1, log=True).ticks(6) == [1, 2, 5, 10, 20, 50, 100]
    assert svg.numbers([97.0, 97.25, 97.5]) == ["97.00", "97.25", "97.50"]
    assert svg.numbers([0.2, 1, 20, 3000]) == ["0.2", "1", "20", "3,000"]
    assert svg.time_unit(0.00041) == (1e-6, "\N{MICRO SIGN}s")


def test_a_scale_maps_its_ends_and_middle() -> None:
    linear, log = svg.Scale(2, 4, 10, 30), svg.Scale(1, 100, 0, 10, log=True)
    assert [linear(2), linear(3), linear(4)] == [10, 20, 30]
    assert math.isclose(log(10), 5)
