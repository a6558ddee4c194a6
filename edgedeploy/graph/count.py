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
    """Elements of all weights and biases of one or more axes.

    The statistics of normalisation and the scales and zero points of quantizing are none; integer
    biases are.
    """
    others: set[str] = set()
    biases: set[str] = set()
    for node in model.graph.node:
        others.update(
            node.input[i] for i in _NO_WEIGHTS.get(node.op_type, ()) if i < len(node.input)
        )
        if node.op_type in {"DequantizeLinear", "QLinearConv"}:
            biases.update(node.input[i] for i in (0, 8) if i < len(node.input))
    return sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.dims
        and tensor.name not in others
        and (
            tensor.data_type in WEIGHT_TYPES
            or (tensor.data_type == TensorProto.INT32 and tensor.name in biases)
        )
    )


def macs(model: onnx.ModelProto) -> tuple[int | None, str | None]:
    """Multiply-accumulates of one inference, or None and why.

    Convolutions, transposed convolutions and matrix products count, biases, normalisation,
    activations and resizing do not. Products inside of control flow or of a recurrent layer cannot
    be counted from the graph.
    """
    shapes = _shapes(model)
    total = 0
    for node in model.graph.node:
        if node.op_type in _UNCOUNTED or _has_products(node):
            return None, f"the products in {node.op_type} {node.name!r} are not counted"
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


def _has_products(node: onnx.NodeProto) -> bool:
    """Whether a body of control flow holds what would count."""
    bodies = [a.g for a in node.attribute if a.HasField("g")]
    return any(n.op_type in _COUNTED or _has_products(n) for body in bodies for n in body.node)


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
_UNCOUNTED = frozenset({"Attention", "DeformConv", "Einsum", "GRU", "LSTM", "RNN"})
# positions of inputs that are statistics, scales or zero points
_NO_WEIGHTS = {
    "BatchNormalization": (3, 4),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "Resize": (1, 2),
    "Upsample": (1,),
}
