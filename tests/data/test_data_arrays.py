"""Arrays against inputs: what does not fit is said, with what was found and expected."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.data.arrays import (
    Slot,
    by_name,
    check_array,
    label_key,
    plain_label,
    slots_of,
    take_array,
    to_dtype,
)
from edgedeploy.errors import DataError
from edgedeploy.workload import InputSpec


def slot(shape: tuple[int, ...] = (1, 3, 4, 5), **settings: Any) -> Slot:
    given: dict[str, Any] = {"name": "x", "shape": shape, "dtype": "float32", "layout": "NCHW"}
    return slots_of((InputSpec(**{**given, **settings}),))[0]


def problem(array: np.ndarray[Any, Any], wanted: Slot) -> DataError:
    with pytest.raises(DataError) as caught:
        check_array(array, wanted, "a.npz[3]")
    return caught.value


def test_a_fitting_array_passes() -> None:
    check_array(np.zeros((3, 4, 5), np.float32), slot(), "a")


def test_shape_says_found_and_expected() -> None:
    error = problem(np.zeros((3, 4, 6), np.float32), slot())
    assert error.message == "a.npz[3]: input 'x' found shape (3, 4, 6), expected (3, 4, 5)"


def test_nhwc_data_for_nchw_input_is_told() -> None:
    error = problem(np.zeros((4, 5, 3), np.float32), slot())
    assert "fits after a NHWC to NCHW transpose: array.transpose(2, 0, 1)" in error.hint


def test_nchw_data_for_nhwc_input_is_told() -> None:
    wanted = slot((1, 4, 5, 3), layout="NHWC")
    error = problem(np.zeros((3, 4, 5), np.float32), wanted)
    assert "fits after a NCHW to NHWC transpose: array.transpose(1, 2, 0)" in error.hint


@given(st.permutations([2, 3, 5]))
def test_the_transpose_told_is_the_one_that_fits(shape: list[int]) -> None:
    for layout in ("NCHW", "NHWC"):
        wanted = slot((1, 2, 3, 5), layout=layout)
        if tuple(shape) == wanted.shape:
            continue
        hint = problem(np.zeros(shape, np.float32), wanted).hint
        if "transpose(2, 0, 1)" in hint:
            assert np.zeros(shape).transpose(2, 0, 1).shape == wanted.shape
        elif "transpose(1, 2, 0)" in hint:
            assert np.zeros(shape).transpose(1, 2, 0).shape == wanted.shape
        else:
            assert "reshape" in hint


def test_a_batch_axis_too_many_is_told() -> None:
    error = problem(np.zeros((1, 3, 4, 5), np.float32), slot())
    assert "leading axis of 1 too many" in error.hint


def test_dtype_says_how_to_convert() -> None:
    error = problem(np.zeros((3, 4, 5)), slot())
    assert error.message.endswith("found dtype float64, expected float32")
    assert "astype('float32')" in error.hint


def test_nan_is_counted() -> None:
    array = np.zeros((3, 4, 5), np.float32)
    array[0, 0, :2] = np.nan
    assert "holds NaN in 2 of 60 values" in problem(array, slot()).message


def test_infinity_is_a_value() -> None:
    check_array(np.full((3, 4, 5), -np.inf, np.float32), slot(), "mask")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": None}, "lacks its name, shape or dtype"),
        ({"shape": None}, "lacks its name, shape or dtype"),
        ({"dtype": "float17"}, "no data can be made for dtype 'float17'"),
        ({"value_range": (1.0, 1.0)}, "value_range 1 to 1 is not a range"),
    ],
)
def test_unresolved_inputs(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        slot(**settings)


def test_a_model_without_inputs() -> None:
    with pytest.raises(DataError, match="no inputs"):
        slots_of(())


def test_one_input_takes_the_only_array_whatever_its_name() -> None:
    assert by_name({"images": 1, "labels": 2}, (slot(),), "f") == {"x": 1}


def test_its_own_name_wins() -> None:
    assert by_name({"images": 1, "x": 3}, (slot(),), "f") == {"x": 3}


def test_a_missing_input_names_the_nearest() -> None:
    slots = (slot(name="tokens"), slot(name="mask"))
    with pytest.raises(DataError, match="f has no array 'mask': found masks, tokens") as caught:
        by_name({"tokens": 1, "masks": 2}, slots, "f")
    assert "'masks'" in caught.value.hint


def test_labels_are_found_unless_an_input_has_that_name() -> None:
    assert label_key({"x": 0, "y": 1}, (slot(),)) == "y"
    assert label_key({"x": 0, "y": 1}, (slot(name="y"),)) is None


def test_arrays_are_taken_as_they_are() -> None:
    array = np.ones((3, 4, 5), np.float32)
    assert take_array(array, slot(mean=(5.0,))) is array


def test_normalize_arrays_applies_mean_and_std_by_layout() -> None:
    settings: dict[str, Any] = {"mean": (1.0, 2.0, 3.0), "std": (1.0, 2.0, 4.0)}
    planes = slot((1, 3, 1, 1), normalize_arrays=True, **settings)
    rows = slot((1, 1, 1, 3), layout="NHWC", normalize_arrays=True, **settings)
    array = np.array([11, 12, 11], np.uint8)
    assert take_array(array.reshape(3, 1, 1), planes).ravel().tolist() == [10.0, 5.0, 2.0]
    assert take_array(array.reshape(1, 1, 3), rows).ravel().tolist() == [10.0, 5.0, 2.0]


def test_rounding_to_integers_is_half_to_even_and_stays_in_range() -> None:
    found = to_dtype(np.array([-3.0, 0.5, 1.5, 254.6, 300.0]), np.dtype("uint8"))
    assert found.tolist() == [0, 0, 2, 255, 255]


def test_plain_labels() -> None:
    assert type(plain_label(np.int64(3))) is int
    assert plain_label(None) is None
    assert plain_label("cat") == "cat"
    box = np.zeros((2, 4))
    assert plain_label(box) is box
