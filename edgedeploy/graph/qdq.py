"""What explicit quantization on a GPU refuses in a graph of Q/DQ nodes."""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgedeploy.graph.links import Links, attribute, label
from edgedeploy.graph.read import QUANTIZED_OPS

PAIRS = frozenset({"QuantizeLinear", "DequantizeLinear"})
SYMMETRIC = {
    TensorProto.INT8: "int8",
    TensorProto.FLOAT8E4M3FN: "float8e4m3fn",
    TensorProto.INT4: "int4",
}


def check_qdq(model: onnx.ModelProto) -> list[str]:
    """What explicit quantization on a GPU refuses in a Q/DQ graph, each with its node; [] if none.

    Types other than int8, float8 E4M3 and int4 (uint8 activations, int32 biases), zero points other
    than 0, scales that are computed or not above 0, activations by channel, weights by another axis
    than that of their output channels, blocks of 8-bit numbers, and integer operators.
    """
    links, found = Links(model), []
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    for node, inside in _all_nodes(model.graph):
        if node.op_type not in QUANTIZED_OPS:
            continue
        if node.op_type not in PAIRS:
            why = "an integer operator, not Q/DQ"
        else:
            why = "Q/DQ in a body of control flow" if inside else _refused(node, links, ranks)
        if why:
            found.append(f"{node.op_type} {label(node)!r}: {why}")
    return found


def small_kind(node: onnx.NodeProto, links: Links) -> int | None:
    """The type of the integers or small floats of a Q or DQ node; None where it is not known."""
    names = [node.input[2]] if len(node.input) > 2 and node.input[2] else []
    if node.op_type == "DequantizeLinear":
        maker = links.node_of(node.input[0], "QuantizeLinear")
        if maker is not None:
            return small_kind(maker, links)
        names.append(node.input[0])
    for name in names:
        array = links.constant(name)
        if array is not None:
            return int(helper.np_dtype_to_tensor_dtype(array.dtype))
    if node.op_type == "DequantizeLinear" or names:
        return None
    said = attribute(node, "output_dtype", 0)
    return said if isinstance(said, int) and said else int(TensorProto.UINT8)


def channel_axis(node: onnx.NodeProto, rank: int) -> int:
    """The axis of a Q or DQ node's scales, counted from the front."""
    axis = attribute(node, "axis", 1)
    return (axis if isinstance(axis, int) else 1) % rank


def _all_nodes(
    graph: onnx.GraphProto, *, inside: bool = False
) -> Iterator[tuple[onnx.NodeProto, bool]]:
    """The nodes of a graph and of the bodies in it, with whether they are in a body."""
    for node in graph.node:
        yield node, inside
        for entry in node.attribute:
            for body in [entry.g] if entry.HasField("g") else entry.graphs:
                yield from _all_nodes(body, inside=True)


def _refused(node: onnx.NodeProto, links: Links, ranks: Mapping[str, int]) -> str:
    """Why explicit quantization refuses a Q or DQ node; empty where it does not."""
    kind = small_kind(node, links)
    if node.domain not in {"", "ai.onnx"}:
        return f"of domain {node.domain}, not of ONNX"
    if kind is None:
        return "the type of its integers is not known"
    if kind not in SYMMETRIC:
        name = TensorProto.DataType.Name(kind).lower()
        bias = ", as of a quantized bias" if kind == TensorProto.INT32 else ""
        return f"{name}{bias}; {', '.join(SYMMETRIC.values())} are taken"
    if kind != TensorProto.INT4 and attribute(node, "block_size", 0):
        return f"{SYMMETRIC[kind]} in blocks, which only int4 may be"
    return _refused_numbers(node, links) or _wrong_axis(node, links, ranks)


def _refused_numbers(node: onnx.NodeProto, links: Links) -> str:
    """Why its scale or zero point is refused."""
    scale = links.constant(node.input[1])
    if scale is None:
        return "its scale is computed, not constant"
    sizes = scale.astype(np.float64)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        return "a scale is not above 0"
    if len(node.input) > 2 and node.input[2]:
        zero = links.constant(node.input[2])
        if zero is None:
            return "its zero point is computed, not constant"
        points = zero.astype(np.float64).ravel()
        if points.any():
            return f"zero point {points[np.abs(points).argmax()]:g}: asymmetric"
    return ""


def _wrong_axis(node: onnx.NodeProto, links: Links, ranks: Mapping[str, int]) -> str:
    """Why scales by channel are refused; empty where they are not, or there is one scale."""
    scale = links.constant(node.input[1])
    if scale is None or scale.size == 1 or attribute(node, "block_size", 0):
        return ""
    maker = links.node_of(node.input[0], "QuantizeLinear")
    name = str(maker.input[0]) if maker is not None else str(node.input[0])
    weight = links.constant(name)
    rank = weight.ndim if weight is not None else ranks.get(name)
    if rank is None:
        return f"{scale.size} scales by channel for an activation, which takes one"
    users = [links.nodes[i] for i in links.users.get(node.output[0], [])]
    pairs = [user for user in users if user.op_type in PAIRS]
    if pairs and node.op_type == "QuantizeLinear":
        return ""  # its DequantizeLinear is asked
    axis = channel_axis(node, rank)
    for user in users:
        wanted = _wanted_axis(user, node.output[0], rank)
        if wanted is None:
            return f"scales by channel for {user.op_type} {label(user)!r}, which takes one"
        if axis != wanted:
            return f"scales along axis {axis}; {user.op_type} {label(user)!r} takes axis {wanted}"
    return ""


def _wanted_axis(user: onnx.NodeProto, name: str, rank: int) -> int | None:
    """The axis of the output channels of a weight, for the operators that take one by channel."""
    if len(user.input) < 2 or user.input[1] != name:
        return None
    if user.op_type == "Gemm":
        return 0 if attribute(user, "transB") else 1
    return {"Conv": 0, "ConvTranspose": 1, "MatMul": rank - 1}.get(user.op_type)
