"""A model exported for one batch size, with its batch axis set free for an optimization profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trt_faults import BadInput, Missing, Unsupported
from trt_parse import dtype

if TYPE_CHECKING:
    from pathlib import Path

    from trt_parse import Parsed

    Table = dict[str, Any]
    Thing = Any  # of the library or of onnx, which is imported too late to be named

AXIS = "batch"
# what mixes the samples of a batch when it works along the first axis
MIXING = (
    "ArgMax",
    "ArgMin",
    "CumSum",
    "Hardmax",
    "LogSoftmax",
    "LpNormalization",
    "Softmax",
    "TopK",
)
HINT = "Leave `max_batch` out, or export the model with a batch axis that is free."
COMPUTED = ("float32", "float16", "bfloat16", "int8", "float8e4m3fn")


def free_batch(path: Path, chosen: Table) -> bool:
    """Rewrite the model in `path` so that the first axis of all its inputs is free.

    Done where `max_batch` asks for it and the axis is static; whether that was so. A Reshape to a
    constant shape that begins with the old batch size takes the size from its input. The network
    is to be checked by `check_batch` after parsing. Raises `Missing`, `BadInput`, `Unsupported`.
    """
    if not chosen["max_batch"]:
        return False
    try:
        import onnx
    except ImportError as error:
        msg = f"max_batch needs the package onnx to free the batch axis: {error}"
        raise Missing(msg, f"pip install onnx. {HINT}") from error
    proto = onnx.load(str(path), load_external_data=False)
    graph = proto.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    ends = [value for value in graph.input if value.name not in weights]
    sizes = {value.name: first_size(value) for value in ends}
    if 0 in sizes.values():
        return False
    if len(set(sizes.values())) != 1:
        msg = f"max_batch: the first axes of the inputs are {sizes}, expected one batch size"
        raise BadInput(msg, HINT)
    old = next(iter(sizes.values()))
    for node in graph.node:
        axis = next((a.i for a in node.attribute if a.name == "axis"), None)
        if node.op_type in MIXING and axis == 0:
            msg = f"max_batch: node {node.name!r} ({node.op_type}) works along the batch axis"
            raise Unsupported(msg, HINT)
        if node.op_type == "Reshape":
            follow(graph, node, weights, old)
    for value in [*ends, *graph.output]:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = AXIS
    del graph.value_info[:]
    onnx.save(proto, str(path))
    return True


def first_size(value: Thing) -> int:
    """The size of an input's first axis; 0 where it is free, or there is none."""
    dims = value.type.tensor_type.shape.dim
    return int(dims[0].dim_value) if dims else 0


def input_shapes(path: Path) -> dict[str, list[int]]:
    """The shapes of a model's inputs by name, -1 where a size is free."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    return {
        value.name: [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]
        for value in graph.input
        if value.name not in weights
    }


def follow(graph: Thing, node: Thing, weights: Table, old: int) -> None:
    """Let a Reshape to a constant shape that begins with the batch size take it from its input."""
    from onnx import numpy_helper

    shape = weights.get(node.input[1])
    if shape is None:
        made = [n for n in graph.node if n.op_type == "Constant" and node.input[1] in n.output]
        shape = next((a.t for n in made for a in n.attribute if a.name == "value"), None)
    allow_zero = any(a.name == "allowzero" and a.i for a in node.attribute)
    sizes = numpy_helper.to_array(shape).copy() if shape is not None else None
    if sizes is None or not sizes.size or sizes[0] != old or allow_zero:
        return
    sizes[0] = 0
    name = f"{node.output[0]}/{AXIS}"
    graph.initializer.append(numpy_helper.from_array(sizes, name))
    node.input[1] = name


def check_batch(parsed: Parsed) -> None:
    """Refuse a network in which a value loses the batch as its free first axis.

    Raises `Unsupported` naming the layer.
    """
    network = parsed.network
    carried = {network.get_input(place).name for place in range(network.num_inputs)}
    for place in range(network.num_layers):
        layer = network.get_layer(place)
        taken = [layer.get_input(end) for end in range(layer.num_inputs)]
        if not any(tensor is not None and tensor.name in carried for tensor in taken):
            continue
        for end in range(layer.num_outputs):
            tensor = layer.get_output(end)
            if dtype(tensor.dtype) not in COMPUTED:
                continue
            carried.add(tensor.name)
            shape = [int(size) for size in tensor.shape]
            if not shape or shape[0] != -1:
                msg = f"max_batch: layer {layer.name!r} gives {shape}, not the batch as first axis"
                raise Unsupported(msg, HINT)
