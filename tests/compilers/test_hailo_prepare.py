"""Without Hailo's SDK: what it would be given is written out, and the data turned for the chip."""

import json
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import hailo_networks as nets
import numpy as np
import onnx
import pytest
import tiny_onnx as tiny
from hailo_networks import dfc_faults, dfc_wire
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgedeploy.data.arrays import slots_of
from edgedeploy.data.image import prepare
from edgedeploy.workload import InputSpec

Table = dict[str, Any]


@pytest.fixture
def hailo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program where there is no SDK."""
    monkeypatch.setitem(sys.modules, "hailo_sdk_client", None)
    return nets.program()


def prepared(hailo: ModuleType, folder: Path, model: str, spec: Table, **options: object) -> Table:
    (folder / "out").mkdir(exist_ok=True)
    data = nets.data(folder / "c.npz", spec)
    made: Table = hailo.prepare_model(
        model, str(folder / "out"), "int8", data, options, inputs=[spec]
    )
    return made


def test_all_that_the_compiler_would_be_given_is_written_out(
    hailo: ModuleType, tmp_path: Path
) -> None:
    model, spec = nets.heads(tmp_path / "model.onnx"), nets.declared()
    answer = prepared(hailo, tmp_path, model, spec, network="digits")
    out = tmp_path / "out"
    files = ["calibration-x.npy", "commands.txt", "model.alls", "model.json", "model.onnx"]
    assert answer["files"] == files
    assert sorted(path.name for path in out.iterdir()) == files
    assert (out / "model.alls").read_text("utf-8") == answer["script"]
    assert "normalization1 = normalization([123.675, 116.28, 103.53]" in answer["script"]
    raw = np.load(out / "calibration-x.npy")
    assert raw.dtype == np.uint8
    np.testing.assert_array_equal(raw, nets.pictures(16)[:, 0].transpose(0, 2, 3, 1))
    sidecar = json.loads((out / "model.json").read_text("utf-8"))
    assert (sidecar["network"], sidecar["inputs"][0]["wire_dtype"]) == ("digits", "uint8")
    assert {each["layer"] for each in sidecar["inputs"] + sidecar["outputs"]} == {None}
    assert [each["wire_shape"] for each in sidecar["outputs"]] == [[8, 8, 5], [16, 16, 2]]
    assert answer["notes"] == []
    assert answer["warnings"] == [
        "16 calibration samples: optimization level 2 wants 1024 or more, and a GPU, or the"
        " compiler takes a lower one"
    ]
    assert answer["options"]["optimization_level"] == "default"


def test_the_commands_are_the_vendors_own_for_these_files(
    hailo: ModuleType, tmp_path: Path
) -> None:
    prepared(hailo, tmp_path, nets.heads(tmp_path / "two words.onnx"), nets.declared())
    text = (tmp_path / "out" / "commands.txt").read_text("utf-8")
    said, *lines = [shlex.split(line) for line in text.splitlines() if line[0] != "#"]
    names = [each.name for each in onnx.load(str(tmp_path / "out" / "model.onnx")).graph.node]
    assert names == ["c1", "r1", "score", "sigmoid", "box"]
    assert said == [
        *("hailo", "parser", "onnx", "model.onnx", "--net-name", "two_words"),
        *("--hw-arch", "hailo8", "--start-node-names", "x", "--end-node-names", "box", "sigmoid"),
        *("--tensor-shapes", "[1,3,16,16]", "--har-path", "two_words.har"),
    ]
    assert lines == [
        [
            *("hailo", "optimize", "two_words.har", "--hw-arch", "hailo8", "--calib-set-path"),
            *("calibration-x.npy", "--model-script", "model.alls"),
            *("--output-har-path", "two_words_quantized.har"),
        ],
        [
            *("hailo", "compiler", "two_words_quantized.har", "--hw-arch", "hailo8"),
            *("--output-dir", "."),
        ],
    ]
    assert "order: boxes, scores" in text


def test_what_is_wrong_already_is_told(hailo: ModuleType, tmp_path: Path) -> None:
    model = tiny.conv_net(tmp_path / "m.onnx")
    with pytest.raises(dfc_faults.BadInput, match="option 'levl' is not known"):
        prepared(hailo, tmp_path, model, nets.declared(), levl=2)
    with pytest.raises(dfc_faults.Unsupported, match="fp32"):
        hailo.prepare_model(model, str(tmp_path / "out"), "fp32", None, {})
    line = "normalization1 = normalization([0, 0, 0], [255, 255, 255])"
    with pytest.raises(dfc_faults.BadInput, match="double normalization"):
        prepared(hailo, tmp_path, model, nets.declared(), model_script=line)
    noted = prepared(hailo, tmp_path, model, nets.declared(), a16_w16=["first"])
    assert "quantization_param({first}, precision_mode=a16_w16)" in noted["script"]
    assert "become names of layers" in noted["notes"][0]
    (tmp_path / "bare").mkdir()
    bare = hailo.prepare_model(model, str(tmp_path / "bare"), "int8", None, {})
    assert bare["files"] == ["commands.txt", "model.alls", "model.json", "model.onnx"]
    assert bare["warnings"] == ["no calibration data was given: none is written out"]


@settings(deadline=None, max_examples=30)
@given(
    layout=st.sampled_from(["NCHW", "NHWC"]),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    mean=st.floats(-2, 2),
    std=st.floats(0.05, 4),
    reverse=st.booleans(),
    seed=st.integers(0, 99),
)
def test_raw_values_come_back_whole_from_prepared_ones(
    *,
    layout: str,
    channels: int,
    height: int,
    width: int,
    mean: float,
    std: float,
    reverse: bool,
    seed: int,
) -> None:
    sizes = (channels, height, width) if layout == "NCHW" else (height, width, channels)
    color = "bgr" if reverse else "rgb"
    spec = nets.declared((1, *sizes), layout=layout, mean=[mean], std=[std], color=color)
    raw = nets.pictures(3, (1, *sizes), seed)
    chosen = {"normalization": "chip", "input_color": "rgb"}
    tensor = {"name": "x", "dtype": "float32", "shape": [1, *sizes]}
    entry = {**dfc_wire.described_input(tensor, spec, chosen), "wire_dtype": "uint8"}
    sent = dfc_wire.as_sent(dfc_wire.to_wire(nets.prepared(raw, spec), entry), entry)
    last = np.moveaxis(raw[:, 0], 1, -1) if layout == "NCHW" else raw[:, 0]
    wanted = last[..., ::-1] if reverse and channels == 3 else last
    assert entry["reverse_channels"] == (reverse and channels == 3)
    assert sent.dtype == np.uint8
    assert sent.flags.c_contiguous
    np.testing.assert_array_equal(sent, wanted)


@settings(deadline=None, max_examples=30)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    count=st.integers(1, 3),
)
def test_outputs_come_back_in_the_models_layout(shape: tuple[int, int, int], count: int) -> None:
    channels, height, width = shape
    tensor = {"name": "y", "dtype": "float32", "shape": [1, *shape], "moved": False}
    entry = dfc_wire.described_output(tensor, "net/conv1", [height, width, channels])
    values = np.random.default_rng(0).standard_normal((count, 1, *shape)).astype(np.float32)
    wire = np.moveaxis(values[:, 0], 1, -1)
    np.testing.assert_array_equal(dfc_wire.to_model(wire, entry), values)


@pytest.mark.parametrize(
    ("shape", "wire", "moved", "layout"),
    [
        ([1, 8, 8, 4], [8, 8, 4], True, None),
        ([1, 4, 8, 8], [8, 8, 4], False, "NCHW"),
        ([1, 4, 4, 4], [4, 4, 4], True, None),
        ([1, 4, 4, 4], [4, 4, 4], False, "NCHW"),
        ([1, 64, 4], [1, 64, 4], True, None),
        ([1, 4, 64], [1, 64, 4], False, "NCHW"),
        ([1, 10], [10], False, None),
        ([1, 10], [1, 1, 10], False, None),
    ],
)
def test_the_layout_of_an_output_is_told_by_its_sizes(
    shape: list[int], wire: list[int], moved: bool, layout: str | None
) -> None:
    tensor = {"name": "y", "dtype": "float32", "shape": shape, "moved": moved}
    entry = dfc_wire.described_output(tensor, "net/l", wire)
    assert entry["layout"] == layout
    assert entry["wire_shape"] == ([10] if len(shape) == 2 else wire)


def test_an_output_that_became_another_is_unsupported() -> None:
    tensor = {"name": "y", "dtype": "float32", "shape": [1, 4, 8, 8], "moved": False}
    with pytest.raises(dfc_faults.Unsupported, match=r"gives \[8, 8, 2\] of net/l"):
        dfc_wire.described_output(tensor, "net/l", [8, 8, 2])
    with pytest.raises(dfc_faults.Unsupported, match="channels last"):
        dfc_wire.described_output(tensor, "net/l", [2, 8, 16])


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
def test_pictures_as_the_core_prepares_them_come_back_pixel_by_pixel(
    hailo: ModuleType, tmp_path: Path, color: str
) -> None:
    channels = 1 if color == "gray" else 3
    mean, std = (nets.MEAN, nets.STD) if channels == 3 else ([0.4], [0.2])
    pixels = np.random.default_rng(6).integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)
    spec = InputSpec(
        name="x",
        shape=(1, channels, 16, 16),
        dtype="float32",
        layout="NCHW",
        mean=tuple(mean),
        std=tuple(std),
        color=color,
    )
    (slot,) = slots_of((spec,))
    images = [Image.fromarray(each) for each in pixels]
    samples = np.stack([prepare(image, slot) for image in images])[:, np.newaxis]
    declared = nets.declared((1, channels, 16, 16), mean=mean, std=std, color=color)
    weights = {"w": np.ones((2, channels, 1, 1), np.float32)}
    model = tiny.write(
        tmp_path / "m.onnx",
        [onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
        [tiny.value("x", (1, channels, 16, 16))],
        [tiny.value("y", (1, 2, 16, 16))],
        weights,
    )
    (tmp_path / "out").mkdir()
    data = tiny.samples(tmp_path / "c.npz", x=samples)
    hailo.prepare_model(model, str(tmp_path / "out"), "int8", data, {}, inputs=[declared])
    found = np.load(tmp_path / "out" / "calibration-x.npy")
    wanted = {
        "rgb": pixels,
        "bgr": pixels[..., ::-1],
        "gray": np.stack([np.asarray(image.convert("L"))[..., None] for image in images]),
    }[color]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, wanted)
