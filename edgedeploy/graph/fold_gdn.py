"""Generalised divisive normalisation with its parameters folded to constants."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgedeploy.graph.links import (
    Links,
    attribute,
    fresh,
    label,
    needed,
    replace_nodes,
    used_names,
)

POWERS = frozenset({1.0, 0.5, -1.0, -0.5})


def fold_gdn(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The model with each GDN as a plain 1x1 Conv and what is left of it, and what was done.

    GDN is y = x / sqrt(beta + gamma x^2), GDN1 y = x / (beta + gamma |x|), and their inverses
    multiply (Balle et al. 2016). Beta and gamma, computed in the graph from what was trained (a
    lower bound, a square, an offset), become weights; x^2 becomes a product, and multiplying by a
    reciprocal one division.
    """
    links = Links(model)
    changes: dict[int, list[onnx.NodeProto]] = {}
    weights: list[onnx.TensorProto] = []
    count = 0
    for index, conv in enumerate(links.nodes):
        x = _normalised(links, conv)
        powers = _powers(links, conv.output[0]) if x is not None else {}
        ends = [end for name, power in powers.items() for end in _ends(links, name, power, x)]
        if x is None or not ends:
            continue
        made = {end[0]: _end(model, links, end, x, conv.output[0]) for end in ends}
        changed = {end: nodes for end, nodes in made.items() if nodes}
        plain, new = _plain_conv(model, links, conv, x)
        if plain:
            changed[index] = plain
            weights += new
        changes |= changed
        count += bool(changed)
    if not changes:
        return model, []
    result = replace_nodes(model, changes)
    result.graph.initializer.extend(weights)
    return result, [f"{count} GDN folded to a 1x1 Conv each"]


def _normalised(links: Links, conv: onnx.NodeProto) -> str | None:
    """The x of a 1x1 Conv of |x| or x^2, else None."""
    if conv.op_type != "Conv" or attribute(conv, "group", 1) != 1:
        return None
    node = links.node_of(conv.input[0], "Abs", "Pow", "Mul")
    if node is None:
        return None
    squared = node.op_type == "Pow" and links.number(node.input[1]) == 2.0
    product = node.op_type == "Mul" and node.input[0] == node.input[1]
    return str(node.input[0]) if node.op_type == "Abs" or squared or product else None


def _powers(links: Links, norm: str) -> dict[str, float]:
    """The values that are the norm to a power, its roots and reciprocals, with that power."""
    found = {norm: 1.0}
    queue = [norm]
    while queue:
        name = queue.pop()
        for index in links.users.get(name, []):
            node = links.nodes[index]
            factor: float | None = None
            over = node.op_type == "Div" and links.number(node.input[0]) == 1.0
            if node.op_type == "Sqrt":
                factor = 0.5
            elif node.op_type == "Reciprocal" or over:
                factor = -1.0
            elif node.op_type == "Pow" and node.input[0] == name:
                factor = links.number(node.input[1])
            elif node.op_type == "Mul" and 1.0 in map(links.number, node.input):
                factor = 1.0  # one exporter writes 1 / norm as reciprocal(norm) * 1
            if factor is not None and found[name] * factor in POWERS:
                found[node.output[0]] = found[name] * factor
                queue.append(node.output[0])
    return found


def _ends(links: Links, name: str, power: float, x: str | None) -> list[tuple[int, float]]:
    """Positions of the nodes that multiply x by a power of the norm, with that power."""
    found = []
    for index in links.users.get(name, []):
        node = links.nodes[index]
        if node.op_type == "Mul" and sorted(node.input) == sorted([str(x), name]):
            found.append((index, power))
        elif node.op_type == "Div" and list(node.input) == [x, name]:
            found.append((index, -power))
    return found


def _end(
    model: onnx.ModelProto, links: Links, end: tuple[int, float], x: str, norm: str
) -> list[onnx.NodeProto]:
    """Nodes for x times the norm to a power; none where they stand so already."""
    node, power = links.nodes[end[0]], end[1]
    kind = "Mul" if power > 0 else "Div"
    other = next((name for name in node.input if name != x), norm)
    root = links.node_of(other, "Sqrt")
    plain = other == norm if abs(power) == 1.0 else root is not None and root.input[0] == norm
    if node.op_type == kind and plain:
        return []
    if abs(power) == 1.0:
        return [helper.make_node(kind, [x, norm], node.output, name=label(node))]
    middle = fresh(model, f"{label(node)}_root")
    return [
        helper.make_node("Sqrt", [norm], [middle], name=middle),
        helper.make_node(kind, [x, middle], node.output, name=label(node)),
    ]


def _plain_conv(
    model: onnx.ModelProto, links: Links, conv: onnx.NodeProto, x: str
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The Conv with weights in place of what computes them; nothing where it has them already."""
    inputs, before = list(conv.input), []
    weights: list[onnx.TensorProto] = []
    if links.node_of(conv.input[0], "Pow") is not None:
        inputs[0] = fresh(model, f"{label(conv)}_square")
        before = [helper.make_node("Mul", [x, x], [inputs[0]], name=inputs[0])]
    for position, part in ((1, "gamma"), (2, "beta")):
        if position < len(inputs) and inputs[position] and inputs[position] not in links.weights:
            array = _computed(model, links, inputs[position])
            if array is None:  # depends on an input of the model: no parameter
                return [], []
            inputs[position] = fresh(model, f"{label(conv)}_{part}")
            weights.append(numpy_helper.from_array(array, inputs[position]))
    if inputs == list(conv.input):
        return [], []
    plain = helper.make_node("Conv", inputs, conv.output, name=conv.name)
    plain.attribute.extend(conv.attribute)
    return [*before, plain], weights


def _computed(model: onnx.ModelProto, links: Links, name: str) -> NDArray[Any] | None:
    """What a value always holds, computed from weights alone; None where it is not constant."""
    from onnx.reference import ReferenceEvaluator

    nodes = needed(links.nodes, [name])
    makers = {made for node in nodes for made in node.output}
    taken = {used for node in nodes for used in used_names(node)} - makers
    if not nodes or not taken <= links.weights.keys():
        return None
    graph = helper.make_graph(
        nodes,
        "constant",
        [],
        [helper.make_empty_tensor_value_info(name)],
        [links.weights[used] for used in sorted(taken)],
    )
    whole = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    array: NDArray[Any] = np.asarray(ReferenceEvaluator(whole).run(None, {})[0])
    return array
