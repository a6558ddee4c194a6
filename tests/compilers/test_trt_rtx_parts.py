"""What needs no TensorRT-RTX: its log read, files prepared without it, an engine read back."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import pytest
import tiny_onnx as tiny

# as the builder writes them, shortened
DETAILED = """Layers:
Name: __myl_MulMinMaxRounCast_myl0_0, LayerType: kgen, Inputs: [ { Name: image, \
Dimensions: [1,3,8,8], Datatype: Float, Format: (Linear) Row major linear format }], \
Constants: [ { Name: c0, Dimensions: [1], Datatype: Float, Format: (Linear) }], \
Outputs: [ { Name: t0, Dimensions: [1,4,8,8], StrideOrder: [3,0,2,1], Datatype: Int8, \
Format: (NHWC) Channel major format }], TacticName: t, StreamId: 0, \
Metadata: [ONNX Layer: image_QuantizeLinear]\x1f[ONNX Layer: list[0]]
Name: /first/Conv_myl0_1, LayerType: correlation, Inputs: [ { Name: t0, \
Dimensions: [1,4,8,8], Datatype: Int8, Format: (NHWC) }], Constants: [ { Name: w, \
Dimensions: [8,4,3,3], Datatype: Int8, Format: (NHWC) }, { Name: s, Dimensions: [8], \
Datatype: Float, Format: (Linear) }], Outputs: [ { Name: y, Dimensions: [1,8,8,8], \
Datatype: Half, Format: (NHWC) }], TacticName: u, StreamId: 0, Metadata: [ONNX Layer: first]

I/O Tensors:
 Name: image, IOMode: Input, DataType: Float, Dimensions: [1,3,8,8], Location: Device
"""
SHORT = """Engine Layer Information:
Layer(CaskConvolution): first + relu, Tactic: 0x1, x (Float[1,3,8,8]) -> y (Float[1,8,8,8])
Layer(Reformat): Reformatting CopyNode for Output Tensor 0, Tactic: 0x0, y -> z
"""


@pytest.fixture(scope="module")
def rtx() -> ModuleType:
    """The program, imported without its toolchain; its modules are on sys.path then."""
    return tiny.program("compilers", "trt_rtx")


@pytest.fixture
def model(tmp_path: Path) -> str:
    return tiny.conv_net(tmp_path / "net.onnx")


@pytest.mark.usefixtures("rtx")
def test_layers_of_an_engine_are_read_from_the_log() -> None:
    from trt_layers import counted, layers_in

    layers = layers_in(DETAILED)
    assert [layer["name"] for layer in layers] == [
        "__myl_MulMinMaxRounCast_myl0_0",
        "/first/Conv_myl0_1",
    ]
    assert layers[0]["nodes"] == ["image_QuantizeLinear", "list[0]"]
    assert layers[1] == {
        "name": "/first/Conv_myl0_1",
        "kind": "correlation",
        "inputs": ["int8"],
        "constants": ["int8", "float32"],
        "outputs": ["float16"],
        "nodes": ["first"],
    }
    assert counted(layers) == {
        "engine_kinds": {"kgen": 1, "correlation": 1},
        "engine_inputs": {"int8": 1},
    }
    assert layers_in(SHORT) == [
        {"name": "first + relu", "kind": "CaskConvolution"},
        {"name": "Reformatting CopyNode for Output Tensor 0", "kind": "Reformat"},
    ]
    assert counted(layers_in(SHORT))["engine_inputs"] == {}


@pytest.mark.usefixtures("rtx")
def test_a_build_without_a_result_is_explained_by_what_it_logged() -> None:
    from trt_faults import BadInput, Missing, of_builder

    def meant(error: str) -> Exception:
        return of_builder([error], {"workspace_bytes": 512})

    nothing = meant("Skipping tactic: no tactics within workspace limit")
    assert isinstance(nothing, BadInput)
    assert "workspace_bytes = 512" in str(nothing)
    assert isinstance(meant("Cuda Runtime (cudaError 35: CUDA driver version is ...)"), Missing)
    assert isinstance(meant("libnvinfer_lean.so.1: cannot open shared object file"), Missing)
    other = meant("Internal Error 10: could not find\nany implementation")
    assert type(other) is RuntimeError
    assert str(other).endswith("no engine: Internal Error 10: could not find any implementation")


def test_prepared_without_the_toolchain(rtx: ModuleType, model: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    options = {"compute_capability": "8.6,12.0", "workspace_bytes": 64 << 20}
    answer = rtx.prepare_model(model, str(output), "fp32", None, options)
    assert answer["files"] == ["commands.txt", "model.onnx"]
    assert sorted(path.name for path in output.iterdir()) == answer["files"]
    assert (output / "model.onnx").read_bytes() == Path(model).read_bytes()
    words = (output / "commands.txt").read_text().replace("\\\n", " ").split()
    assert words == [
        "tensorrt_rtx",
        "--onnx=model.onnx",
        "--saveEngine=model.engine",
        "--memPoolSize=workspace:64M",
        "--computeCapabilities=86,120",
        "--noTF32",
        "--skipInference",
    ]
    assert answer["script"] == (output / "commands.txt").read_text()


def test_the_prepared_command_has_the_profile(rtx: ModuleType, model: str, tmp_path: Path) -> None:
    answer = rtx.prepare_model(model, str(tmp_path), "tf32", None, {"max_batch": 8})
    words = answer["script"].replace("\\\n", " ").split()
    shapes = ["--minShapes=x:1x3x16x16", "--optShapes=x:8x3x16x16", "--maxShapes=x:8x3x16x16"]
    assert words[3:] == [*shapes, "--useGpu", "--skipInference"]
    dims = onnx.load(str(tmp_path / "model.onnx")).graph.input[0].type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch"


def test_an_absent_toolchain_is_missing_with_the_remedy(
    rtx: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    rtx.library.cache_clear()
    with pytest.raises(rtx.Missing, match="cannot be imported") as caught:
        rtx.probe()
    assert "pip install 'tensorrt-rtx" in caught.value.hint


@pytest.mark.usefixtures("rtx")
def test_an_engine_is_read_back_where_a_card_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trt_inspect

    text = json.dumps({"Layers": [{"Name": "a"}, {"Name": "b"}]})
    given: dict[str, Any] = {}

    class Engine:
        num_layers = 3
        device_memory_size_v2 = 4096

        def create_engine_inspector(self) -> Any:
            return SimpleNamespace(get_engine_information=lambda kind: text)

    class Runtime:
        def __init__(self, logger: object) -> None:
            given["logger"] = logger

        def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
            return Engine() if data == b"engine" else None

    trt: Any = SimpleNamespace(Runtime=Runtime, LayerInformationFormat=SimpleNamespace(JSON=1))
    log: Any = SimpleNamespace(logger="the logger")
    here = SimpleNamespace(name="RTX 4090", capability="8.9", why="")
    monkeypatch.setattr(trt_inspect, "card", lambda: here)
    found, why = trt_inspect.inspected(trt, log, b"engine", tmp_path)
    assert (found, why) == ({"inspected_layers": 2, "device_memory_bytes": 4096}, "")
    assert (tmp_path / "inspector.json").read_text() == text
    assert given["logger"] == "the logger"
    assert trt_inspect.inspected(trt, log, b"for another card", tmp_path) == (
        {},
        "the card here, RTX 4090 of compute capability 8.9, refuses it",
    )
    here.why = "no NVIDIA driver"
    assert trt_inspect.inspected(trt, log, b"engine", tmp_path) == ({}, "no NVIDIA driver")
