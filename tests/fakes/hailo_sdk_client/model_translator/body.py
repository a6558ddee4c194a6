"""The ONNX side of the parser: shapes, constants, and the part that becomes a network."""

import numpy as np
import onnx
import onnx.reference
from onnx import helper, numpy_helper, shape_inference, version_converter

from hailo_sdk_client.model_translator.exceptions import UnsupportedModelError

OPSET = 13


def with_shapes(model, net_input_shapes):
    """The model for a batch of 1 with inferred shapes, its inputs as said where they are free.

    Raises UnsupportedModelError for another batch, another shape, or a size left open.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    if any(e.domain in {"", "ai.onnx"} and e.version < OPSET for e in model.opset_import):
        result = version_converter.convert_version(result, OPSET)
    known = {tensor.name for tensor in result.graph.initializer}
    inputs = [value for value in result.graph.input if value.name not in known]
    asked = dict(net_input_shapes or {})
    for value in inputs:
        _fix(value, asked.pop(value.name, None))
    if asked:
        text = f"net_input_shapes names {sorted(asked)}, the inputs are"
        msg = f"{text} {[value.name for value in inputs]}"
        raise UnsupportedModelError(msg)
    del result.graph.value_info[:]
    for value in result.graph.output:
        value.type.tensor_type.ClearField("shape")
    return _folded(_inferred(result))


def _inferred(model):
    try:
        return shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except shape_inference.InferenceError as error:
        text = f"The shapes of the model contradict each other: {error}"
        raise UnsupportedModelError(text) from error


def _folded(model):
    """The model with what is constant computed, round by round as more shapes come out."""
    while True:
        known = constants(model)
        nodes = [node for node in model.graph.node if node.output[0] not in known]
        if len(nodes) == len(model.graph.node):
            return model
        used = {name for node in nodes for name in node.input}
        kept = [
            numpy_helper.from_array(np.asarray(array), name)
            for name, array in known.items()
            if name in used
        ]
        del model.graph.node[:], model.graph.initializer[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(kept)
        model = _inferred(model)


def _fix(value, asked):
    dims = value.type.tensor_type.shape.dim
    found = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
    if asked is not None:
        fits = len(asked) == len(found) and all(
            a in (b, None, -1) or b is None for a, b in zip(asked, found, strict=True)
        )
        if not fits:
            text = f"net_input_shapes gives {list(asked)} for {value.name}, the model has {found}"
            raise UnsupportedModelError(text)
        found = [b if a in (None, -1) else a for a, b in zip(asked, found, strict=True)]
    if found and found[0] is None:
        found[0] = 1
    if not found or None in found or min(found) < 1:
        text = f"Input {value.name} has a shape that is not known, {found}: give net_input_shapes"
        raise UnsupportedModelError(text)
    if found[0] != 1:
        text = f"Input {value.name} has a batch of {found[0]}: the parser takes a batch of 1"
        raise UnsupportedModelError(text)
    for dim, size in zip(dims, found, strict=True):
        dim.dim_value = size


def shapes(model):
    """Shape by value name; None where a size is open."""
    graph = model.graph
    return {
        value.name: [d.dim_value if d.HasField("dim_value") else None for d in dims.dim]
        for value in [*graph.value_info, *graph.input, *graph.output]
        if (dims := value.type.tensor_type.shape) is not None
        and value.type.tensor_type.HasField("shape")
    }


def constants(model):
    """Values that do not depend on the inputs, shapes among them."""
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    sizes = shapes(model)
    for node in model.graph.node:
        given = sizes.get(node.input[0], [None]) if node.input else [None]
        if node.op_type == "Shape" and not node.attribute and None not in given:
            known[node.output[0]] = np.array(given, np.int64)
        elif node.op_type == "Constant" or all(n in known for n in node.input if n):
            known.update(_computed(node, known, model))
    return known


def _computed(node, known, model):
    inputs = {name: known[name] for name in node.input if name}
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    outputs = onnx.reference.ReferenceEvaluator(node, opsets=opsets).run(None, inputs)
    return dict(zip(node.output, outputs, strict=True))


def needed(nodes, ends, starts, known):
    """The nodes between starts and ends, in order."""
    wanted, found = set(ends) - set(starts), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            found.append(node)
            wanted.update(n for n in node.input if n and n not in starts and n not in known)
    made = {name for node in found for name in node.output}
    open_ends = sorted(wanted - made)
    if open_ends:
        text = f"Values {open_ends} are neither made nor given between the start and end nodes"
        raise UnsupportedModelError(text)
    return found[::-1]


def extract(model, nodes, starts, ends, known):
    """A model of these nodes, and whether its batch axis is free.

    What flattens is written as Flatten, and sizes to resize to as scales: neither holds a batch.
    """
    sizes = shapes(model)
    made, extra, batchable = [], {}, True
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.op_type in {"Reshape", "Squeeze"}:
            copy = helper.make_node("Flatten", [node.input[0]], [node.output[0]], node.name, axis=1)
        if node.op_type == "Resize" and len(node.input) > 3 and node.input[3]:
            before, after = sizes[node.input[0]], sizes[node.output[0]]
            scales = np.array([b / a for a, b in zip(before, after, strict=True)], np.float32)
            exact = all(b % a == 0 for a, b in zip(before, after, strict=True))
            batchable = batchable and exact
            if exact:
                extra[f"{node.output[0]}/scales"] = scales
                del copy.input[2:]
                copy.input.append(f"{node.output[0]}/scales")
        made.append(copy)
    used = {name for node in made for name in node.input}
    batch = "N" if batchable else 1
    inputs = [_value(name, sizes, batch) for name in starts]
    outputs = [_value(name, sizes, batch) for name in ends]
    held = {name: array for name, array in known.items() if name in used} | extra
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()]
    graph = helper.make_graph(made, "body", inputs, outputs, tensors)
    result = helper.make_model(graph, opset_imports=model.opset_import)
    result.ir_version = min(model.ir_version, 10)
    return result, batchable


def _value(name, sizes, batch):
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, *sizes[name][1:]])
