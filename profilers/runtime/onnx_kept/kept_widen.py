"""A graph of float16 or bfloat16 as one that computes in float32 and rounds each result."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx

Kinds = dict[str, int]
FLOAT = onnx.TensorProto.FLOAT
NARROW = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}
# attributes that name the type of what a node gives, or computes in
KIND_ATTRIBUTES = {"to", "dtype", "output_dtype", "stash_type"}
# what gives its inputs' own values, so that nothing is left to round
MOVES = {
    *("Abs", "Concat", "Constant", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather"),
    *("GatherElements", "GatherND", "GlobalMaxPool", "Identity", "If", "Loop", "Max", "MaxPool"),
    *("Min", "Neg", "Pad", "ReduceMax", "ReduceMin", "Relu", "Reshape", "ScatterND", "Slice"),
    *("SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze", "Where"),
}


def kinds_in(model: onnx.ModelProto) -> set[int]:
    """The element types of all that a model writes down: tensors, values, attributes."""
    found: set[int] = set()
    for graph in graphs(model.graph):
        found |= {int(tensor.data_type) for tensor in tensors(graph)}
        found |= set(kinds_of(graph).values())
        found |= {
            int(attribute.i)
            for node in graph.node
            for attribute in node.attribute
            if attribute.name in KIND_ATTRIBUTES
        }
    return found


def widen(model: onnx.ModelProto, path: Path) -> None:
    """Make a model of float16 or bfloat16 one that computes in float32 and rounds each result.

    ONNX Runtime has next to no bfloat16 on a CPU, and computes chains of float16 in float32 without
    rounding between, so that an overflow would not show; casts that are written out it keeps.
    `path` is the model's file. Raises `ValueError` where the type of a value cannot be told.
    """
    shaped = inferred(path)
    for graph in graphs(model.graph):
        for tensor in tensors(graph):
            if tensor.data_type in NARROW:
                wide = onnx.numpy_helper.to_array(tensor).astype(np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))
    kinds = kinds_of(shaped.graph)
    ends = [value.name for value in [*model.graph.input, *model.graph.output]]
    # the model's own ends keep their type and name; within, they are wide under another
    renamed = {name: f"{name}/wide" for name in ends if kinds[name] in NARROW}
    casts = [
        onnx.helper.make_node("Cast", [value.name], [renamed[value.name]], to=FLOAT)
        for value in model.graph.input
        if value.name in renamed
    ]
    widen_graph(model.graph, shaped.graph, {}, renamed)
    nodes = [*casts, *copies(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def inferred(path: Path) -> onnx.ModelProto:
    """A model's file with the types of its values, without weights that lie beside it."""
    with tempfile.TemporaryDirectory(prefix="kept-") as work:
        shaped = Path(work, "shapes.onnx")
        onnx.shape_inference.infer_shapes_path(str(path), str(shaped))
        return onnx.load(str(shaped), load_external_data=False)


def widen_graph(
    graph: onnx.GraphProto, shaped: onnx.GraphProto, outer: Kinds, renamed: dict[str, str]
) -> None:
    """As `widen`, the nodes of one graph; `shaped` is the same graph with types of its values."""
    kinds = {**outer, **kinds_of(shaped)}
    nodes: list[onnx.NodeProto] = []
    for node, twin in zip(graph.node, shaped.node, strict=True):
        for inner, twin_inner in zip(subgraphs(node), subgraphs(twin), strict=True):
            widen_graph(inner, twin_inner, kinds, renamed)
            for value in [*inner.input, *inner.output]:
                if value.type.tensor_type.elem_type in NARROW:
                    value.type.tensor_type.elem_type = FLOAT
        for attribute in node.attribute:
            if attribute.name in KIND_ATTRIBUTES and attribute.i in NARROW:
                attribute.i = FLOAT
        node.input[:] = [renamed.get(name, name) for name in node.input]
        rounding: list[onnx.NodeProto] = []
        for place, name in enumerate(node.output):
            if name and name not in kinds:
                msg = f"the type of {name!r}, which {node.op_type} gives, is not known"
                raise ValueError(msg)
            if kinds.get(name) in NARROW:
                node.output[place], more = rounded(node.op_type, name, kinds[name], renamed)
                rounding += more
        nodes += [node, *rounding]
    kept = copies(nodes)
    del graph.node[:]
    del graph.value_info[:]
    graph.node.extend(kept)


def rounded(
    op_type: str, name: str, kind: int, renamed: dict[str, str]
) -> tuple[str, list[onnx.NodeProto]]:
    """What a node is to give in the place of `name`, and the casts that round it."""
    wide = renamed.get(name, name)
    if op_type in MOVES:
        last = [onnx.helper.make_node("Cast", [wide], [name], to=kind)] if wide != name else []
        return wide, last
    narrow = name if wide != name else f"{name}/narrow"
    return f"{name}/exact", [
        onnx.helper.make_node("Cast", [f"{name}/exact"], [narrow], to=kind),
        onnx.helper.make_node("Cast", [narrow], [wide], to=FLOAT),
    ]


def copies(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Nodes that live on when the list they were in is emptied."""
    return [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]


def graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """A graph and all within it."""
    return [graph, *(each for node in graph.node for g in subgraphs(node) for each in graphs(g))]


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs in a node's attributes."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Initializers, and tensors in attributes, of one graph."""
    held = [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    return [*graph.initializer, *held]


def kinds_of(graph: onnx.GraphProto) -> Kinds:
    """Element types by the names of values, as far as the graph tells them."""
    values = [*graph.value_info, *graph.input, *graph.output]
    found = {value.name: int(value.type.tensor_type.elem_type) for value in values}
    return found | {tensor.name: int(tensor.data_type) for tensor in graph.initializer}
