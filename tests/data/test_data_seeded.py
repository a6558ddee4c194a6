"""Values from a seed: in range, the same every time, no labels."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.data import open_dataset
from edgedeploy.errors import DataError
from edgedeploy.workload import DataSpec, EvaluationSpec, InputSpec


def samples(*inputs: InputSpec, **settings: Any) -> list[dict[str, np.ndarray[Any, Any]]]:
    dataset = open_dataset(DataSpec(layout="seeded", **settings), inputs, "")
    return [sample.arrays for sample in dataset]


def test_64_samples_by_default_between_the_ends_of_the_range() -> None:
    x = InputSpec(name="x", shape=(1, 3, 8, 8), dtype="float32", value_range=(-2.0, 6.0))
    found = np.stack([arrays["x"] for arrays in samples(x)])
    assert found.shape == (64, 3, 8, 8)
    assert found.dtype == np.float32
    assert found.min() >= -2
    assert found.max() < 6
    assert abs(found.mean() - 2) < 0.1


def test_they_are_those_of_numpys_generator() -> None:
    x = InputSpec(name="x", shape=(1, 2), dtype="float64")
    generator = np.random.default_rng(7)
    expected = [generator.uniform(0.0, 1.0, 2).tolist() for _ in range(3)]
    assert [arrays["x"].tolist() for arrays in samples(x, count=3, seed=7)] == expected


def test_the_same_again_and_others_for_another_seed() -> None:
    x = InputSpec(name="x", shape=(1, 4), dtype="float32")
    dataset = open_dataset(DataSpec(layout="seeded", count=2), (x,), "")
    first = [sample.arrays["x"].tolist() for sample in dataset]
    assert [sample.arrays["x"].tolist() for sample in dataset] == first
    assert [arrays["x"].tolist() for arrays in samples(x, count=2, seed=1)] != first
    assert dataset.files() == []


@given(st.sampled_from(["int8", "uint8", "int64", "int32"]), st.integers(0, 100), st.integers(1, 9))
def test_integers_take_both_ends(dtype: str, low: int, width: int) -> None:
    x = InputSpec(name="x", shape=(1, 500), dtype=dtype, value_range=(low, low + width))
    found = samples(x, count=1)[0]["x"]
    assert found.dtype == np.dtype(dtype)
    assert set(found.tolist()) == set(range(low, low + width + 1))


def test_truth_values() -> None:
    found = samples(InputSpec(name="x", shape=(1, 50), dtype="bool"), count=1)[0]["x"]
    assert found.dtype == np.bool_
    assert set(found.tolist()) == {False, True}


def test_several_inputs_and_scalars() -> None:
    x = InputSpec(name="x", shape=(1, 2), dtype="float32")
    scale = InputSpec(name="scale", shape=(1,), dtype="float16")
    found = samples(x, scale, count=1)[0]
    assert found["scale"].shape == ()
    assert found["scale"].dtype == np.float16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "uint8", "value_range": (-1.0, 5.0)}, "value_range -1 to 5 holds no uint8"),
        ({"dtype": "int8", "value_range": (0.2, 0.8)}, r"value_range 0\.2 to 0\.8 holds no int8"),
        ({"dtype": "complex64"}, "no values can be drawn for dtype complex64"),
    ],
)
def test_ranges_that_hold_nothing(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        samples(InputSpec(name="x", shape=(1, 2), **settings))
    assert caught.value.hint


@pytest.mark.parametrize("settings", [{"count": 0}, {"count": -1}, {"seed": -1}])
def test_negative_counts_and_seeds(settings: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        samples(InputSpec(name="x", shape=(1, 2), dtype="float32"), **settings)


def test_no_accuracy_can_come_from_a_seed() -> None:
    x = InputSpec(name="x", shape=(1, 2), dtype="float32")
    with pytest.raises(DataError, match="data made from a seed has no label"):
        open_dataset(EvaluationSpec(layout="seeded"), (x,), "")
