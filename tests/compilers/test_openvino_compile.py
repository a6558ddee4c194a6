"""ONNX to OpenVINO IR and what cannot be converted."""

from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import tiny_onnx as tiny
from onnx import helper

pytestmark = pytest.mark.skipif(
    find_spec("openvino") is None, reason="the optional toolchain OpenVINO is not installed"
)


@pytest.fixture(scope="module")
def openvino() -> ModuleType:
    return tiny.program("compilers", "openvino")


@pytest.fixture(scope="module")
def ort() -> ModuleType:
    return tiny.program("compilers", "ort")


@pytest.fixture
def model(tmp_path: Path) -> str:
    return tiny.conv_net(tmp_path / "net.onnx")


@pytest.fixture
def quantized(ort: ModuleType, model: str, tmp_path: Path) -> str:
    data = tiny.samples(tmp_path / "calibration.npz", x=tiny.images())
    return str(ort.quantize_model(model, str(tmp_path), data, {})["path"])


def layer_types(path: str) -> set[str | None]:
    return {layer.get("type") for layer in ElementTree.parse(path).iter("layer")}


def test_fp32_is_an_ir_with_weights_of_32_bits_beside_it(
    openvino: ModuleType, model: str, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    output.mkdir()
    answer = openvino.compile_model(model, str(output), "fp32", None, {})
    assert answer["path"] == str(output / "model.xml")
    assert answer["format"] == "openvino-ir"
    assert answer["tools"] == openvino.probe()["tools"]
    assert sorted(p.name for p in output.iterdir()) == ["model.bin", "model.xml"]
    assert (output / "model.bin").stat().st_size > 4 * (8 * 27 + 8 * 9 + 64 + 40)
    root = ElementTree.parse(answer["path"]).getroot()
    kinds = {data.get("element_type") for data in root.iter("data") if data.get("element_type")}
    assert "f16" not in kinds
    assert str(tmp_path) not in (output / "model.xml").read_text()


def test_int8_keeps_the_quantization(
    openvino: ModuleType, model: str, quantized: str, tmp_path: Path
) -> None:
    path = openvino.compile_model(quantized, str(tmp_path), "int8", None, {})["path"]
    assert {"FakeQuantize", "Convolution", "GroupConvolution"} <= layer_types(path)
    with pytest.raises(openvino.BadInput, match="neither Q/DQ nor integer operators"):
        openvino.compile_model(model, str(tmp_path), "int8", None, {})


def test_operators_without_a_conversion_are_unsupported_and_all_named(
    openvino: ModuleType, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["d"], name="det"),
        helper.make_node("Mend", ["d"], ["y"], name="mend", domain="com.microsoft"),
    ]
    ends = [tiny.value("x", (1, 4, 4))], [tiny.value("y", None)]
    path = tiny.write(tmp_path / "odd.onnx", nodes, *ends)
    with pytest.raises(openvino.Unsupported) as caught:
        openvino.compile_model(path, str(tmp_path), "fp32", None, {})
    assert type(caught.value).__name__ == "Unsupported"
    assert "Det-17" in str(caught.value)
    assert "Mend" in str(caught.value)
    assert caught.value.hint


def test_integer_operators_by_channel_are_unsupported_and_named(
    openvino: ModuleType, ort: ModuleType, quantized: str, tmp_path: Path
) -> None:
    integers = ort.compile_model(quantized, str(tmp_path), "int8", None, {})["path"]
    with pytest.raises(openvino.Unsupported, match="QLinearConv"):
        openvino.compile_model(integers, str(tmp_path), "int8", None, {})


def test_wrong_precision_option_and_file_are_refused(
    openvino: ModuleType, model: str, tmp_path: Path
) -> None:
    with pytest.raises(openvino.Unsupported, match="'fp16'"):
        openvino.compile_model(model, str(tmp_path), "fp16", None, {})
    with pytest.raises(openvino.BadInput, match="option 'threads' is not known") as caught:
        openvino.compile_model(model, str(tmp_path), "fp32", None, {"threads": 1})
    assert "run_options" in caught.value.hint
    with pytest.raises(openvino.BadInput, match="does not exist"):
        openvino.compile_model(str(tmp_path / "absent.onnx"), str(tmp_path), "fp32", None, {})
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(Path(model).read_bytes()[:1000])
    with pytest.raises(openvino.BadInput, match=r"cut\.onnx is no model OpenVINO can read"):
        openvino.compile_model(str(cut), str(tmp_path), "fp32", None, {})
