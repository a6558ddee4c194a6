"""What options change in a workload, and which are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgedeploy.errors import InputError
from edgedeploy.overrides import configured, layout_of
from edgedeploy.workload import DataSpec, EvaluationSpec, InputSpec

Write = Callable[..., Path]


@pytest.fixture
def job(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A workload in a folder of its own; the user stands elsewhere."""
    path = write(
        "jobs/job.toml",
        """
        [model]
        source = "m.onnx"
        [[inputs]]
        name = "a"
        shape = [1, 3, 8, 8]
        mean = [0.1]
        std = [0.2]
        [[inputs]]
        [calibration]
        layout = "npz"
        data = "rows.npz"
        count = 7
        [evaluation]
        layout = "npz"
        data = "rows.npz"
        [run_options]
        spinning = true
        """,
    )
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return str(path)


def refused(source: str, **options: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        configured(source, **options)
    assert caught.value.hint
    return caught.value


def test_nothing_said_changes_nothing(job: str) -> None:
    workload = configured(job)
    assert workload.calibration == DataSpec(layout="npz", data="rows.npz", count=7)
    assert workload.inputs[0] == InputSpec(name="a", shape=(1, 3, 8, 8), mean=(0.1,), std=(0.2,))


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        (["1,4"], [("a", (1, 4)), (None, None)]),
        (["1,4", "2,5"], [("a", (1, 4)), (None, (2, 5))]),
        (["a=2,2"], [("a", (2, 2)), (None, None)]),
        (["b=2,2"], [("a", (1, 3, 8, 8)), (None, None), ("b", (2, 2))]),
        (["a = 2, 2"], [("a", (2, 2)), (None, None)]),
        (["x:0=2,2"], [("a", (1, 3, 8, 8)), (None, None), ("x:0", (2, 2))]),
        (["1", "2", "3"], [("a", (1,)), (None, (2,)), (None, (3,))]),
    ],
)
def test_shapes_by_name_or_in_order(job: str, shapes: list[str], expected: Any) -> None:
    inputs = configured(job, shapes=shapes).inputs
    assert [(spec.name, spec.shape) for spec in inputs] == expected


@pytest.mark.parametrize("text", ["", "1,", "1x3", "0,3", "-1,3", "a=", "1,3.5", "=", "1,,2"])
def test_what_is_no_shape(job: str, text: str) -> None:
    error = refused(job, shapes=[text])
    assert error.message == f"--shape {text!r} is not a shape"
    assert error.hint == "Write name=1,3,224,224 with whole numbers from 1."


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=6), st.booleans())
def test_shapes_as_written_are_read(sizes: list[int], named: bool) -> None:
    text = ",".join(map(str, sizes))
    inputs = configured("digits", shapes=[f"in={text}" if named else text]).inputs
    assert inputs[1 if named else 0].shape == tuple(sizes)


def test_mean_and_std_are_of_the_first_input_and_hold_for_arrays(job: str) -> None:
    first, second = configured(job, mean="0.4,0.5,0.6").inputs
    assert (first.mean, first.std) == ((0.4, 0.5, 0.6), (0.2,))
    assert first.normalize_arrays
    assert second == InputSpec()
    assert configured(job, std="1").inputs[0].mean == (0.1,)


@pytest.mark.parametrize("text", ["gray", "0.5,", "0.5;0.5", "nan", "1,inf"])
@pytest.mark.parametrize("option", ["mean", "std"])
def test_what_is_no_mean(job: str, option: str, text: str) -> None:
    error = refused(job, **{option: text})
    assert error.message == f"--{option} {text!r} is not numbers"


def test_a_path_is_seen_from_here(job: str) -> None:
    np.savez("mine.npz", x=np.zeros((2, 3)))
    workload = configured(job, calibration="mine.npz", samples=5)
    here = str(Path("mine.npz").resolve())
    assert workload.calibration == DataSpec(layout="npz", data=here, count=5)


def test_a_path_is_seen_from_the_workload_next(job: str) -> None:
    np.savez(Path(job).parent / "rows.npz", x=np.zeros((2, 3)))
    assert configured(job, calibration="rows.npz").calibration == DataSpec(
        layout="npz", data="rows.npz"
    )


def test_a_loader_and_a_metric_are_seen_from_here(job: str, write: Write) -> None:
    code = write("here/load.py", "def load(split): ...\nclass Metric: ...\n")
    workload = configured(
        job, calibration="load.py:load", evaluation="load.py:load", metric="load.py:Metric"
    )
    assert workload.calibration == DataSpec(layout="python", data=f"{code}:load")
    assert workload.evaluation == EvaluationSpec(
        layout="python", data=f"{code}:load", split="test", metric=f"{code}:Metric"
    )
    assert configured(job, calibration="package.module:load").calibration == DataSpec(
        layout="python", data="package.module:load"
    )
    changed = configured(job, metric="load.py:Metric").evaluation
    assert changed is not None
    assert (changed.metric, changed.data) == (f"{code}:Metric", "rows.npz")


def test_seeded_data_needs_none(job: str) -> None:
    assert configured(job, calibration="seeded").calibration == DataSpec(layout="seeded")


def test_samples_alone(job: str) -> None:
    found = configured(job, samples=3).calibration
    assert found == DataSpec(layout="npz", data="rows.npz", count=3)


def test_threads_join_the_run_options(job: str) -> None:
    assert configured(job, threads=2).run_options == {"spinning": True, "threads": 2}


def test_a_metric_without_an_evaluation_set(write: Write) -> None:
    path = write("net.toml", "[model]\nsource = 'm.onnx'\n")
    error = refused(str(path), metric="top5")
    assert error.message == ("--metric top5 judges an evaluation set, and workload 'net' has none")


# --- layouts told from what lies there


@pytest.fixture
def places(tmp_path: Path) -> Path:
    (tmp_path / "cifar").mkdir()
    (tmp_path / "cifar" / "test_batch").write_bytes(b"x")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "images" / "a.png")
    (tmp_path / "images.zip").write_bytes(b"PK")
    np.savez(tmp_path / "d.npz", x=np.zeros(3))
    (tmp_path / "d.csv").write_text("1,2")
    return tmp_path


@pytest.mark.parametrize(
    ("data", "calibrating", "judging"),
    [
        ("cifar", "cifar10", "cifar10"),
        ("images", "images", "imagenet"),
        ("images.zip", "images", "imagenet"),
        ("d.npz", "npz", "npz"),
        ("load.py:load", "python", "python"),
        ("seeded", "seeded", "seeded"),
    ],
)
def test_layouts_are_told_from_what_lies_there(
    places: Path, data: str, calibrating: str, judging: str
) -> None:
    assert layout_of(data, str(places), labelled=False) == calibrating
    assert layout_of(data, str(places), labelled=True) == judging


def test_what_is_no_data(places: Path) -> None:
    with pytest.raises(InputError, match=r"data 'd\.csv' is neither a folder, a \.zip, an \.npz"):
        layout_of("d.csv", str(places), labelled=False)
    with pytest.raises(InputError, match="data 'gone' not found: looked at"):
        layout_of("gone", str(places), labelled=False)
