"""Strongly typed graphs: float32 becomes float16 or bfloat16, operator by operator."""

from collections import ChainMap
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper

from edgedeploy.graph.fp8 import to_fp8
from edgedeploy.graph.narrow import Narrowed
from edgedeploy.graph.opset import raise_opset
from edgedeploy.graph.qdq import check_qdq
from edgedeploy.graph.read import opset_of, real_inputs
from edgedeploy.graph.shapes import with_shapes
from edgedeploy.graph.typed_plan import FLOAT, SHAPES, Plan, PlannedGraph, PlannedNode

__all__ = ["check_qdq", "to_fp8", "to_type"]

# the first operator set in which convolutions and pooling take bfloat16
BFLOAT16_OPSET = 22
# the oldest file format whose weights need not be inputs
FREE_WEIGHTS_IR = 4
# attributes that say of which type a node's output is
TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_datatype"})
SHOWN = 8


def to_type(
    model: onnx.ModelProto, dtype: Literal["float16", "bfloat16"]
) -> tuple[onnx.ModelProto, list[str]]:
    """A copy that computes in `dtype`, and what stayed float32 and why.

    Inputs and outputs stay float32, with a Cast behind and before them. Weights, constants, types
    named in attributes and the bodies of control flow are converted. Operators and inputs for which
    the operator set has no such type, shape computations, scales of quantizing and weights kept in
    files stay float32, between Casts. bfloat16 raises the operator set to 22, before which
    convolutions have none. Values beyond the type's range become its largest.

    Raises `UnsupportedError` for a weight that holds infinities (float16), for values that are no
    tensors, and for one whose type is not known.
    """
    source = inliner.inline_local_functions(model) if model.functions else model
    notes: list[str] = []
    if dtype == "bfloat16" and opset_of(source) < BFLOAT16_OPSET:
        source, note = raise_opset(source, BFLOAT16_OPSET)
        notes += [note] if note else []
    result = onnx.ModelProto()
    result.CopyFrom(with_shapes(source))
    writer = _Writer(Plan(result, dtype))
    result.graph.CopyFrom(writer.written(real_inputs(result)))
    result.ir_version = max(
        result.ir_version,
        FREE_WEIGHTS_IR,
        helper.find_min_ir_version_for(list(result.opset_import), ignore_unknown=True),
    )
    return with_shapes(result), [*notes, *writer.notes()]


@dataclass(frozen=True)
class _Value:
    """The names under which a float is to be had, in float32 and in the new type."""

    wide: str = ""
    narrow: str = ""


Scope = ChainMap[str, _Value]


class _Writer:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.narrowed = Narrowed(plan.dtype)
        self.stays = {why: list(names) for why, names in plan.stays.items()}
        self.outputs = {value.name for value in plan.top.proto.output}

    def written(self, inputs: list[onnx.ValueInfoProto]) -> onnx.GraphProto:
        """The graph in its new types, with these inputs."""
        return self._graph(self.plan.top, ChainMap(), inputs, top=True)

    def notes(self) -> list[str]:
        found = []
        for why, names in self.stays.items():
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            found.append(f"float32 stays in {len(names)} ({why}): {', '.join(names[:SHOWN])}{more}")
        return found + self.narrowed.notes()

    def _graph(
        self, graph: PlannedGraph, scope: Scope, inputs: list[onnx.ValueInfoProto], *, top: bool
    ) -> onnx.GraphProto:
        result = onnx.GraphProto()
        result.CopyFrom(graph.proto)
        for entries in (result.node, result.initializer, result.input):
            del entries[:]
        result.input.extend(inputs)
        self._weights(graph.proto, result, scope)
        for value in result.input:
            if value.type.tensor_type.elem_type == FLOAT:
                scope[value.name] = _Value(wide=value.name) if top else _Value(narrow=value.name)
        for node in graph.nodes:
            if node.constant and any(node.given):
                self._constant(node.proto, scope, result)
            else:
                self._node(node, scope, result, top=top)
        for value in result.output:
            if graph.kinds.get(value.name) == FLOAT:
                value.name = self._name(value.name, scope, result, narrow=not top)
                if not top:
                    value.type.tensor_type.elem_type = self.narrowed.kind
        for value in [*result.input, *result.value_info]:
            held = scope.maps[0].get(value.name)
            if held and held.narrow == value.name:
                value.type.tensor_type.elem_type = self.narrowed.kind
        return result

    def _weights(self, source: onnx.GraphProto, result: onnx.GraphProto, scope: Scope) -> None:
        for tensor in source.initializer:
            uses = self.plan.uses.get(tensor.name, set())
            outside = tensor.data_location == TensorProto.EXTERNAL
            if tensor.data_type != FLOAT:
                result.initializer.append(tensor)
                continue
            held = self._held(tensor.name, uses if not outside else set())
            if held.wide:
                result.initializer.append(tensor)
            if held.narrow:
                narrow = self.narrowed.tensor(tensor, held.narrow, tensor.name)
                result.initializer.append(narrow)
            elif True in uses:
                self.stays.setdefault("weights kept in files", []).append(tensor.name)
            scope[tensor.name] = held
        for sparse in source.sparse_initializer:
            if sparse.values.data_type == FLOAT:
                scope[sparse.values.name] = _Value(wide=sparse.values.name)
                self.stays.setdefault("sparse weights", []).append(sparse.values.name)

    def _held(self, name: str, uses: set[bool]) -> _Value:
        """Under which names a constant is kept: its own, and another where both types are used."""
        if True not in uses:
            return _Value(wide=name)
        return _Value(name, self._fresh(name)) if False in uses else _Value(narrow=name)

    def _constant(self, proto: onnx.NodeProto, scope: Scope, result: onnx.GraphProto) -> None:
        name = proto.output[0]
        held = self._held(name, self.plan.uses.get(name, set()))
        value = helper.get_attribute_value(proto.attribute[0])
        if isinstance(value, onnx.SparseTensorProto):
            held = _Value(wide=name)
            self.stays.setdefault("sparse weights", []).append(name)
        if held.wide:
            result.node.append(proto)
        if held.narrow:
            if not isinstance(value, onnx.TensorProto):
                value = numpy_helper.from_array(np.array(value, np.float32))
            tensor = self.narrowed.tensor(value, value.name, name)
            called = held.narrow if held.wide else proto.name
            node = helper.make_node("Constant", [], [held.narrow], name=called, value=tensor)
            result.node.append(node)
        scope[name] = held

    def _node(self, node: PlannedNode, scope: Scope, result: onnx.GraphProto, *, top: bool) -> None:
        proto = onnx.NodeProto()
        proto.CopyFrom(node.proto)
        for i, name in enumerate(node.proto.input):
            if name in scope and node.taken[i] and proto.op_type in SHAPES:
                proto.input[i] = scope[name].wide or scope[name].narrow  # either has the shape
            elif name in scope:
                proto.input[i] = self._name(name, scope, result, narrow=node.taken[i])
        bodies = iter(node.bodies)
        for entry in proto.attribute:
            for body in [entry.g] if entry.HasField("g") else entry.graphs:
                inputs = list(body.input)
                body.CopyFrom(self._graph(next(bodies), scope.new_child(), inputs, top=False))
        # after the inputs' casts and the bodies, which may need casts of their own
        for i, name in enumerate(node.proto.output):
            if node.given[i]:
                hidden = top and name in self.outputs
                proto.output[i] = self._fresh(name) if hidden else name
                scope[name] = _Value(narrow=proto.output[i])
            elif name:
                scope[name] = _Value(wide=name)
        if any(node.given) and not node.bodies:
            self._type_attributes(proto)
        result.node.append(proto)

    def _type_attributes(self, proto: onnx.NodeProto) -> None:
        """Give a node whose type an attribute says, or its default, the new type."""
        names = {entry.name for entry in proto.attribute}
        for entry in proto.attribute:
            if entry.name in TYPE_ATTRIBUTES and entry.i == FLOAT:
                entry.i = self.narrowed.kind
            elif proto.op_type == "ConstantOfShape" and entry.t.data_type == FLOAT:
                entry.t.CopyFrom(self.narrowed.tensor(entry.t, entry.t.name, proto.output[0]))
        if proto.op_type == "ConstantOfShape" and not names:
            zero = helper.make_tensor("value", self.narrowed.kind, [1], [0.0])
            proto.attribute.append(helper.make_attribute("value", zero))
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        schema = onnx.defs.get_schema(proto.op_type, self.plan.opsets.get(domain, 1), domain)
        for name in TYPE_ATTRIBUTES.intersection(schema.attributes) - names:
            if schema.attributes[name].default_value.i == FLOAT:
                proto.attribute.append(helper.make_attribute(name, self.narrowed.kind))

    def _name(self, name: str, scope: Scope, result: onnx.GraphProto, *, narrow: bool) -> str:
        """The value's name in the type asked for, by a Cast where it is not made in that type."""
        held = scope[name]
        found = held.narrow if narrow else held.wide
        if found:
            return found
        if narrow:
            made, kind = self._fresh(name), self.narrowed.kind
            scope[name] = replace(held, narrow=made)
        else:
            free = len(scope.maps) == 1 and name in self.outputs and name != held.narrow
            made, kind = name if free else self._fresh(name, "float32"), FLOAT
            scope[name] = replace(held, wide=made)
        cast = helper.make_node("Cast", [held.wide or held.narrow], [made], f"{made}_cast", to=kind)
        result.node.append(cast)
        return made

    def _fresh(self, name: str, kind: str = "") -> str:
        stem = f"{name}_{kind or self.plan.dtype}"
        count = 0
        while (found := f"{stem}_{count}" if count else stem) in self.plan.names:
            count += 1
        self.plan.names.add(found)
        return found
