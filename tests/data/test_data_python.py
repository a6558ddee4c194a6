"""Samples from a user's function or an object in memory, in all forms that are taken."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedeploy.data import open_dataset
from edgedeploy.data.dataset import Dataset
from edgedeploy.data.python import open_object
from edgedeploy.errors import DataError, InputError
from edgedeploy.workload import DataSpec, EvaluationSpec, InputSpec

X = InputSpec(name="x", shape=(1, 3), dtype="float32")
MASK = InputSpec(name="mask", shape=(1, 2), dtype="int64")
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
MASKS = np.arange(8).reshape(4, 2)
LABELS = [3, 1, 2, 0]


def opened(given: object, *inputs: InputSpec, count: int | None = None) -> Dataset:
    return open_object(given, inputs or (X,), DataSpec(layout="python", count=count))


def contents(dataset: Dataset) -> list[tuple[list[Any], Any]]:
    return [(sample.arrays["x"].tolist(), sample.label) for sample in dataset]


def expected(labels: list[int] | None = LABELS) -> list[tuple[list[Any], Any]]:
    found = labels or [None] * 4
    return list(zip(ROWS.tolist(), found, strict=True))


def pairs() -> list[tuple[Any, int]]:
    return list(zip(ROWS, LABELS, strict=True))


def generator() -> Iterator[tuple[Any, int]]:
    yield from pairs()


class Items:
    """A data set as torch has them: by index, with a length."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if index >= 4:
            raise IndexError
        self.asked.append(index)
        return ROWS[index], np.int64(LABELS[index])


def batches() -> list[list[Any]]:
    return [[ROWS[:3], np.array(LABELS[:3])], [ROWS[3:], np.array(LABELS[3:])]]


FORMS: list[Callable[[], object]] = [
    lambda: (ROWS, LABELS),
    lambda: (ROWS, np.array(LABELS)),
    lambda: ({"x": ROWS}, LABELS),
    lambda: {"x": ROWS, "labels": np.array(LABELS)},
    pairs,
    lambda: tuple(pairs()),
    generator,
    Items,
    batches,
    lambda: iter(batches()),
    lambda: [{"x": row, "label": label} for row, label in pairs()],
    lambda: [((row,), label) for row, label in pairs()],
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_samples_again_and_again(form: Callable[[], object]) -> None:
    dataset = opened(form())
    assert contents(dataset) == expected()
    assert contents(dataset) == expected()
    assert len(dataset) == 4
    assert all(type(sample.label) is int for sample in dataset)


@pytest.mark.parametrize(
    "given", [ROWS, {"x": ROWS}, (ROWS, None), list(ROWS), iter(ROWS), [{"x": row} for row in ROWS]]
)
def test_labels_may_be_left_out_for_calibration(given: object) -> None:
    assert contents(opened(given)) == expected(None)


@pytest.mark.parametrize(
    "given",
    [
        ((ROWS, MASKS), LABELS),
        ({"mask": MASKS, "x": ROWS}, LABELS),
        [((x, m), y) for x, m, y in zip(ROWS, MASKS, LABELS, strict=True)],
        [({"mask": m, "x": x}, y) for x, m, y in zip(ROWS, MASKS, LABELS, strict=True)],
        [[(ROWS, MASKS), LABELS]],
    ],
)
def test_several_inputs(given: object) -> None:
    dataset = opened(given, X, MASK)
    assert contents(dataset) == expected()
    assert [sample.arrays["mask"].tolist() for sample in dataset] == MASKS.tolist()


def test_torch_tensors_and_loaders() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(ROWS).requires_grad_()
    y = torch.tensor(LABELS)
    assert contents(opened((x, y))) == expected()
    data = torch.utils.data.TensorDataset(x.detach(), y)
    assert contents(opened(data)) == expected()
    loader = torch.utils.data.DataLoader(data, batch_size=3)
    assert contents(opened(loader)) == expected()
    assert contents(opened(loader, count=2)) == expected()[:2]


def test_items_are_read_one_by_one_when_asked_for() -> None:
    items = Items()
    dataset = opened(items, count=2)
    assert len(dataset) == 2
    items.asked.clear()
    assert contents(dataset) == [expected()[1], expected()[3]]
    assert items.asked == [1, 3]


def test_a_stream_gives_its_first_and_is_read_no_further() -> None:
    def endless() -> Iterator[Any]:
        while True:
            yield from pairs()

    assert contents(opened(endless(), count=6)) == expected() + expected()[:2]


def test_pairs_of_arrays_are_chosen_by_class() -> None:
    x, y = np.zeros((40, 3), np.float32), np.arange(40) // 10
    assert [s.label for s in opened((x, y), count=4)] == [0, 1, 2, 3]


def problem(given: object, *inputs: InputSpec) -> DataError:
    with pytest.raises(DataError) as caught:
        list(opened(given, *inputs))
    assert caught.value.hint
    return caught.value


def test_label_count() -> None:
    message = problem((ROWS, [1, 2])).message
    assert message == "loader is mislabelled: 2 labels for 4 samples"


def test_unlike_counts() -> None:
    assert "unlike sample counts" in problem(((ROWS, MASKS[:2]), LABELS), X, MASK).message


@pytest.mark.parametrize("given", [[], (np.zeros((0, 3), np.float32), []), iter([])])
def test_empty(given: object) -> None:
    assert problem(given).message == "loader is empty: 0 samples"


@pytest.mark.parametrize("given", [7, None])
def test_no_samples_at_all(given: object) -> None:
    assert "not samples" in problem(given).message


@pytest.mark.parametrize("item", [[[1, 2], [3]], object()])
def test_no_arrays(item: object) -> None:
    assert "gave a" in problem([(item, 1)]).message


def test_too_few_inputs() -> None:
    assert "gave a ndarray for 2 inputs" in problem([(ROWS[0], 1)], X, MASK).message


def test_shape_and_dtype_name_the_sample() -> None:
    rows = [(ROWS[0], 1), (ROWS[1][:2], 1)]
    assert problem(rows).message.startswith("loader[1]: input 'x' found shape (2,), expected (3,)")
    assert "found dtype float64" in problem([(ROWS[0].astype(float), 1)]).message


def test_an_evaluation_needs_a_label_a_sample() -> None:
    spec = EvaluationSpec(layout="python")
    with pytest.raises(DataError, match=r"loader\[1\] has no label"):
        list(open_object([(ROWS[0], 1), (ROWS[1], None)], (X,), spec))


def raising() -> Iterator[Any]:
    yield ROWS[0], 1
    message = "disk gone"
    raise RuntimeError(message)


def test_a_loader_that_raises() -> None:
    error = problem(raising())
    assert error.message == "data loader loader raised RuntimeError: disk gone"
    assert "in raising" in error.log


LOADER = """
import numpy as np
def load(split):
    if split not in ("train", "test"):
        raise ValueError(f"no split {split}")
    size = 4 if split == "train" else 2
    return np.full((size, 3), size, np.float32), list(range(size))
def greedy():
    return []
"""


def spec(name: str, **more: Any) -> DataSpec:
    return DataSpec(layout="python", data=name, **more)


def test_a_function_in_a_file_gets_the_split(tmp_path: Path) -> None:
    (tmp_path / "my_loader.py").write_text(LOADER)
    dataset = open_dataset(spec("my_loader.py:load", split="test"), (X,), str(tmp_path))
    assert contents(dataset) == [([2.0] * 3, 0), ([2.0] * 3, 1)]
    assert dataset.source == "my_loader.py:load(split='test')"
    assert dataset.files() == [tmp_path / "my_loader.py"]


def test_nothing_is_imported_before_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("raise RuntimeError('now')")
    dataset = open_dataset(spec("late.py:load"), (X,), str(tmp_path))
    assert dataset.files() == [tmp_path / "late.py"]
    assert dataset.fingerprint_parts()["loader"] == "late.py:load(split='train')"
    with pytest.raises(InputError, match="raised RuntimeError: now"):
        next(iter(dataset))


def test_an_unknown_split_is_the_loaders_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "my_loader.py").write_text(LOADER)
    with pytest.raises(DataError, match="raised ValueError: no split val"):
        list(open_dataset(spec("my_loader.py:load", split="val"), (X,), str(tmp_path)))


def test_a_function_without_split(tmp_path: Path) -> None:
    (tmp_path / "my_loader.py").write_text(LOADER)
    with pytest.raises(DataError, match=r"raised TypeError: .*split"):
        list(open_dataset(spec("my_loader.py:greedy"), (X,), str(tmp_path)))


def test_a_missing_file_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        open_dataset(spec("nowhere.py:load"), (X,), str(tmp_path))
