"""End-node cut: the body of a model for a device, and the tail for the host."""

from collections.abc import Iterable, MutableSequence, Sequence
from pathlib import Path

import onnx

from edgedeploy.errors import ExportError, InputError, nearest
from edgedeploy.graph.links import Links, keep_nodes, label, needed, used_names
from edgedeploy.graph.operators import Operators, unsupported
from edgedeploy.graph.read import real_inputs
from edgedeploy.graph.shapes import with_shapes

# A tail that multiplies matrices is no tail: the network itself would run on the host.
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "GRU", "LSTM", "RNN", "Einsum"})


def cut(
    model: onnx.ModelProto, end_nodes: Sequence[str]
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The body and the tail of a model cut behind the nodes or values named.

    The body takes the model's inputs and gives the values that cross the cut; the tail takes these
    and gives the model's outputs, by their names and in their order: `tail(body(x)) == model(x)`.
    An output that is not behind the cut comes from the body and is handed through the tail.

    The body holds every node that does not depend on a cut value, and every node that another cut
    value needs; values that cross the cut without being named leave the body as well. Raises
    `InputError` for a name that is neither a node nor a value, for one with nothing behind it, and
    where the tail would need an input of the model: the host's half sees only what the device sent.
    """
    links = Links(model)
    inputs = {value.name for value in real_inputs(model)}
    outputs = [value.name for value in model.graph.output]
    ends = list(dict.fromkeys(v for name in end_nodes for v in _values(links, name, inputs)))
    whole = needed(links.nodes, outputs)
    before = {name for node in needed(links.nodes, ends) for name in node.output}
    tail = _behind(whole, ends, before)
    stays = [node for node in whole if not any(node is behind for behind in tail)]
    crossing = _crossing(links, stays, tail, outputs)
    _check(end_nodes, ends, crossing, tail, inputs)
    order = [*(name for name in ends if name in crossing), *crossing]
    order = list(dict.fromkeys(order))
    known = with_shapes(model)
    used = {name for node in needed(stays, order) for name in used_names(node)}
    body = _part(known, order, stays, given=[v.name for v in real_inputs(model) if v.name in used])
    constants = [node for node in stays if node.op_type == "Constant"]
    return body, _part(known, outputs, [*constants, *tail], given=order)


def find_end_nodes(model: onnx.ModelProto, table: Path | Operators, precision: str) -> list[str]:
    """The values to cut behind so that the body has only what an operator table allows.

    They are the last ones it can make before what it cannot run; none where it runs everything,
    and none where what lies behind is no tail: it multiplies matrices, or needs an input of the
    model, or the body would have no products at all.
    """
    links = Links(model)
    outputs = [value.name for value in model.graph.output]
    whole = needed(links.nodes, outputs)
    refused = {refusal.index for refusal in unsupported(model, table, precision)}
    behind = {name for index in refused for name in links.nodes[index].output if name}
    tail: list[onnx.NodeProto] = []
    for node in whole:
        if behind.intersection([*node.output, *used_names(node)]):
            behind.update(node.output)
            tail.append(node)
    stays = [node for node in whole if not any(node is other for other in tail)]
    if any(node.op_type in PRODUCTS for node in tail):
        return []
    if not tail or not any(node.op_type in PRODUCTS for node in stays):
        return []
    taken = {name for node in tail for name in used_names(node)}
    if taken.intersection(value.name for value in real_inputs(model)):
        return []
    return [name for name in _crossing(links, stays, tail, outputs) if name in taken]


def _crossing(
    links: Links,
    stays: Iterable[onnx.NodeProto],
    tail: Iterable[onnx.NodeProto],
    outputs: Iterable[str],
) -> list[str]:
    """What the tail takes of the nodes that stay, and the outputs that they make."""
    made = {name for node in stays for name in node.output if links.constant(name) is None}
    taken = [name for node in tail for name in used_names(node)]
    return [name for name in dict.fromkeys([*taken, *outputs]) if name in made]


def _values(links: Links, name: str, inputs: set[str]) -> list[str]:
    """The values that a name stands for: that value, or the outputs of the node so called."""
    if name in links.maker:
        return [name]
    for node in links.nodes:
        if node.name == name:
            return [made for made in node.output if made]
    known = [*links.maker, *(node.name for node in links.nodes if node.name)]
    if name in inputs:
        msg = f"end node {name!r} is an input of the model: nothing would run on the device"
        raise InputError(msg, hint="Name the last node that the device shall run.")
    msg = f"end node {name!r} is neither a node nor a value of the model"
    raise InputError(msg, hint=nearest(name, known))


def _behind(
    whole: Iterable[onnx.NodeProto], ends: Iterable[str], before: set[str]
) -> list[onnx.NodeProto]:
    """The nodes that depend on a cut value, those that another cut value needs left out."""
    behind = set(ends)
    found = []
    for node in whole:
        if before.isdisjoint(node.output) and behind.intersection(used_names(node)):
            behind.update(node.output)
            found.append(node)
    return found


def _check(
    asked: Sequence[str],
    ends: list[str],
    crossing: list[str],
    tail: list[onnx.NodeProto],
    inputs: set[str],
) -> None:
    hint = "Name nodes that outputs of the model depend on, and none before another."
    if not tail:
        msg = f"nothing lies behind the end nodes {', '.join(asked) or '(none)'}"
        raise InputError(msg, hint=hint)
    idle = [name for name in ends if name not in crossing]
    if idle:
        msg = f"end node {idle[0]!r} is needed by nothing behind the cut"
        raise InputError(msg, hint=hint)
    for node in tail:
        for name in used_names(node):
            if name in inputs:
                where = f"{node.op_type} {label(node)!r}"
                msg = f"{where} behind the cut needs the model's input {name!r}"
                raise InputError(msg, hint="Cut behind that node: the host's half has no inputs.")


def _part(
    model: onnx.ModelProto,
    outputs: Sequence[str],
    nodes: Sequence[onnx.NodeProto],
    *,
    given: Sequence[str],
) -> onnx.ModelProto:
    """A model of these nodes, as far as they are needed, from the values `given` to `outputs`."""
    graph = model.graph
    infos = {v.name: v for v in [*graph.value_info, *graph.input, *graph.output]}
    for name in [*given, *outputs]:
        if name not in infos or not infos[name].type.tensor_type.HasField("shape"):
            maker = next((n for n in graph.node if name in n.output), None)
            where = f" of {label(maker)!r}" if maker is not None else ""
            msg = f"the model cannot be cut at {name!r}{where}: its shape is not known"
            raise ExportError(msg, hint="Cut at another node, or export with static shapes.")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _set(result.graph.input, [infos[name] for name in given])
    _set(result.graph.output, [infos[name] for name in outputs])
    keep_nodes(result, needed(nodes, outputs))
    ends = {value.name for value in [*result.graph.input, *result.graph.output]}
    _set(result.graph.value_info, [v for v in result.graph.value_info if v.name not in ends])
    return result


def _set(
    field: MutableSequence[onnx.ValueInfoProto], values: Iterable[onnx.ValueInfoProto]
) -> None:
    kept = []
    for value in values:
        kept.append(onnx.ValueInfoProto())
        kept[-1].CopyFrom(value)
    del field[:]
    field.extend(kept)
