"""Parameters and multiply-accumulates of a static graph."""

import math

import onnx
from onnx import TensorProto

from edgedeploy.graph.read import real_inputs
from edgedeploy.graph.shapes import dimensions

WEIGHT_TYPES = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.BFLOAT16,
        TensorProto.DOUBLE,
        TensorProto.INT8,
        TensorProto.UINT8,
    }
)


def parameters(model: onnx.ModelProto) -> int:
    """Elements of all float and 8-bit weights of one or more axes (scales of one value are not)."""
    return sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.dims and tensor.data_type in WEIGHT_TYPES
    )


def macs(model: onnx.ModelProto) -> tuple[int | None, str | None]:
    """Multiply-accumulates of one inference, or None and why.

    Convolutions, transposed convolutions and matrix products count, biases, normalisation,
    activations and resizing do not.
    """
    shapes = _shapes(model)
    total = 0
    for node in model.graph.node:
        counted = _COUNTED.get(node.op_type)
        if counted is None:
            continue
        first, weight = (0, 3) if node.op_type.startswith("QLinear") else (0, 1)
        names = (node.input[first], node.input[weight], node.output[0])
        known = [shapes.get(name) for name in names]
        if any(shape is None or any(isinstance(d, str) for d in shape) for shape in known):
            return None, f"the shapes around {node.op_type} {node.name!r} are not known"
        sizes = [tuple(int(d) for d in shape) for shape in known if shape is not None]
        total += counted(node, *sizes)
    return total, None


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    values = [*real_inputs(model), *model.graph.value_info, *model.graph.output]
    found = {v.name: dimensions(v) for v in values if v.type.tensor_type.HasField("shape")}
    found.update({t.name: tuple(t.dims) for t in model.graph.initializer})
    for node in model.graph.node:  # quantizing changes no shape
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"} and node.input[0] in found:
            found.setdefault(node.output[0], found[node.input[0]])
    return found


def _convolution(
    node: onnx.NodeProto, _: tuple[int, ...], weight: tuple[int, ...], out: tuple[int, ...]
) -> int:
    return math.prod(out) * math.prod(weight[1:])


def _transposed(
    node: onnx.NodeProto, first: tuple[int, ...], weight: tuple[int, ...], _: tuple[int, ...]
) -> int:
    return math.prod(first) * math.prod(weight[1:])


def _product(
    node: onnx.NodeProto, first: tuple[int, ...], _: tuple[int, ...], out: tuple[int, ...]
) -> int:
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(out) * (first[-2] if transposed else first[-1])


_COUNTED = {
    "Conv": _convolution,
    "QLinearConv": _convolution,
    "ConvInteger": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _product,
    "MatMul": _product,
    "QLinearMatMul": _product,
    "MatMulInteger": _product,
}
