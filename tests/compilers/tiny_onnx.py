"""ONNX models of a few nodes and samples for them, made on the spot."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).parents[2]
Array = NDArray[Any]


def program(folder: str, name: str) -> ModuleType:
    """A fresh copy of a program, imported as serve.py does: not by its package's name."""
    alias = f"edgedeploy_test_{folder.replace('/', '_')}_{name}"
    spec = importlib.util.spec_from_file_location(alias, ROOT / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module
    spec.loader.exec_module(module)
    return module


def value(
    name: str, shape: Sequence[int | str] | None, kind: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: dict[str, Array] | None = None,
    *,
    opset: int = 17,
) -> str:
    """Save a model of these nodes; its path."""
    constants = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), str(path))
    return str(path)


def conv_net(
    path: Path, *, batch: int | str = 1, opset: int = 17, kind: type[np.floating[Any]] = np.float32
) -> str:
    """x (batch, 3, 16, 16) -> Conv Relu, depthwise Conv Clip, Conv + skip, mean, Gemm -> y of 5."""
    draw = np.random.default_rng(3)

    def normal(*shape: int, fan_in: int) -> Array:
        return (draw.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(kind)

    weights = {
        "w1": normal(8, 3, 3, 3, fan_in=27),
        "b1": normal(8, fan_in=50),
        "w2": normal(8, 1, 3, 3, fan_in=9),
        "w3": normal(8, 8, 1, 1, fan_in=8),
        "b3": normal(8, fan_in=50),
        "w4": normal(5, 8, fan_in=2),
        "b4": normal(5, fan_in=50),
        "zero": np.array(0, kind),
        "six": np.array(6, kind),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], name="relu"),
        node("Conv", ["r1", "w2"], ["c2"], name="depthwise", pads=[1, 1, 1, 1], group=8),
        node("Clip", ["c2", "zero", "six"], ["r2"], name="clip"),
        node("Conv", ["r2", "w3", "b3"], ["c3"], name="pointwise"),
        node("Add", ["r1", "c3"], ["sum"], name="skip"),
        node("GlobalAveragePool", ["sum"], ["mean"], name="pool"),
        node("Flatten", ["mean"], ["flat"], name="flatten"),
        node("Gemm", ["flat", "w4", "b4"], ["y"], name="classifier", transB=1),
    ]
    onnx_kind = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    inputs = [value("x", (batch, 3, 16, 16), onnx_kind)]
    outputs = [value("y", (batch, 5), onnx_kind)]
    return write(path, nodes, inputs, outputs, weights, opset=opset)


def images(count: int = 16, *, seed: int = 0, kind: type[np.floating[Any]] = np.float32) -> Array:
    """`count` inputs of `conv_net`, each a whole inference."""
    return np.random.default_rng(seed).standard_normal((count, 1, 3, 16, 16)).astype(kind)


def samples(path: Path, **arrays: Array) -> str:
    """An .npz of samples; its path."""
    named: dict[str, Any] = dict(arrays)
    np.savez(path, **named)
    return str(path)


def outputs_of(model: str, array: Array, name: str = "y") -> Array:
    """An output of a model for each sample, by an ONNX Runtime session with default options."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    key = session.get_inputs()[0].name
    return np.stack([session.run([name], {key: sample})[0] for sample in array])


def snr_db(truth: Array, other: Array) -> float:
    """Signal to noise of `other` against `truth`."""
    exact = truth.astype(np.float64)
    return float(10 * np.log10(np.sum(exact**2) / np.sum((exact - other) ** 2)))


def node_named(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def maker_of(model: onnx.ModelProto, tensor: str) -> onnx.NodeProto:
    """The node that makes a tensor, which is neither an input nor a weight."""
    return next(node for node in model.graph.node if tensor in node.output)


def constant(model: onnx.ModelProto, name: str) -> Array:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return numpy_helper.to_array(tensor)


def range_of(model: onnx.ModelProto, tensor: str) -> tuple[float, float]:
    """The real numbers at the ends of the uint8 range a tensor is quantized to."""
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and tensor in n.input)
    scale, zero = float(constant(model, node.input[1])), int(constant(model, node.input[2]))
    return (0 - zero) * scale, (255 - zero) * scale
