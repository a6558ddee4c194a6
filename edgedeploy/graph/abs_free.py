"""|x| without Abs, for a target that has none."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedeploy.graph.links import Links, fresh, label, replace_nodes
from edgedeploy.graph.shapes import dimensions, with_shapes

IMAGE_RANK = 4


def abs_free(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The model with each Abs of floats written otherwise, equal to the bit, and what was done.

    Images (four axes) take `PRelu` with slope -1, one node that integers compute exactly with one
    exponent; other shapes `Relu(x) + Relu(-x)`. A leaky ReLU would do as well, but 16-bit
    toolchains put it into a table with fewer entries than it has inputs.
    """
    links = Links(model)
    known = with_shapes(model).graph
    kinds = {v.name: v for v in [*known.input, *known.value_info, *known.output]}
    changes: dict[int, list[onnx.NodeProto]] = {}
    slope = fresh(model, "abs_slope")
    for index, node in enumerate(links.nodes):
        value = kinds.get(node.input[0]) if node.op_type == "Abs" else None
        if value is None or value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            continue
        if len(dimensions(value)) == IMAGE_RANK:
            changes[index] = _as_prelu(node, slope)
        else:
            changes[index] = _as_sum(model, node)
    if not changes:
        return model, []
    result = replace_nodes(model, changes)
    if any(slope in node.input for node in result.graph.node):
        weight = numpy_helper.from_array(np.full((1, 1, 1), -1, np.float32), slope)
        result.graph.initializer.append(weight)
    return result, [f"{len(changes)} Abs written without Abs"]


def _as_prelu(node: onnx.NodeProto, slope: str) -> list[onnx.NodeProto]:
    return [helper.make_node("PRelu", [node.input[0], slope], node.output, name=label(node))]


def _as_sum(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    x, stem = node.input[0], label(node)
    minus, above, below = (fresh(model, f"{stem}_{part}") for part in ("minus", "above", "below"))
    return [
        helper.make_node("Neg", [x], [minus], name=f"{stem}_minus"),
        helper.make_node("Relu", [x], [above], name=f"{stem}_above"),
        helper.make_node("Relu", [minus], [below], name=f"{stem}_below"),
        helper.make_node("Add", [above, below], node.output, name=stem),
    ]
