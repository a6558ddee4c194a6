"""Top-1 and top-5: against a plain sort, ties, shapes, labels that are no class."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgedeploy.errors import DataError, InputError
from edgedeploy.metrics import make_metric
from edgedeploy.metrics.classification import TopK

Array = np.ndarray[Any, Any]
BATCHES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(5, 9)),
    elements=st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0, 3.0, np.inf]),
)


def top(k: int, scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    metric = TopK(k)
    metric.update({"scores": np.asarray(scores)}, labels)
    return metric.value()


def draw_labels(data: st.DataObject, scores: Array) -> list[int]:
    count, classes = scores.shape
    return data.draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))


def test_fractions_over_all_batches() -> None:
    metric = make_metric("top1")
    metric.update({"out": np.array([[0.1, 0.9], [0.8, 0.2]])}, np.array([1, 1]))
    metric.update({"out": np.array([[0.3, 0.7]])}, [1])
    assert metric.count == 3
    assert metric.value() == pytest.approx(2 / 3)
    assert metric.unit == "1"


@given(BATCHES, st.data())
def test_top1_is_argmax(scores: Array, data: st.DataObject) -> None:
    labels = draw_labels(data, scores)
    assert top(1, scores, labels) == float(np.mean(scores.argmax(1) == labels))


@given(BATCHES, st.data())
def test_top5_is_a_stable_sort(scores: Array, data: st.DataObject) -> None:
    labels = draw_labels(data, scores)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    hits = [label in five for label, five in zip(labels, best, strict=True)]
    assert top(5, scores, labels) == float(np.mean(hits))


@given(BATCHES, st.data())
def test_batching_and_monotone_maps_do_not_matter(scores: Array, data: st.DataObject) -> None:
    labels = draw_labels(data, scores)
    whole = top(1, scores, labels)
    one_by_one = TopK(1)
    for row, label in zip(scores, labels, strict=True):
        one_by_one.update({"scores": row}, [label])
    assert one_by_one.value() == whole
    assert top(1, np.arctan(scores.astype(np.float64)) * 3 + 7, labels) == whole


@given(BATCHES, st.data())
def test_more_places_never_hurt(scores: Array, data: st.DataObject) -> None:
    labels = draw_labels(data, scores)
    values = [top(k, scores, labels) for k in range(1, scores.shape[1] + 1)]
    assert values == sorted(values)
    assert values[-1] == 1.0


def test_equal_scores_rank_by_class_index() -> None:
    assert top(1, np.zeros((3, 4)), [0, 1, 3]) == pytest.approx(1 / 3)
    assert top(5, np.zeros((2, 6)), [4, 5]) == 0.5


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float16, np.float64])
def test_integer_outputs_of_quantized_models(dtype: type) -> None:
    assert top(1, np.array([[0, 100, 3], [120, 7, 8]], dtype), [1, 0]) == 1.0


@pytest.mark.parametrize("shape", [(10,), (1, 10), (1, 10, 1, 1)])
def test_shapes_of_one_sample(shape: tuple[int, ...]) -> None:
    assert top(1, np.eye(10)[4].reshape(shape), [4]) == 1.0


def test_nan_counts_as_wrong() -> None:
    scores = np.array([[0.0, 1.0], [np.nan, 1.0], [0.0, np.nan]])
    assert top(1, scores, [1, 1, 1]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("label", [10, -1, 2**40])
def test_a_label_that_is_no_class(label: int) -> None:
    with pytest.raises(DataError, match=rf"mislabelled: class {label} found, expected 0 to 9"):
        top(1, np.zeros((2, 10)), [3, label])


@pytest.mark.parametrize("labels", [[0.5, 1.0], ["a", "b"], [None, 1], [[0, 1], [1, 0]], [[1], []]])
def test_labels_that_are_no_class_indices(labels: npt.ArrayLike) -> None:
    with pytest.raises(DataError, match="mislabelled"):
        top(1, np.zeros((2, 10)), labels)


def test_nothing_counted_is_not_zero() -> None:
    with pytest.raises(DataError, match="over 0 samples has no value"):
        TopK(1).value()


@pytest.mark.parametrize("shape", [(10,), (3, 10), (2, 10, 4), (2, 2, 5, 5)])
def test_outputs_that_are_no_scores(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected \(2, classes\)"):
        top(1, np.zeros(shape), [0, 1])


def test_top5_of_four_classes() -> None:
    with pytest.raises(InputError, match="has 4 classes, too few for top-5"):
        top(5, np.zeros((1, 4)), [0])


def test_one_of_several_outputs_is_named() -> None:
    outputs = {"scores": np.eye(2), "features": np.zeros((2, 9))}
    metric = make_metric("top1", "scores")
    metric.update(outputs, [0, 1])
    assert metric.value() == 1.0
    with pytest.raises(InputError, match="the model has 2 outputs: scores, features"):
        make_metric("top1").update(outputs, [0, 1])
    with pytest.raises(InputError, match="no output 'score'") as caught:
        make_metric("top1", "score").update(outputs, [0, 1])
    assert caught.value.hint == "Did you mean 'scores'?"
