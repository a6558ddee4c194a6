"""GELU written out with Erf becomes one Gelu node."""

import math

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedeploy.graph.links import Links, fresh, label, replace_nodes
from edgedeploy.graph.opset import raise_opset
from edgedeploy.graph.read import opset_of

GELU_OPSET = 20  # the first default operator set with Gelu
TOLERANCE = 1e-4  # exporters round the square root of two to float32, some to four digits


def fuse_gelu(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The model with each 0.5 x (1 + erf(x / sqrt 2)) as one `Gelu` of x, and what was done.

    All orders of the factors are found, with the constants multiplied or divided by; where the 0.5
    is missing, as after a simplifier has put it into the next layer's weights, the Gelu is followed
    by a product with what makes up for it. The operator set is raised to 20 where it is older; a
    model that cannot be raised stays as it is. The approximation by tanh is another function.
    """
    if not _gelus(Links(model)):
        return model, []
    raised, note = raise_opset(model, GELU_OPSET)
    notes = [note] if note else []
    if opset_of(raised) < GELU_OPSET:
        return model, [*notes, "GELU left as Erf: a Gelu node needs opset 20"]
    links = Links(raised)
    changes: dict[int, list[onnx.NodeProto]] = {}
    weights: dict[float, onnx.TensorProto] = {}
    for x, end, factor in _gelus(links):
        index = links.maker[end]
        name = fresh(raised, f"{label(links.nodes[index])}_gelu")
        changes[index] = [helper.make_node("Gelu", [x], [end], name=name)]
        if not _near(factor, 0.5):
            if factor not in weights:
                array = np.array(2.0 * factor, np.float32)
                place = fresh(raised, f"gelu_scale_{len(weights)}")
                weights[factor] = numpy_helper.from_array(array, place)
            changes[index] = [
                helper.make_node("Gelu", [x], [name], name=name),
                helper.make_node("Mul", [name, weights[factor].name], [end], name=f"{name}_scale"),
            ]
    result = replace_nodes(raised, changes)
    result.graph.initializer.extend(weights.values())
    return result, [*notes, f"{len(changes)} GELU written with Erf fused to one Gelu node each"]


def _gelus(links: Links) -> list[tuple[str, str, float]]:
    """For each GELU its x, the value that is x (1 + erf(x / sqrt 2)) times a factor, and that."""
    found = []
    for erf in links.nodes:
        scaled = _scaled(links, erf.input[0]) if erf.op_type == "Erf" else None
        if scaled is None or not _near(scaled[1], math.sqrt(0.5)):
            continue
        for index in links.users.get(erf.output[0], []):
            add = links.nodes[index]
            if add.op_type == "Add" and _near(links.number(_other(add, erf.output[0])), 1.0):
                ends = _products(links, add.output[0], scaled[0], 1.0, seen_x=False)
                found += [(scaled[0], end, factor) for end, factor in ends]
    return found


def _products(
    links: Links, name: str, x: str, factor: float, *, seen_x: bool
) -> list[tuple[str, float]]:
    """The lowest products above `name` that have x once, those with a factor of 0.5 first."""
    if seen_x and _near(factor, 0.5):
        return [(name, factor)]
    above: list[tuple[str, float]] = []
    whole = bool(links.users.get(name))
    for index in links.users.get(name, []):
        node = links.nodes[index]
        step = _step(links, node, name, x)
        ends: list[tuple[str, float]] = []
        if step is not None and not (step[1] and seen_x):
            has_x = seen_x or step[1]
            ends = _products(links, node.output[0], x, factor * step[0], seen_x=has_x)
        above += ends
        whole = whole and bool(ends) and all(_near(end[1], 0.5) for end in ends)
    return above if whole or not seen_x else [(name, factor)]


def _step(links: Links, node: onnx.NodeProto, name: str, x: str) -> tuple[float, bool] | None:
    """What a node multiplies `name` by: a constant, and whether x; None where anything else."""
    if node.op_type == "Div" and node.input[0] == name:
        divisor = links.number(node.input[1])
        return (1.0 / divisor, False) if divisor else None
    if node.op_type != "Mul":
        return None
    other = _other(node, name)
    number = links.number(other)
    if number is not None:
        return (number, False) if number else None
    if other == x:
        return 1.0, True
    scaled = _scaled(links, other)
    return (scaled[1], True) if scaled is not None and scaled[0] == x else None


def _scaled(links: Links, name: str) -> tuple[str, float] | None:
    """A value as another one times a constant."""
    node = links.node_of(name, "Div", "Mul")
    if node is None:
        return None
    if node.op_type == "Div":
        divisor = links.number(node.input[1])
        return (node.input[0], 1.0 / divisor) if divisor else None
    for value, constant in (node.input, reversed(node.input)):
        number = links.number(constant)
        if number is not None:
            return value, number
    return None


def _other(node: onnx.NodeProto, name: str) -> str:
    first, second = node.input
    return str(second if first == name else first)


def _near(value: float | None, wanted: float) -> bool:
    return value is not None and math.isclose(value, wanted, rel_tol=TOLERANCE)
