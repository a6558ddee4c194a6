"""Which values of a float32 graph can be of a narrower type, by the operators' definitions."""

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from edgedeploy.errors import UnsupportedError
from edgedeploy.graph.links import label

FLOAT = TensorProto.FLOAT
# Operators that keep float32 whatever their definition allows: they take positions, or scales on
# which integers depend.
WHOLE = {
    "DequantizeLinear": "scales of quantizing",
    "DynamicQuantizeLinear": "scales of quantizing",
    "NonMaxSuppression": "boxes",
    "QLinearConv": "scales of quantizing",
    "QLinearMatMul": "scales of quantizing",
    "QuantizeLinear": "scales of quantizing",
    "Range": "positions",
}
# inputs that keep float32, of operators that are else of the new type
SLOTS = {"Resize": {1: "roi", 2: "scales"}, "Upsample": {1: "scales"}}
SHAPES = frozenset({"Shape", "Size"})


@dataclass
class PlannedNode:
    """A node, and which of its inputs and outputs are to be of the new type."""

    proto: onnx.NodeProto
    bodies: list["PlannedGraph"]
    taken: list[bool]
    given: list[bool]

    @property
    def constant(self) -> bool:
        """Whether it only holds a value, whose type is as its users need it."""
        return bool(self.proto.op_type == "Constant")


@dataclass
class PlannedGraph:
    """A graph or the body of control flow; `kinds` are element types by value, outer ones too."""

    proto: onnx.GraphProto
    kinds: ChainMap[str, int]
    nodes: list[PlannedNode]


class Plan:
    """What becomes `dtype` in a model whose types are inferred.

    `uses` says by value whether it is needed in float32 (False) or the new type (True), `stays` by
    reason what keeps float32, `names` is all that is taken. Raises `UnsupportedError` for values
    that are no tensors or of unknown type.
    """

    def __init__(self, model: onnx.ModelProto, dtype: str) -> None:
        self.dtype = dtype
        self.opsets = {o.domain: o.version for o in model.opset_import}
        self.opsets.setdefault("", self.opsets.get("ai.onnx", 1))
        self.names: set[str] = set()
        self.uses: dict[str, set[bool]] = {}
        self.stays: dict[str, list[str]] = {}
        self.top = self._graph(model.graph, ChainMap())
        self._count(self.top, narrow_outputs=False)

    def _graph(self, graph: onnx.GraphProto, outer: ChainMap[str, int]) -> PlannedGraph:
        kinds = outer.new_child()
        for value in [*graph.value_info, *graph.output, *graph.input]:
            if value.type.WhichOneof("value") not in {"tensor_type", None}:
                msg = f"value {value.name!r} is no tensor but a sequence or an optional one"
                raise UnsupportedError(msg, hint="Export without sequences, or take fp32.")
            kinds[value.name] = value.type.tensor_type.elem_type or kinds.get(value.name, 0)
        for value in graph.input:
            self._require(value.name, kinds, "an input")
        kinds.update({tensor.name: tensor.data_type for tensor in graph.initializer})
        kinds.update({t.values.name: t.values.data_type for t in graph.sparse_initializer})
        self.names.update(kinds)
        nodes = []
        for proto in graph.node:
            bodies = [
                body
                for a in proto.attribute
                for body in ([a.g] if a.HasField("g") else list(a.graphs))
            ]
            self.names.update(proto.output)
            for name in filter(None, proto.output):
                self._require(name, kinds, f"made by {proto.op_type} {label(proto)!r}")
            inner = [self._graph(body, kinds) for body in bodies]
            taken = [kinds.get(name) == FLOAT for name in proto.input]
            given = [kinds.get(name) == FLOAT for name in proto.output]
            nodes.append(PlannedNode(proto, inner, taken, given))
        planned = PlannedGraph(graph, kinds, nodes)
        exact = _shape_computations(planned)
        for index, node in enumerate(nodes):
            self._decide(node, exact=index in exact)
        return planned

    def _require(self, name: str, kinds: ChainMap[str, int], whence: str) -> None:
        if not kinds.get(name):
            msg = f"the type of {name!r}, {whence}, is not known"
            hint = "Export the model with the types of its values, or cut it before that."
            raise UnsupportedError(msg, hint=hint)

    def _decide(self, node: PlannedNode, *, exact: bool) -> None:
        """Take back what cannot be of the new type, and say why."""
        floats = node.taken, node.given
        if node.constant or node.bodies or not any([*node.taken, *node.given]):
            return
        kind = str(node.proto.op_type)
        why = f"{kind}: {WHOLE[kind]}" if kind in WHOLE else ""
        why = "shape computation" if exact else why
        if why:
            node.taken, node.given = _none(node.taken), _none(node.given)
        else:
            why = self._by_definition(node)
        if floats != (node.taken, node.given):
            self.stays.setdefault(why, []).append(label(node.proto))

    def _by_definition(self, node: PlannedNode) -> str:
        kind = str(node.proto.op_type)
        domain = "" if node.proto.domain == "ai.onnx" else node.proto.domain
        version = self.opsets.get(domain, 1)
        try:
            schema = onnx.defs.get_schema(kind, version, domain)
        except onnx.defs.SchemaError:
            node.taken, node.given = _none(node.taken), _none(node.given)
            return f"{kind}: not an operator of ONNX"
        slots = SLOTS.get(kind, {})
        left = [slots[i] for i, was in enumerate(node.taken) if was and i in slots]
        node.taken = [
            was and i not in slots and self._allowed(schema.inputs, i)
            for i, was in enumerate(node.taken)
        ]
        node.given = [was and self._allowed(schema.outputs, i) for i, was in enumerate(node.given)]
        if left:
            return f"{kind}: its {' and '.join(left)}"
        return f"{kind}: no {self.dtype} in opset {version}"

    def _allowed(self, formal: Sequence[onnx.defs.OpSchema.FormalParameter], index: int) -> bool:
        """Whether the definition's input or output, the last of which may be several, is typed."""
        return f"tensor({self.dtype})" in formal[min(index, len(formal) - 1)].types

    def _count(self, graph: PlannedGraph, *, narrow_outputs: bool) -> None:
        for node in graph.nodes:
            for name, narrow in zip(node.proto.input, node.taken, strict=True):
                self.uses.setdefault(name, set()).add(narrow)
            for body in node.bodies:
                self._count(body, narrow_outputs=True)
        for value in graph.proto.output:
            self.uses.setdefault(value.name, set()).add(narrow_outputs)


def _none(flags: list[bool]) -> list[bool]:
    return [False] * len(flags)


def _shape_computations(graph: PlannedGraph) -> set[int]:
    """Positions of the nodes that depend on no data and are needed exactly.

    These are all behind Shape, and those by which a constant becomes an integer, or an input that
    stays float32.
    """
    # by name of a value without data: whether it comes from Shape
    fixed: dict[str, bool] = {tensor.name: False for tensor in graph.proto.initializer}
    idle: dict[int, bool] = {}
    for index, node in enumerate(graph.nodes):
        taken = [name for name in node.proto.input if name]
        if node.bodies or not (node.proto.op_type in SHAPES or all(n in fixed for n in taken)):
            continue
        idle[index] = node.proto.op_type in SHAPES or any(fixed[name] for name in taken)
        fixed.update(dict.fromkeys(node.proto.output, idle[index]))
    exact: set[int] = set()
    wanted: set[str] = set()
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        kind = str(node.proto.op_type)
        slots = SLOTS.get(kind, {})
        wanted.update(
            name for i, name in enumerate(node.proto.input) if kind in WHOLE or i in slots
        )
        if index not in idle or kind in WHOLE or kind in SHAPES or node.constant:
            continue
        to_integer = any(node.taken) and not any(node.given)
        if idle[index] or to_integer or wanted.intersection(node.proto.output):
            exact.add(index)
            wanted.update(node.proto.input)
    return exact
