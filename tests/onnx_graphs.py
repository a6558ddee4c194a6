"""ONNX models of a few nodes, in memory and as files, and their outputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Shape = Sequence[int | str | None]


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, outputs, **attributes)


def value(name: str, shape: Shape, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    weights: Mapping[str, Array] | None = None,
    *,
    opset: int = 18,
) -> onnx.ModelProto:
    """A model of float inputs and outputs."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [value(name, shape) for name, shape in inputs.items()],
        [value(name, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def saved(made: onnx.ModelProto, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(made, str(path))
    return path


def relu(shape: Shape = (1, 3, 8, 8), *, opset: int = 18) -> onnx.ModelProto:
    return model([node("Relu", ["x"], ["y"])], {"x": shape}, {"y": shape}, opset=opset)


def classifier(batch: int | str = 1, *, opset: int = 18, seed: int = 0) -> onnx.ModelProto:
    """x (batch, 3, 8, 8) -> Conv, Relu, mean, Gemm -> y (batch, 5), with weights from a seed."""
    draw = np.random.default_rng(seed)
    weights = {
        "w1": draw.standard_normal((6, 3, 3, 3)).astype(np.float32) / 3,
        "b1": draw.standard_normal(6).astype(np.float32) / 10,
        "w2": draw.standard_normal((5, 6)).astype(np.float32),
        "b2": draw.standard_normal(5).astype(np.float32) / 10,
    }
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"], name="relu"),
        node("GlobalAveragePool", ["r"], ["m"], name="mean"),
        node("Flatten", ["m"], ["f"], name="flat"),
        node("Gemm", ["f", "w2", "b2"], ["y"], name="head", transB=1),
    ]
    return model(nodes, {"x": (batch, 3, 8, 8)}, {"y": (batch, 5)}, weights, opset=opset)


def run(made: onnx.ModelProto | Path, **inputs: Array) -> list[Array]:
    """The outputs, without graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    source = str(made) if isinstance(made, Path) else made.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"])
    found: list[Array] = session.run(None, inputs)
    return found


def draw(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
