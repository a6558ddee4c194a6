"""Outputs on real inputs, held against reference ones: figures, infinities, shapes."""

from pathlib import Path

import numpy as np
import onnx_graphs as graphs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgedeploy.errors import ExportError
from edgedeploy.parity import differences, require_finite, require_parity, run_onnx, stack

INF = np.inf
VALUES = npst.arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32))


def test_the_largest_error_over_all_outputs() -> None:
    reference = {"a": np.array([[1.0, -2.0]]), "b": np.array([[1000.0]])}
    found = {"x": np.array([[1.0005, -2.0]]), "y": np.array([[1000.75]])}
    assert require_parity(found, reference) == pytest.approx(0.75)


@given(values=VALUES, factor=st.sampled_from([0.999, 1.001]))
def test_the_limit_is_a_thousandth_of_the_largest_value(values: np.ndarray, factor: float) -> None:
    scale = np.abs(values.astype(np.float64)).max()
    moved = values.astype(np.float64)
    moved[1, 2] += (1e-3 * scale + 1e-6) * factor
    if factor < 1:
        assert require_parity({"y": moved}, {"y": values}) <= 1e-3 * scale + 1e-6
        return
    with pytest.raises(ExportError, match="output 'y' differs by"):
        require_parity({"y": moved}, {"y": values})


@given(values=VALUES)
def test_equal_outputs_have_no_error(values: np.ndarray) -> None:
    assert require_parity({"y": values}, {"y": values.copy()}) == 0


def test_infinities_must_be_the_same() -> None:
    reference = {"y": np.array([1.0, INF, -INF])}
    assert require_parity({"y": np.array([1.0, INF, -INF])}, reference) == 0
    for wrong in ([1.0, INF, INF], [1.0, 3.0, -INF], [INF, INF, -INF], [np.nan, INF, -INF]):
        with pytest.raises(ExportError, match=r"differs by (inf|nan)"):
            require_parity({"y": np.array(wrong)}, reference)


def test_differences_of_every_kind() -> None:
    a = np.array([1, INF, INF, 2, np.nan], np.float32)
    b = np.array([3, INF, -INF, np.nan, np.nan], np.float32)
    found = differences(a, b)
    assert found.dtype == np.float64
    assert found[:3].tolist() == [2, 0, INF]
    assert np.isnan(found[3:]).all()


def test_other_shapes_are_named() -> None:
    with pytest.raises(ExportError) as caught:
        require_parity({"y": np.zeros((4, 1, 3))}, {"y": np.zeros((4, 1, 5))})
    assert caught.value.message == "output 'y' has shape (1, 3), expected (1, 5)"


def test_integer_truth_and_empty_outputs() -> None:
    truth = {"i": np.array([3, 9]), "t": np.array([True, False]), "e": np.zeros((2, 0))}
    assert require_parity(dict(truth), truth) == 0
    with pytest.raises(ExportError, match="output 't' differs by 1"):
        require_parity({**truth, "t": np.array([True, True])}, truth)


def test_stacking_outputs() -> None:
    assert stack("y", [np.zeros((1, 2)), np.ones((1, 2))]).shape == (2, 1, 2)
    with pytest.raises(ExportError) as caught:
        stack("boxes", [np.zeros((0, 4)), np.zeros((7, 4))])
    assert caught.value.message == (
        "the shape of output 'boxes' depends on values: (0, 4) and (7, 4) on different inputs"
    )
    with pytest.raises(ExportError, match="output 'text' is of <U1, no tensor of real numbers"):
        stack("text", [np.array(["a"])])


def test_only_nan_is_not_finite_enough() -> None:
    require_finite({"y": np.array([INF, 1.0]), "i": np.array([1])}, "the output")
    with pytest.raises(ExportError, match=r"the output holds NaN \('y'\)"):
        require_finite({"y": np.array([np.nan])}, "the output")


def test_running_a_model_sample_by_sample(tmp_path: Path) -> None:
    path = graphs.saved(graphs.classifier(), tmp_path / "m.onnx")
    images = graphs.draw(3, 1, 3, 8, 8)
    found = run_onnx(path, {"x": images})
    assert list(found) == ["y"]
    assert found["y"].shape == (3, 1, 5)
    np.testing.assert_array_equal(found["y"][2], graphs.run(path, x=images[2])[0])


@pytest.mark.parametrize("name", ["x", "image"])
def test_what_the_runtime_refuses(tmp_path: Path, name: str) -> None:
    path = graphs.saved(graphs.relu(), tmp_path / "m.onnx")
    with pytest.raises(ExportError, match="the model does not run on ONNX Runtime: ") as caught:
        run_onnx(path, {name: np.zeros((1, 1, 3, 9, 9), np.float32)})
    assert "\n" not in caught.value.message
