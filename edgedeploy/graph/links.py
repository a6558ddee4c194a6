"""Who makes and who uses each value of a graph, and edits that keep the graph whole."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np
import onnx
from google.protobuf.message import Message
from numpy.typing import NDArray
from onnx import numpy_helper

from edgedeploy.graph.weights import external

M = TypeVar("M", bound=Message)


class Links:
    """Makers, users and constants of a model's values, as they were when it was made.

    Positions are those of `model.graph.node`. Values used in the bodies of control flow count as
    used by the node that holds the body.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.nodes: list[onnx.NodeProto] = list(graph.node)
        self.maker: dict[str, int] = {}
        self.users: dict[str, list[int]] = {}
        outside = {tensor.name for tensor in external(model)}
        self.weights: dict[str, onnx.TensorProto] = {
            tensor.name: tensor for tensor in graph.initializer if tensor.name not in outside
        }
        for index, node in enumerate(self.nodes):
            for name in node.output:
                if name:
                    self.maker[name] = index
            for name in dict.fromkeys(used_names(node)):
                self.users.setdefault(name, []).append(index)

    def node_of(self, name: str, *kinds: str) -> onnx.NodeProto | None:
        """The node that makes a value, where it is one of these operators."""
        index = self.maker.get(name)
        if index is None or self.nodes[index].op_type not in kinds:
            return None
        return self.nodes[index]

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """The array a value always holds: a weight or the value of a Constant node, else None."""
        if name in self.weights:
            return _array(self.weights[name])
        node = self.node_of(name, "Constant")
        if node is None:
            return None
        kinds = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if "value" in kinds:
            return _array(kinds["value"])
        scalars: dict[str, type[np.generic]] = {
            "value_float": np.float32,
            "value_floats": np.float32,
            "value_int": np.int64,
            "value_ints": np.int64,
        }
        return next((np.array(kinds[k], t) for k, t in scalars.items() if k in kinds), None)

    def number(self, name: str) -> float | None:
        """The number that a constant of one element and at most one axis holds, else None."""
        array = self.constant(name)
        if array is None or array.size != 1 or array.ndim > 1:
            return None
        return float(array.reshape(()).item())


def used_names(node: onnx.NodeProto) -> list[str]:
    """The values a node takes, those that the bodies of control flow take from outside included."""
    found = [name for name in node.input if name]
    for attribute in node.attribute:
        bodies = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        for body in bodies:
            found += [name for inner in body.node for name in used_names(inner)]
            found += [value.name for value in body.output]
    return found


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """The value of a node's attribute, else the operator's own default, else `default`."""
    for entry in node.attribute:
        if entry.name == name:
            return _plain(onnx.helper.get_attribute_value(entry))
    try:
        known = onnx.defs.get_schema(node.op_type, node.domain).attributes.get(name)
    except onnx.defs.SchemaError:
        return default
    if known is None or not known.default_value.name:
        return default
    return _plain(onnx.helper.get_attribute_value(known.default_value))


def label(node: onnx.NodeProto) -> str:
    """How a node is called in messages: its name, else what it makes."""
    return str(node.name or next((name for name in node.output if name), node.op_type))


def fresh(model: onnx.ModelProto, stem: str) -> str:
    """A name that no value of the graph has."""
    taken = {name for node in model.graph.node for name in [*node.input, *node.output]}
    taken |= {v.name for v in [*model.graph.input, *model.graph.output, *model.graph.initializer]}
    numbered = (f"{stem}_{i}" for i in range(len(taken) + 1))
    return stem if stem not in taken else next(name for name in numbered if name not in taken)


def replace_nodes(
    model: onnx.ModelProto, changes: Mapping[int, Iterable[onnx.NodeProto]]
) -> onnx.ModelProto:
    """A copy with the nodes at these positions replaced, and what nothing needs any more left out.

    A position that maps to nothing is dropped. Shapes of the values that stay are kept.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    nodes = [
        new for index, node in enumerate(model.graph.node) for new in changes.get(index, [node])
    ]
    keep_nodes(result, needed(nodes, [value.name for value in model.graph.output]))
    return result


def needed(nodes: Iterable[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes, in their order, that the outputs depend on."""
    wanted = set(outputs)
    kept: list[onnx.NodeProto] = []
    for node in reversed(list(nodes)):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(used_names(node))
    return kept[::-1]


def keep_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Give a model these nodes, with only the weights and shapes that they have use for."""
    kept = [_copied(node) for node in nodes]
    graph = model.graph
    used = {name for node in kept for name in [*used_names(node), *node.output]}
    used |= {value.name for value in graph.output}
    for field in (graph.initializer, graph.value_info):
        entries = [_copied(entry) for entry in field if entry.name in used]
        del field[:]
        field.extend(entries)
    del graph.node[:]
    graph.node.extend(kept)


def _copied(entry: M) -> M:
    result = type(entry)()
    result.CopyFrom(entry)
    return result


def _array(tensor: onnx.TensorProto) -> NDArray[np.generic]:
    array: NDArray[np.generic] = numpy_helper.to_array(tensor)
    return array


def _plain(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value
