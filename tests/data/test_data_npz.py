"""Arrays in .npz: by name, labels, damage, nothing pickled."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgedeploy.data import open_dataset
from edgedeploy.errors import DataError, InputError
from edgedeploy.workload import DataSpec, EvaluationSpec, InputSpec

X = InputSpec(name="x", shape=(1, 3), dtype="float32")
MASK = InputSpec(name="mask", shape=(1, 2), dtype="int64")
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def save(path: Path, **arrays: Any) -> DataSpec:
    np.savez(path, **arrays)
    return DataSpec(layout="npz", data=str(path))


def evaluation(spec: DataSpec) -> EvaluationSpec:
    return EvaluationSpec(layout="npz", data=spec.data)


def test_single_array_and_labels(tmp_path: Path) -> None:
    spec = save(tmp_path / "a.npz", images=ROWS, labels=np.array([3, 1, 2, 0]))
    dataset = open_dataset(evaluation(spec), (X,), "")
    assert len(dataset) == 4
    assert [s.arrays["x"].tolist() for s in dataset] == ROWS.tolist()
    assert [s.label for s in dataset] == [3, 1, 2, 0]
    assert dataset.files() == [tmp_path / "a.npz"]


def test_several_inputs_by_name_and_y(tmp_path: Path) -> None:
    masks = np.arange(8).reshape(4, 2)
    spec = save(tmp_path / "a.npz", mask=masks, x=ROWS, y=np.arange(4), unused=np.zeros(9))
    samples = list(open_dataset(spec, (X, MASK), ""))
    assert [s.arrays["mask"].tolist() for s in samples] == masks.tolist()
    assert [s.label for s in samples] == [0, 1, 2, 3]


def test_relative_to_the_workload_then_to_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    save(tmp_path / "a.npz", x=ROWS)
    monkeypatch.setenv("EDGEDEPLOY_DATA", str(tmp_path))
    spec = DataSpec(layout="npz", data="a.npz")
    assert len(open_dataset(spec, (X,), str(tmp_path / "here"))) == 4


def test_count_is_balanced_over_the_labels(tmp_path: Path) -> None:
    spec = save(tmp_path / "a.npz", x=np.zeros((40, 3), np.float32), y=np.arange(40) // 10)
    dataset = open_dataset(DataSpec(layout="npz", data=spec.data, count=4), (X,), "")
    assert [s.label for s in dataset] == [0, 1, 2, 3]


def test_headers_alone_are_read_until_samples_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    spec = save(path, x=np.zeros((20000, 3), np.float32))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    dataset = open_dataset(spec, (X,), "")
    assert len(dataset) == 20000
    with pytest.raises(DataError, match="array 'x' cannot be read"):
        next(iter(dataset))


def test_label_count_must_match(tmp_path: Path) -> None:
    spec = save(tmp_path / "a.npz", x=ROWS, y=np.arange(3))
    with pytest.raises(DataError, match="is mislabelled: 3 labels in 'y' for 4 samples"):
        open_dataset(spec, (X,), "")


def test_evaluation_needs_labels(tmp_path: Path) -> None:
    spec = save(tmp_path / "a.npz", x=ROWS)
    with pytest.raises(DataError, match="has no label"):
        open_dataset(evaluation(spec), (X,), "")


def test_unlike_sample_counts(tmp_path: Path) -> None:
    spec = save(tmp_path / "a.npz", x=ROWS, mask=np.zeros((5, 2), np.int64))
    with pytest.raises(DataError, match="unlike sample counts: x 4, mask 5"):
        open_dataset(spec, (X, MASK), "")


def test_a_missing_input(tmp_path: Path) -> None:
    spec = save(tmp_path / "a.npz", x=ROWS, masks=np.zeros((4, 2), np.int64))
    with pytest.raises(DataError, match="has no array 'mask'") as caught:
        open_dataset(spec, (X, MASK), "")
    assert "'masks'" in caught.value.hint


@pytest.mark.parametrize("rows", [np.zeros((0, 3), np.float32), np.float32(1)])
def test_no_samples(tmp_path: Path, rows: npt.ArrayLike) -> None:
    dataset = open_dataset(save(tmp_path / "a.npz", x=rows), (X,), "")
    with pytest.raises(DataError, match="is empty: 0 samples"):
        len(dataset)


def test_no_arrays(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no array 'x': found none"):
        open_dataset(save(tmp_path / "a.npz"), (X,), "")


def test_wrong_dtype_names_the_sample(tmp_path: Path) -> None:
    spec = save(tmp_path / "a.npz", x=ROWS.astype(np.float64))
    with pytest.raises(DataError, match=r"a\.npz\[0\].*found dtype float64, expected float32"):
        list(open_dataset(spec, (X,), ""))


def test_nan_names_the_sample(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[2, 1] = np.nan
    with pytest.raises(DataError, match=r"a\.npz\[2\]: input 'x' holds NaN in 1 of 3 values"):
        list(open_dataset(save(tmp_path / "a.npz", x=rows), (X,), ""))


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    spec = save(tmp_path / "a.npz", x=np.array([{}, None], dtype=object))
    with pytest.raises(DataError, match="holds pickled objects"):
        open_dataset(spec, (X,), "")


@pytest.mark.parametrize("cut", [10, 100, -30])
def test_cut_short(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.npz"
    spec = save(path, x=ROWS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"is not a sound \.npz file"):
        open_dataset(spec, (X,), "")


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.touch()
    with pytest.raises(InputError, match="is empty"):
        open_dataset(DataSpec(layout="npz", data=str(path)), (X,), "")


def test_normalize_arrays_makes_bytes_into_the_input_dtype(tmp_path: Path) -> None:
    spec = save(tmp_path / "a.npz", x=np.array([[10, 20, 30]], np.uint8))
    x = InputSpec(
        name="x", shape=(1, 3), dtype="float32", mean=(10.0,), std=(5.0,), normalize_arrays=True
    )
    sample = next(iter(open_dataset(spec, (x,), "")))
    assert sample.arrays["x"].dtype == np.float32
    assert sample.arrays["x"].tolist() == [0.0, 2.0, 4.0]
