"""Accuracy through a session: batches merged, shards, and metrics that complain."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy import evaluate as stage
from edgedeploy.errors import DataError, EdgeDeployError, InputError
from edgedeploy.evaluate import evaluate, merge_batches, run_arrays
from edgedeploy.workload import EvaluationSpec, InputSpec, ModelSpec, Workload

Write = Callable[..., Path]

Array = np.ndarray


class Scores:
    """A session whose model gives back its input as scores, and counts its calls."""

    def __init__(self, *, drop_batch: bool = False, name: str = "scores") -> None:
        self.calls: list[int] = []
        self.drop_batch = drop_batch
        self.name = name

    def infer(self, inputs: Path, outputs: Path) -> int:
        with np.load(inputs) as arrays:
            x = arrays["x"]
        self.calls.append(len(x))
        np.savez(outputs, **{self.name: x[:, 0] if self.drop_batch else x})
        return len(x)


def job(folder: Path, **spec: Any) -> Workload:
    evaluation = EvaluationSpec(layout="npz", data="d.npz", **spec)
    model = ModelSpec(source="m.onnx")
    return Workload(name="job", model=model, evaluation=evaluation, folder=str(folder))


def judged(folder: Path, session: Scores, *, batch: int = 1, **spec: Any) -> Any:
    inputs = (InputSpec(name="x", shape=(batch, 3), dtype="float32"),)
    return evaluate(job(folder, **spec), inputs, session, source="measured")


@pytest.fixture
def rows(tmp_path: Path) -> Array:
    """10 samples of 3 scores, of which 7 are largest at their label."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 10)
    scores = draw.random((10, 3)).astype(np.float32)
    right = np.arange(10) < 7
    scores[np.arange(10), np.where(right, labels, (labels + 1) % 3)] += 2
    np.savez(tmp_path / "d.npz", x=scores, labels=labels)
    return scores


@pytest.mark.parametrize("batch", [1, 3, 4, 10, 16])
@pytest.mark.usefixtures("rows")
def test_every_sample_counts_once_whatever_the_batch(tmp_path: Path, batch: int) -> None:
    session = Scores()
    accuracy = judged(tmp_path, session, batch=batch)
    assert (accuracy.value, accuracy.count, accuracy.unit) == (0.7, 10, "1")
    assert (accuracy.metric, accuracy.source) == ("top1", "measured")
    assert accuracy.data == f"10 samples in {tmp_path / 'd.npz'}"
    assert session.calls == [-(-10 // batch)]


@pytest.mark.usefixtures("rows")
def test_a_model_that_drops_the_batch_axis(tmp_path: Path) -> None:
    assert judged(tmp_path, Scores(drop_batch=True)).value == 0.7


@pytest.mark.usefixtures("rows")
def test_the_set_crosses_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SHARD_BYTES", 40)
    session = Scores()
    told: list[float] = []
    inputs = (InputSpec(name="x", shape=(1, 3), dtype="float32"),)
    accuracy = evaluate(
        job(tmp_path),
        inputs,
        session,
        source="emulated",
        progress=lambda _stage, share: told.append(share),
    )
    assert session.calls == [4, 4, 2]
    assert told == [0.4, 0.8, 1.0]
    assert accuracy is not None
    assert (accuracy.value, accuracy.source) == (0.7, "emulated")


def test_without_an_evaluation_set_there_is_no_accuracy(tmp_path: Path) -> None:
    workload = Workload(name="job", model=ModelSpec(source="m.onnx"), folder=str(tmp_path))
    assert evaluate(workload, (), Scores(), source="measured") is None


def test_labels_that_are_no_class(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3), np.float32), labels=[0, 3])
    with pytest.raises(DataError, match="mislabelled: class 3 found, expected 0 to 2"):
        judged(tmp_path, Scores())


def test_samples_without_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3), np.float32))
    with pytest.raises(DataError, match="has no label"):
        judged(tmp_path, Scores())


@pytest.mark.usefixtures("rows")
def test_an_output_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the model has no output 'score'") as caught:
        judged(tmp_path, Scores(), output="score")
    assert caught.value.hint == "Did you mean 'scores'?"


METRIC = """
    class {name}:
        unit = "m"
        count = 0
        def update(self, outputs, labels):
            self.count += len(labels)
            {update}
        def value(self):
            return {value}
"""


@pytest.mark.usefixtures("rows")
def test_a_metric_of_ones_own(write: Write, tmp_path: Path) -> None:
    write("own.py", METRIC.format(name="Own", update="pass", value="self.count / 4"))
    accuracy = judged(tmp_path, Scores(), metric="own.py:Own")
    assert (accuracy.value, accuracy.unit, accuracy.metric) == (2.5, "m", "own.py:Own")


@pytest.mark.parametrize(
    ("update", "value", "message"),
    [
        ("labels[99]", "0", "metric 'own.py:Own' raised IndexError: list index out of range"),
        ("pass", "1 / 0", "metric 'own.py:Own' raised ZeroDivisionError: division by zero"),
    ],
)
@pytest.mark.usefixtures("rows")
def test_a_metric_that_raises(
    write: Write, tmp_path: Path, update: str, value: str, message: str
) -> None:
    write("own.py", METRIC.format(name="Own", update=update, value=value))
    with pytest.raises(EdgeDeployError) as caught:
        judged(tmp_path, Scores(), metric="own.py:Own")
    assert caught.value.message == message
    assert caught.value.exit_code == 2
    assert "own.py" in caught.value.log


@pytest.mark.usefixtures("rows")
def test_an_unknown_metric(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no metric 'top2'"):
        judged(tmp_path, Scores(), metric="top2")


def test_whole_inferences_cross_and_come_back() -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 1, 3)
    found = run_arrays(Scores(name="file/y"), {"x": x})
    np.testing.assert_array_equal(found["file/y"], x)


@given(
    count=st.integers(1, 20),
    batch=st.integers(1, 6),
    inner=st.lists(st.integers(1, 4), max_size=2),
)
def test_merging_undoes_batching(count: int, batch: int, inner: list[int]) -> None:
    """Batched with the last one filled, then merged: the samples, in order, once."""
    samples = np.arange(count * int(np.prod(inner)), dtype=np.float32).reshape(count, *inner)
    filled = np.concatenate([samples, *[samples[-1:]] * (-count % batch)])
    batched = filled.reshape(-1, batch, *inner)
    merged = merge_batches({"y": batched}, batch, count)["y"]
    if batch == 1 and not inner:  # one number an inference: a row of one score, or a batch of one
        merged = merged[:, 0]
    np.testing.assert_array_equal(merged, samples)


@given(count=st.integers(1, 9), classes=st.integers(2, 5))
def test_outputs_without_a_batch_axis_stay(count: int, classes: int) -> None:
    scores = np.arange(count * classes).reshape(count, classes)
    assert merge_batches({"y": scores}, 1, count)["y"].tolist() == scores.tolist()


def test_each_output_is_merged_by_itself() -> None:
    outputs = {"scores": np.zeros((2, 4, 5)), "index": np.arange(8).reshape(2, 4)}
    merged = merge_batches(outputs, 4, 7)
    assert merged["scores"].shape == (7, 5)
    assert merged["index"].tolist() == list(range(7))
