"""The subset that `count` takes: even, balanced over the classes, the same every time."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.data.spread import spread
from edgedeploy.errors import DataError


def test_stride_starts_in_the_middle_of_the_first_step() -> None:
    assert spread(10, 5) == [1, 3, 5, 7, 9]
    assert spread(100, 4) == [12, 37, 62, 87]


@pytest.mark.parametrize("count", [None, 7, 8, 1000])
def test_none_and_larger_counts_take_all(count: int | None) -> None:
    assert spread(7, count) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("count", [0, -3])
def test_count_under_one_is_refused(count: int) -> None:
    with pytest.raises(DataError, match=f"count is {count}"):
        spread(10, count)


@given(st.integers(1, 500), st.integers(1, 500))
def test_even_gaps_without_repeats(size: int, count: int) -> None:
    chosen = spread(size, count)
    assert len(chosen) == min(size, count)
    assert chosen == sorted(set(chosen))
    assert chosen[0] >= 0
    assert chosen[-1] < size
    gaps = {b - a for a, b in pairwise(chosen)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.integers(1, 200))
def test_each_class_gives_its_share(labels: list[int], count: int) -> None:
    chosen = spread(len(labels), count, labels)
    taken = Counter(labels[index] for index in chosen)
    for label, size in Counter(labels).items():
        share = size * min(count, len(labels)) / len(labels)
        assert abs(taken[label] - share) < 1


def test_sorted_classes_do_not_give_the_first_class_only() -> None:
    labels = [0] * 50 + [1] * 50 + [2] * 50
    assert Counter(labels[i] for i in spread(150, 6, labels)) == {0: 2, 1: 2, 2: 2}


def test_shuffled_classes_are_balanced_too() -> None:
    labels = [i * 7 % 10 for i in range(1000)]
    assert set(Counter(labels[i] for i in spread(1000, 100, labels)).values()) == {10}
