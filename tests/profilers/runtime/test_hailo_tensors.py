"""Wire conversions of the Hailo runtime: raw pictures come back exactly, axes go where due."""

import json
from pathlib import Path
from typing import Any

import hailo_artifacts
import numpy as np
import pytest
from hailort_faults import BadInput
from hailort_tensors import Edge, Manifest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

PATH = Path("model.json")
sides = st.integers(1, 6)


def edge(shape: list[int], layout: str | None, **more: Any) -> Edge:
    wire = shape[1:]
    if layout == "NCHW" and len(shape) == 4:
        wire = [shape[2], shape[3], shape[1]]
    said = {"name": "x", "layer": "n/x", "dtype": "float32", "shape": shape, "layout": layout}
    return Edge({**said, "wire_shape": wire, **more}, PATH)


def goes_in(shape: list[int], layout: str | None, **more: Any) -> Edge:
    return edge(shape, layout, **{"wire_dtype": "uint8", **more})


@given(st.data(), sides, sides, st.integers(1, 4))
def test_raw_pictures_come_back_exactly_from_what_the_model_takes(
    data: st.DataObject, height: int, width: int, channels: int
) -> None:
    reverse, layout = data.draw(st.booleans()), data.draw(st.sampled_from(["NCHW", "NHWC"]))
    raw = data.draw(arrays.arrays(np.uint8, (height, width, channels)))
    positive = st.floats(0.5, 255, width=32)
    std = data.draw(st.lists(positive, min_size=channels, max_size=channels))
    mean = data.draw(st.lists(positive, min_size=channels, max_size=channels))
    model = (raw.astype(np.float32) - np.float32(mean)) / np.float32(std)
    value = (model.transpose(2, 0, 1) if layout == "NCHW" else model)[None]
    shape = list(value.shape)
    one = goes_in(shape, layout, scale=std, offset=mean, reverse_channels=reverse)
    wire = one.to_wire(value)
    assert np.array_equal(wire, raw[..., ::-1] if reverse else raw)
    assert wire.dtype == np.uint8
    assert wire.flags.c_contiguous
    assert wire.flags.writeable
    assert not np.shares_memory(wire, value)


@given(arrays.arrays(np.float32, (1, 2, 3, 4), elements=st.floats(-1e6, 1e6, width=32)))
def test_floats_cross_untouched_but_for_their_axes(value: Any) -> None:
    one = goes_in([1, 2, 3, 4], "NCHW", wire_dtype="float32")
    assert np.array_equal(one.to_wire(value), value[0].transpose(1, 2, 0))
    assert np.array_equal(edge([1, 2, 3, 4], "NCHW").from_wire(one.to_wire(value)), value)


def test_uint8_is_rounded_to_the_nearest_and_held_within_its_range() -> None:
    one = goes_in([1, 7], None, wire_shape=[7])
    value = np.array([[-3, -0.4, 0.5, 1.5, 254.6, 255.4, 1e9]], np.float32)
    assert one.to_wire(value).tolist() == [0, 0, 0, 2, 255, 255, 255]


def test_one_scale_stands_for_all_channels() -> None:
    one = goes_in([1, 3, 1, 2], "NCHW", scale=[100.0], offset=[1.0])
    value = np.arange(6, dtype=np.float32).reshape(1, 3, 1, 2) / 4
    assert one.to_wire(value).tolist() == [[[1, 51, 101], [26, 76, 126]]]


@given(sides, sides, sides)
def test_outputs_come_back_in_the_models_layout_whatever_shape_the_chip_has(
    height: int, width: int, channels: int
) -> None:
    value = np.random.default_rng(0).normal(size=(1, channels, height, width)).astype(np.float32)
    one = edge(list(value.shape), "NCHW")
    wire = value[0].transpose(1, 2, 0)
    assert np.array_equal(one.from_wire(np.ascontiguousarray(wire)), value)
    assert np.array_equal(one.from_wire(np.ascontiguousarray(wire).reshape(1, -1)), value)


@pytest.mark.parametrize("wire", [(5,), (1, 1, 5), (1, 5)])
def test_vectors_are_told_by_their_element_count(wire: tuple[int, ...]) -> None:
    one = edge([1, 5], None, wire_shape=[5])
    buffer = np.arange(5, dtype=np.float32).reshape(wire)
    found = one.from_wire(buffer)
    assert found.tolist() == [[0, 1, 2, 3, 4]]
    assert not np.shares_memory(found, buffer)


def test_an_output_of_three_axes_whose_channels_stand_first() -> None:
    value = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    one = edge([1, 3, 4], "NCHW", wire_shape=[1, 4, 3])
    assert np.array_equal(one.from_wire(value[0].T.reshape(1, 4, 3)), value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"layout": "CHWN"}, "layout 'CHWN', expected one of ('NCHW', 'NHWC', None)"),
        ({"wire_dtype": "int8"}, "wire_dtype 'int8'"),
        ({"wire_shape": [8, 8, 4]}, "has other elements than wire_shape [8, 8, 4]"),
        ({"wire_shape": [3, 8, 8]}, "in NCHW is not wire_shape [3, 8, 8]"),
        ({"shape": [3, 8, 8]}, "layout NCHW with shape [3, 8, 8], wire_shape [8, 8, 3]"),
        ({"scale": [1.0, 2.0]}, "[2, 3] values of scale and offset for 3 channels"),
    ],
)
def test_entries_that_contradict_each_other_are_refused(
    tmp_path: Path, said: dict[str, Any], told: str
) -> None:
    first = hailo_artifacts.manifest()["inputs"][0]
    folder = hailo_artifacts.artifact(tmp_path, inputs=[{**first, **said}])
    with pytest.raises(BadInput, match="what cannot be") as caught:
        Manifest(folder)
    assert told in str(caught.value)
    assert "model.json goes where the HEF goes" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not JSON"),
        ("[]", "has format 'list', expected 1"),
        ('{"format": 2}', "has format 2, expected 1"),
        ('{"format": 1}', "lacks ['compiler', 'hw_arch', 'inputs', 'network'"),
        (None, "is missing: without it nothing says how the HEF's tensors are laid out"),
    ],
)
def test_a_model_json_that_is_none_is_refused(tmp_path: Path, text: str | None, told: str) -> None:
    folder = Path(hailo_artifacts.artifact(tmp_path))
    (folder / "model.json").unlink()
    if text is not None:
        (folder / "model.json").write_text(text)
    with pytest.raises(BadInput) as caught:
        Manifest(str(folder / "model.hef"))
    assert told in str(caught.value)


def test_inputs_that_are_not_described_are_refused(tmp_path: Path) -> None:
    folder = Path(hailo_artifacts.artifact(tmp_path))
    said = json.loads((folder / "model.json").read_text())
    del said["outputs"][0]["layer"]
    (folder / "model.json").write_text(json.dumps(said))
    with pytest.raises(BadInput, match=r"does not describe its inputs and outputs: .*layer"):
        Manifest(str(folder))


def test_a_folder_without_a_hef_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no HEF at .*model\.hef"):
        Manifest(str(tmp_path))


def test_wrong_inputs_are_refused_by_name_shape_and_type(tmp_path: Path) -> None:
    said = Manifest(hailo_artifacts.artifact(tmp_path))
    good = np.zeros((1, 3, 8, 8), np.float32)
    with pytest.raises(BadInput, match=r"inputs given are \['y'\], the model's are \['x'\]"):
        said.wire({"y": good})
    wrong = r"input 'x' is float64 \(1, 3, 8, 8\), expected float32 \(1, 3, 8, 8\)"
    with pytest.raises(BadInput, match=wrong):
        said.wire({"x": good.astype(np.float64)})
    with pytest.raises(BadInput, match=r"input 'x' is float32 \(1, 8, 8, 3\)"):
        said.wire({"x": good.transpose(0, 2, 3, 1)})
