"""Representative inputs: matched to the model, batched, and kept under all that determines them."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx_graphs as graphs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgedeploy.calibrate import (
    array_sha256,
    calibrate,
    collect,
    data_spec,
    declared_inputs,
    guess_layout,
    inferences,
    match_inputs,
    open_sample,
    resolve_inputs,
    save_arrays,
)
from edgedeploy.data.python import open_object
from edgedeploy.errors import DataError
from edgedeploy.records import Tensor
from edgedeploy.workload import DataSpec, EvaluationSpec, InputSpec, ModelSpec, Workload

Write = Callable[..., Path]

X = InputSpec(name="x", shape=(1, 3), dtype="float32")
ROWS = np.arange(30, dtype=np.float32).reshape(10, 3)


def job(folder: Path, **fields: Any) -> Workload:
    return Workload(name="job", model=ModelSpec(source="m.onnx"), folder=str(folder), **fields)


def npz_job(folder: Path, rows: np.ndarray = ROWS, **spec: Any) -> Workload:
    np.savez(folder / "rows.npz", x=rows)
    return job(folder, calibration=DataSpec(layout="npz", data="rows.npz", **spec))


# --- inputs


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ([], {}),
        (["a", "b"], {"a": 0, "b": 1}),
        (["b", "a"], {"b": 0, "a": 1}),
        ([None, None], {"a": 0, "b": 1}),
        (["b", None], {"b": 0, "a": 1}),
        ([None, "a"], {"b": 0, "a": 1}),
        ([None], {"a": 0}),
    ],
)
def test_declared_inputs_are_matched(declared: list[str | None], expected: dict[str, int]) -> None:
    specs = tuple(InputSpec(name=name, mean=(float(i),)) for i, name in enumerate(declared))
    found = match_inputs(specs, ["a", "b"])
    assert {name: int((spec.mean or (9,))[0]) for name, spec in found.items()} == expected


@pytest.mark.parametrize("declared", [["c"], ["a", "a"], ["a", "b", None]])
def test_declared_inputs_the_model_does_not_have(declared: list[str | None]) -> None:
    specs = tuple(InputSpec(name=name) for name in declared)
    with pytest.raises(DataError) as caught:
        match_inputs(specs, ["a", "b"])
    shown = ", ".join(name or "(unnamed)" for name in declared)
    assert caught.value.message == (f"the workload declares inputs {shown}; the model's are a, b")


def test_inputs_take_from_the_model_what_they_do_not_say() -> None:
    tensors = (
        Tensor(name="image", dtype="float32", shape=(1, 8, 8, 3)),
        Tensor(name="size", dtype="int64", shape=(1, 2)),
    )
    workload = job(Path(), inputs=(InputSpec(mean=(0.5,)), InputSpec(name="size")))
    image, size = resolve_inputs(workload, tensors)
    assert (image.name, image.shape, image.dtype) == ("image", (1, 8, 8, 3), "float32")
    assert (image.layout, image.mean) == ("NHWC", (0.5,))
    assert (size.name, size.dtype, size.layout) == ("size", "int64", None)


def test_a_dtype_that_is_not_the_models() -> None:
    tensors = (Tensor(name="x", dtype="float32", shape=(1, 3)),)
    with pytest.raises(DataError, match="input 'x' is declared uint8; the model's is float32"):
        resolve_inputs(job(Path(), inputs=(InputSpec(dtype="uint8"),)), tensors)
    with pytest.raises(DataError, match="input 'x': there is no dtype 'float31'") as caught:
        resolve_inputs(job(Path(), inputs=(InputSpec(dtype="float31"),)), tensors)
    assert caught.value.hint == "Did you mean 'float32'?"


def test_a_workload_that_tells_all_of_its_inputs() -> None:
    whole = InputSpec(name="x", shape=(1, 3, 8, 8), dtype="float32")
    (found,) = declared_inputs(job(Path(), inputs=(whole,)))
    assert (found.name, found.layout) == ("x", "NCHW")
    assert declared_inputs(job(Path(), inputs=(whole, InputSpec(name="y", shape=(1,))))) == ()
    assert declared_inputs(job(Path())) == ()


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 3, 224, 224), "NCHW"),
        ((1, 224, 224, 3), "NHWC"),
        ((1, 1, 28, 28), "NCHW"),
        ((4, 32, 32, 4), "NHWC"),
        ((1, 16, 8, 8), "NCHW"),
        ((1, 3, 3, 3), "NCHW"),
        ((1, 128), None),
        ((1, 3, 4, 224, 224), None),
    ],
)
def test_layouts_are_told_from_the_shape(shape: tuple[int, ...], layout: str | None) -> None:
    assert guess_layout(shape) == layout


def test_where_inputs_for_parity_come_from(tmp_path: Path) -> None:
    calibration = DataSpec(layout="images", data="a")
    evaluation = EvaluationSpec(layout="npz", data="b")
    assert data_spec(job(tmp_path, calibration=calibration, evaluation=evaluation)) == calibration
    assert data_spec(job(tmp_path, evaluation=evaluation)) == evaluation
    assert data_spec(job(tmp_path)).layout == "seeded"


# --- batches


@given(count=st.integers(1, 25), batch=st.integers(1, 7))
def test_batches_hold_every_sample_once_and_the_last_is_filled(count: int, batch: int) -> None:
    rows = np.arange(count, dtype=np.float32)[:, None]
    labels = list(range(count))
    inputs = (InputSpec(name="x", shape=(batch, 1), dtype="float32"),)
    pairs = list(zip(rows, labels, strict=True))
    dataset = open_object(pairs, inputs, DataSpec(layout="python"))
    found = list(inferences(dataset, inputs))
    assert len(found) == -(-count // batch)
    assert [label for _, taken in found for label in taken] == labels
    flat = [value for arrays, _ in found for value in arrays["x"][:, 0].tolist()]
    assert flat == [*labels, *[count - 1] * (len(found) * batch - count)]
    assert all(arrays["x"].shape == (batch, 1) for arrays, _ in found)
    assert all(arrays["x"].flags["C_CONTIGUOUS"] for arrays, _ in found)


@given(count=st.integers(1, 12), wanted=st.integers(1, 12), batch=st.integers(1, 3))
def test_collected_inferences(count: int, wanted: int, batch: int) -> None:
    inputs = (InputSpec(name="x", shape=(batch, 3), dtype="float32"),)
    dataset = open_object(list(ROWS[:1].repeat(count, 0)), inputs, DataSpec(layout="python"))
    found = collect(dataset, inputs, wanted)
    assert found["x"].shape == (min(wanted, -(-count // batch)), batch, 3)


def test_inputs_without_a_common_batch_axis(tmp_path: Path) -> None:
    inputs = (X, InputSpec(name="anchors", shape=(9, 4), dtype="float32"))
    with pytest.raises(DataError) as caught:
        open_sample(DataSpec(layout="seeded"), inputs, str(tmp_path), 1)
    assert caught.value.message == (
        "the inputs' first axes differ (x: 1, anchors: 9); it must be one batch axis for all"
    )


def test_two_inputs_stay_together(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", a=ROWS, b=-ROWS[:, :2])
    inputs = (
        InputSpec(name="a", shape=(2, 3), dtype="float32"),
        InputSpec(name="b", shape=(2, 2), dtype="float32"),
    )
    dataset = open_sample(DataSpec(layout="npz", data="d.npz"), inputs, str(tmp_path), 9)
    found = collect(dataset, inputs, 9)
    assert (found["a"].shape, found["b"].shape) == ((5, 2, 3), (5, 2, 2))
    np.testing.assert_array_equal(found["b"], -found["a"][:, :, :2])


# --- the set


def test_the_set_is_kept_with_count_and_source(tmp_path: Path) -> None:
    made, cached = calibrate(npz_job(tmp_path), (X,))
    assert cached.event.outcome == "miss"
    assert made.count == 10
    assert made.source == f"10 samples in {tmp_path / 'rows.npz'}"
    with np.load(made.path) as arrays:
        np.testing.assert_array_equal(arrays["x"], ROWS[:, None])
    again, cached = calibrate(npz_job(tmp_path), (X,))
    assert cached.event.outcome == "hit"
    assert again == made


@pytest.mark.parametrize(("asked", "count"), [(None, 64), (3, 3), (200, 100)])
def test_how_many_samples(tmp_path: Path, asked: int | None, count: int) -> None:
    rows = np.random.default_rng(0).random((100, 3), np.float32)
    made, _ = calibrate(npz_job(tmp_path, rows, count=asked), (X,))
    assert made.count == count


def test_a_batch_of_four_takes_four_times_the_samples(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((100, 3), np.float32)
    wide = InputSpec(name="x", shape=(4, 3), dtype="float32")
    made, _ = calibrate(npz_job(tmp_path, rows, count=5), (wide,))
    with np.load(made.path) as arrays:
        assert arrays["x"].shape == (5, 4, 3)
        assert len(np.unique(arrays["x"][:, :, 0])) == 20


@given(st.data())
def test_the_fingerprint_changes_with_any_byte(data: st.DataObject) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = bytearray(array.tobytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    other = np.frombuffer(bytes(content), np.float32).reshape(2, 3)
    assert array_sha256(other) != array_sha256(array)
    assert array_sha256(array.copy()) == array_sha256(array)


def test_the_fingerprint_changes_with_shape_and_dtype() -> None:
    zeros = np.zeros((2, 3), np.float32)
    others = (zeros.reshape(3, 2), zeros.astype(np.int32), zeros[:1])
    assert len({array_sha256(a) for a in (zeros, *others)}) == 4


def test_the_fingerprint_is_of_the_samples_and_not_of_their_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first, _ = calibrate(npz_job(tmp_path / "one"), (X,))
    second, _ = calibrate(npz_job(tmp_path / "two"), (X,))
    assert first.fingerprint == second.fingerprint
    rows = ROWS.copy()
    rows[9, 2] += 1
    third, cached = calibrate(npz_job(tmp_path / "two", rows), (X,))
    assert cached.event.outcome == "miss"
    assert third.fingerprint != first.fingerprint


def test_one_changed_image_or_its_preparation_makes_another_set(tmp_path: Path) -> None:
    for i in range(3):
        pixels = np.full((4, 4, 3), 50 * i, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    inputs = InputSpec(name="x", shape=(1, 3, 4, 4), dtype="float32", layout="NCHW")
    workload = job(tmp_path, calibration=DataSpec(layout="images", data="."))
    first, _ = calibrate(workload, (inputs,))
    assert calibrate(workload, (inputs,))[1].event.outcome == "hit"
    changed = msgspec.structs.replace(inputs, std=(2.0,))
    second, cached = calibrate(workload, (changed,))
    assert cached.event.outcome == "miss"
    assert second.fingerprint != first.fingerprint
    Image.fromarray(np.full((4, 4, 3), 51, np.uint8)).save(tmp_path / "1.png")
    third, cached = calibrate(workload, (inputs,))
    assert cached.event.outcome == "miss"
    assert third.fingerprint != first.fingerprint


def test_no_calibration_data() -> None:
    with pytest.raises(DataError) as caught:
        calibrate(job(Path()), (X,))
    assert caught.value.message == "workload 'job' has no calibration data, which int8 needs"
    assert "--calibration" in caught.value.hint


# --- loaders in Python


LOADER = """
    import numpy as np
    from {module} import SCALE

    def load(split):
        with open({data!r}) as file:
            return [SCALE * np.full(3, float(line), np.float32) for line in file]
"""


@pytest.fixture
def loader(write: Write, tmp_path: Path) -> Workload:
    """A loader that imports another module and opens a file."""
    data = write("values.txt", "1\n2\n")
    module = f"scaling_{tmp_path.name}"
    write(f"{module}.py", "SCALE = 1")
    write("load.py", LOADER.format(data=str(data), module=module))
    return job(tmp_path, calibration=DataSpec(layout="python", data="load.py:load"))


def test_what_a_loader_reads_counts(loader: Workload, tmp_path: Path) -> None:
    first, cached = calibrate(loader, (X,))
    assert (first.count, cached.event.outcome) == (2, "miss")
    assert calibrate(loader, (X,))[1].event.outcome == "hit"
    (tmp_path / "note.txt").write_text("unrelated")
    assert calibrate(loader, (X,))[1].event.outcome == "hit"
    (tmp_path / "values.txt").write_text("1\n2\n3\n")
    second, cached = calibrate(loader, (X,))
    assert (second.count, cached.event.outcome) == (3, "miss")


def test_what_a_loader_imports_counts(loader: Workload, tmp_path: Path) -> None:
    calibrate(loader, (X,))
    (helper,) = tmp_path.glob("scaling_*.py")
    helper.write_text("SCALE = 1 + 1\n")
    assert calibrate(loader, (X,))[1].event.outcome == "miss"


def test_a_loader_is_not_run_for_a_hit(loader: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrate(loader, (X,))

    def called(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("edgedeploy.data.python.load_callable", called)
    assert calibrate(loader, (X,))[1].event.outcome == "hit"


# --- .npz


@given(
    st.dictionaries(
        st.text(
            st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=("Cs",)),
            min_size=1,
            max_size=12,
        ).filter(lambda name: not name.endswith(".npy")),
        st.integers(0, 5),
        min_size=1,
        max_size=4,
    )
)
def test_arrays_of_any_name_come_back(sizes: dict[str, int]) -> None:
    arrays = {name: np.arange(size) for name, size in sizes.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.npz")
        save_arrays(path, arrays)
        with np.load(path, allow_pickle=False) as found:
            assert {name: found[name].tolist() for name in found.files} == {
                name: array.tolist() for name, array in arrays.items()
            }


@pytest.mark.parametrize("name", ["file", "allow_pickle", "inputs/a:b.c", "538", "kwds"])
def test_names_that_numpy_takes_for_its_own(tmp_path: Path, name: str) -> None:
    save_arrays(tmp_path / "a.npz", {name: graphs.draw(2, 3)})
    with np.load(tmp_path / "a.npz") as found:
        np.testing.assert_array_equal(found[name], graphs.draw(2, 3))


def test_objects_are_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        save_arrays(tmp_path / "a.npz", {"x": np.array([None])})
