"""Which nodes of a model a target's operator library can run: a table of data, checked by node."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import onnx

from edgedeploy.errors import UnsupportedError
from edgedeploy.graph.links import Links, attribute, label
from edgedeploy.graph.read import real_inputs
from edgedeploy.graph.shapes import dimensions, with_shapes
from edgedeploy.records import Record
from edgedeploy.toml import decode, read_toml

SHOWN = 4  # refusals told one by one
FLOATS = frozenset({"FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16"})


Allowed = dict[str, tuple[int | float | str, ...]]


class Operator(Record):
    """One operator of a library; what is left out is not restricted.

    `ranks` are the axes its first input may have, `groups` those of a convolution, `attributes`
    the values allowed by name (of each element of a list; the operator's own default counts where
    the attribute is absent), `constant` the positions of inputs that must be weights, `given`
    those that must be inputs of the model, `explicit` the attributes that must be written out,
    `before` the operators that alone may take its output. `cases` are sets of attributes of which
    one must hold. `lacking` says why no model may have it at all, `remedy` what to do instead.
    """

    precisions: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    groups: Literal["any", "one", "one or channels"] = "any"
    attributes: Allowed = {}
    cases: tuple[Allowed, ...] = ()
    constant: tuple[int, ...] = ()
    given: tuple[int, ...] = ()
    explicit: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    lacking: str = ""
    remedy: str = ""
    note: str = ""


class Operators(Record):
    """The operators of a library; `remedy` is what helps against any that it lacks."""

    library: str
    source: str
    operators: dict[str, Operator]
    remedy: str = ""
    dtypes: tuple[str, ...] = ("FLOAT",)


class Refusal(Record):
    """A node that a library cannot run: its position, name and operator, why, and what to do."""

    index: int
    node: str
    op: str
    why: str
    remedy: str


def read_operators(path: Path) -> Operators:
    """The table in a TOML file; `InputError` for unknown keys or wrong types."""
    return decode(read_toml(path, "operator table"), Operators, f"operator table {path}")


def check_operators(model: onnx.ModelProto, table: Path | Operators, precision: str) -> None:
    """Raise `UnsupportedError` naming each node the library cannot run, why, and what to do."""
    operators = table if isinstance(table, Operators) else read_operators(table)
    found = unsupported(model, operators, precision)
    if not found:
        return
    told = [f"{refusal.op} {refusal.node!r}: {refusal.why}" for refusal in found[:SHOWN]]
    more = f"; and {len(found) - SHOWN} nodes more" if len(found) > SHOWN else ""
    msg = f"{operators.library} cannot run {'; '.join(told)}{more}"
    remedies = [refusal.remedy for refusal in found if refusal.remedy]
    raise UnsupportedError(msg, hint=" ".join(dict.fromkeys(remedies[:SHOWN])))


def unsupported(
    model: onnx.ModelProto, table: Path | Operators, precision: str
) -> tuple[Refusal, ...]:
    """The nodes of a model that a library cannot run in a precision, in the order of the graph."""
    operators = table if isinstance(table, Operators) else read_operators(table)
    seen = _Seen(model)
    found = []
    for index, node in enumerate(seen.links.nodes):
        if node.op_type == "Constant" and not node.domain:
            continue
        operator = operators.operators.get(node.op_type)
        why, remedy = _why(node, operator, operators, seen, precision)
        if why:
            remedy = remedy or (operator.remedy if operator else "") or operators.remedy
            found.append(
                Refusal(index=index, node=label(node), op=node.op_type, why=why, remedy=remedy)
            )
    return tuple(found)


class _Seen:
    """What is known of the values of a model: links, axes and element types."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.links = Links(model)
        self.inputs = {value.name for value in real_inputs(model)}
        self.outputs = {value.name for value in model.graph.output}
        self.shapes: dict[str, tuple[int | str, ...]] = {}
        self.dtypes: dict[str, str] = {}
        graph = with_shapes(model).graph
        for value in [*graph.input, *graph.value_info, *graph.output]:
            tensor = value.type.tensor_type
            if tensor.HasField("shape"):
                self.shapes[value.name] = dimensions(value)
            if tensor.elem_type:
                self.dtypes[value.name] = onnx.TensorProto.DataType.Name(tensor.elem_type)
        for tensor in graph.initializer:
            self.shapes[tensor.name] = tuple(tensor.dims)


def _why(
    node: onnx.NodeProto, operator: Operator | None, table: Operators, seen: _Seen, precision: str
) -> tuple[str, str]:
    """Why a node cannot run, empty where it can, and a remedy where there is one of its own."""
    if node.domain not in {"", "ai.onnx"}:
        return f"it is of the domain {node.domain!r}, the library has standard ones only", ""
    if operator is None:
        return "the library has no such operator", ""
    if operator.lacking:
        return operator.lacking, ""
    if operator.precisions and precision not in operator.precisions:
        found = ", ".join(operator.precisions)
        return f"it exists in {found}, not in {precision}", f"Compile in {found}."
    checks = (_rank, _groups, _attributes, _cases, _inputs, _users, _dtype)
    return next((why for check in checks if (why := check(node, operator, table, seen))), ""), ""


def _rank(node: onnx.NodeProto, operator: Operator, _: Operators, seen: _Seen) -> str:
    shape = seen.shapes.get(node.input[0]) if node.input else None
    if not operator.ranks or shape is None or len(shape) in operator.ranks:
        return ""
    allowed = " or ".join(str(rank) for rank in operator.ranks)
    return f"its input has {len(shape)} axes, the library takes {allowed}"


def _groups(node: onnx.NodeProto, operator: Operator, _: Operators, seen: _Seen) -> str:
    found = attribute(node, "group", 1)
    groups = found if isinstance(found, int) else 1
    if operator.groups == "any" or groups == 1:
        return ""
    if operator.groups == "one":
        return f"it has {groups} groups, the library takes 1"
    shape, weight = (seen.shapes.get(name, ()) for name in node.input[:2])
    if len(shape) > 1 and groups != shape[1]:
        return f"it has {groups} groups, the library takes 1 or its {shape[1]} channels"
    each = math.prod(n for n in weight[:2] if isinstance(n, int)) / groups  # (C, 1, …) of depthwise
    if len(weight) > 1 and each != 1:
        return f"it makes {each:g} channels of each, the library makes 1"
    return ""


def _attributes(node: onnx.NodeProto, operator: Operator, _: Operators, __: _Seen) -> str:
    written = {entry.name for entry in node.attribute}
    for name in operator.explicit:
        if name not in written:
            return f"its {name} is not written out, and the toolchain knows no default"
    for name, allowed in operator.attributes.items():
        if not _holds(node, name, allowed):
            choices = " or ".join(str(choice) for choice in allowed)
            return f"its {name} is {_shown(node, name)}, the library takes {choices}"
    return ""


def _cases(node: onnx.NodeProto, operator: Operator, _: Operators, __: _Seen) -> str:
    cases = operator.cases
    if not cases or any(all(_holds(node, *entry) for entry in case.items()) for case in cases):
        return ""
    names = dict.fromkeys(name for case in cases for name in case)
    found = ", ".join(f"{name} {_shown(node, name)}" for name in names)
    return f"the library does not take its {found}"


def _holds(node: onnx.NodeProto, name: str, allowed: Sequence[int | float | str]) -> bool:
    """Whether an attribute, each element of it where it is a list, is one of those allowed."""
    value: Any = attribute(node, name)
    parts = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return all(part is None or part in allowed for part in parts)


def _shown(node: onnx.NodeProto, name: str) -> str:
    value: Any = attribute(node, name)
    return (
        str(list(value))
        if isinstance(value, Sequence) and not isinstance(value, str)
        else str(value)
    )


def _inputs(node: onnx.NodeProto, operator: Operator, _: Operators, seen: _Seen) -> str:
    for position, name in enumerate(node.input):
        if position in operator.constant and name and seen.links.constant(name) is None:
            return f"its input {name!r} is computed, the library takes a constant"
    for position in operator.given:
        name = node.input[position] if position < len(node.input) else ""
        if name not in seen.inputs:
            return f"its input {position} must be an input of the model of its own"
    return ""


def _users(node: onnx.NodeProto, operator: Operator, _: Operators, seen: _Seen) -> str:
    """Why what takes its output is not what the library takes it before."""
    if not operator.before:
        return ""
    allowed = " or ".join(operator.before)
    for name in node.output:
        if name in seen.outputs:
            return f"its output leaves the model, the library takes it only before {allowed}"
        for index in seen.links.users.get(name, []):
            user = seen.links.nodes[index]
            if user.op_type not in operator.before:
                found = f"{user.op_type} {label(user)!r}"
                return f"{found} takes its output, the library takes it only before {allowed}"
    return ""


def _dtype(node: onnx.NodeProto, _: Operator, table: Operators, seen: _Seen) -> str:
    for name in [*node.input, *node.output]:
        dtype = seen.dtypes.get(name)
        if dtype in FLOATS and dtype not in table.dtypes:
            return f"{name!r} is {dtype.lower()}, the toolchain takes {', '.join(table.dtypes)}"
    return ""
