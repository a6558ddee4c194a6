"""Models and calls for the tests of the TensorRT compiler's program, on its stand-in."""

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import tiny_onnx as tiny
from onnx import TensorProto, helper, numpy_helper

FAKES = tiny.ROOT / "tests" / "fakes"
PROGRAM = tiny.ROOT / "compilers" / "trt.py"
VERSIONS = {"10": "10.3.0+standin", "11": "11.4.0+standin"}
ORIN = {"name": "Orin (stand-in)", "compute_capability": "8.7", "integrated": True}
H200 = {"name": "NVIDIA H200 (stand-in)", "compute_capability": "9.0"}
PACKAGES = ("tensorrt", "cuda")
Table = dict[str, Any]
node = helper.make_node


_loaded: dict[str, dict[str, ModuleType]] = {}  # the stand-in's modules by major


def place(monkeypatch: pytest.MonkeyPatch, major: str, gpu: Table | None) -> None:
    """The stand-in of this major can be imported, on this GPU; None is a host without a driver."""
    forget()
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setenv("TENSORRT_STANDIN_MAJOR", major)
    monkeypatch.setenv("TENSORRT_STANDIN_GPU", json.dumps(gpu) if gpu else "")
    if major not in _loaded:
        importlib.import_module("cuda.bindings.runtime")
        importlib.import_module("tensorrt")
        _loaded[major] = {name: sys.modules[name] for name in standins()}
    sys.modules.update(_loaded[major])


def standins() -> list[str]:
    """The stand-in's modules that are loaded."""
    return [name for name in sys.modules if name.split(".")[0] in PACKAGES]


def forget() -> None:
    """Let nothing of a stand-in, or of what was found on it, stay for other tests."""
    for name in standins():
        del sys.modules[name]
    for name, clear in (("trt_card", "card.cache_clear"), ("trt_log", "_logs.clear")):
        found: Any = sys.modules.get(name)
        for part in clear.split(".") if found else ():
            found = getattr(found, part)
        if found:
            found()


def program() -> Any:
    """The program; its folders come onto the path with it."""
    return tiny.program("compilers", "trt")


def standin() -> ModuleType:
    return importlib.import_module("tensorrt")


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    weights: dict[str, onnx.TensorProto],
    *,
    opset: int = 21,
) -> str:
    """A model x -> y, x of this shape, whose weights are tensors of any type."""
    for name, tensor in weights.items():
        tensor.name = name
    ends = [tiny.value(name, sizes) for name, sizes in (("x", shape), ("y", None))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], list(weights.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), str(path))
    return str(path)


def kernel(*shape: int, kind: int = TensorProto.FLOAT, seed: int = 1) -> onnx.TensorProto:
    """Random weights of an ONNX type."""
    values = np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)
    return helper.make_tensor("w", kind, shape, values.ravel().tolist())


def float_net(path: Path, batch: int | str = 1) -> str:
    """Conv and Relu in float32."""
    nodes = [node("Conv", ["x", "w"], ["c"], "stem"), node("Relu", ["c"], ["y"], "relu")]
    return save(path, nodes, [batch, 3, 8, 8], {"w": kernel(4, 3, 3, 3)})


def typed_net(path: Path, kind: int) -> str:
    """The same in float16 or bfloat16, its ends in float32."""
    nodes = [
        node("Cast", ["x"], ["h"], "narrow", to=kind),
        node("Conv", ["h", "w"], ["c"], "stem"),
        node("Relu", ["c"], ["r"], "relu"),
        node("Cast", ["r"], ["y"], "wide", to=TensorProto.FLOAT),
    ]
    return save(path, nodes, [1, 3, 8, 8], {"w": kernel(4, 3, 3, 3, kind=kind)}, opset=22)


def quantized_net(path: Path, kind: int = TensorProto.INT8, zero: float = 0) -> str:
    """The same with Q/DQ nodes around its convolution."""
    weights = {
        "w": kernel(4, 3, 3, 3),
        "s": helper.make_tensor("s", TensorProto.FLOAT, [], [0.05]),
        "z": helper.make_tensor("z", kind, [], [zero]),
        "ws": helper.make_tensor("ws", TensorProto.FLOAT, [], [0.01]),
        "wz": helper.make_tensor("wz", kind, [], [0]),
    }
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        node("DequantizeLinear", ["q", "s", "z"], ["d"], "dq"),
        node("QuantizeLinear", ["w", "ws", "wz"], ["wq"], "wq"),
        node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], "wdq"),
        node("Conv", ["d", "wd"], ["c"], "stem"),
        node("Relu", ["c"], ["y"], "relu"),
    ]
    return save(path, nodes, [1, 3, 8, 8], weights)


def sparse_net(path: Path, *, external: bool = False) -> str:
    """Two convolutions, the second with two zeros among each four input channels; a product."""
    dense = np.random.default_rng(2).normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32)
    halved = np.random.default_rng(3).normal(0, 0.3, (8, 8, 1, 1)).astype(np.float32)
    halved[:, 0::4] = halved[:, 3::4] = 0
    weights = {"w1": dense, "w2": halved, "w3": np.ones((2, 8), np.float32)}
    nodes = [
        node("Conv", ["x", "w1"], ["a"], "dense", pads=[1, 1, 1, 1]),
        node("Conv", ["a", "w2"], ["b"], "halved"),
        node("GlobalAveragePool", ["b"], ["c"], "pool"),
        node("Flatten", ["c"], ["d"], "flatten"),
        node("Gemm", ["d", "w3"], ["y"], "classifier", transB=1),
    ]
    tensors = {name: numpy_helper.from_array(array, name) for name, array in weights.items()}
    saved = save(path, nodes, [1, 3, 8, 8], tensors)
    if external:
        model = onnx.load(saved)
        onnx.save(
            model, saved, save_as_external_data=True, location=path.name + ".data", size_threshold=0
        )
    return saved


def unknown_net(path: Path) -> str:
    """A network with two operators that TensorRT does not have."""
    nodes = [
        node("Relu", ["x"], ["r"], "relu"),
        node("Det", ["r"], ["d"], "determinant"),
        node("Unique", ["d"], ["y"], "distinct"),
    ]
    return save(path, nodes, [2, 3, 3], {})
