"""Quantization: weights by channel, symmetric; activations by tensor, from least to most."""

import time

import numpy as np
from onnx import helper

from hailo_sdk_client import log
from hailo_sdk_client.model_translator.operators import MOVES, WEIGHTED
from hailo_sdk_client.sdk_backend import sessions
from hailo_sdk_client.sdk_backend.sdk_backend_exceptions import AccelerasValueError


def sites(graph):
    """The value to round of each layer that rounds, by layer name: behind an added activation."""
    made = {name for node in graph.nodes for name in node.output}
    found = {}
    for layer in graph.network.layers:
        if layer.type in {"input_layer", "output_layer"} or layer.type in MOVES:
            continue
        act = f"{layer.name}:act"
        found[layer.name] = act if act in made else layer.tensor
    return found


def calibrate(graph, data):
    """Lowest and highest value of each site, and of each input, over NHWC data by input layer."""
    places = sites(graph)
    reduced = graph.finished(*graph.ends)
    fetches = []
    for op_type in ("ReduceMin", "ReduceMax"):
        for name, tensor in places.items():
            fetch = f"{name}:{op_type}"
            reduced.graph.node.append(helper.make_node(op_type, [tensor], [fetch], keepdims=0))
            reduced.graph.output.add(name=fetch)
            fetches.append(fetch)
    session = sessions.open_session(reduced)
    low, high = np.full(len(places), np.inf), np.full(len(places), -np.inf)
    begin = time.perf_counter()
    for part in sessions.batches(data, 64 if graph.network.batchable else 1):
        feed = {name: array.astype(np.float32) for name, array in part.items()}
        found = np.array(session.run(fetches, feed), np.float64).reshape(2, -1)
        if not np.isfinite(found).all():
            where = list(places)[int((~np.isfinite(found)).any(axis=0).argmax())]
            message = f"Statistics of layer {where} are not finite"
            raise AccelerasValueError(message)
        low, high = np.minimum(low, found[0]), np.maximum(high, found[1])
    count = len(next(iter(data.values())))
    log.progress("Calibration", count, time.perf_counter() - begin)
    ranges = {name: (low[i], high[i]) for i, name in enumerate(places)}
    for name, array in data.items():
        ranges[name] = (float(array.min()), float(array.max()))
    return ranges


def parameters(low, high, bits):
    """Scale and zero point of an unsigned grid that holds zero and the range."""
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    top = (1 << bits) - 1
    scale = np.float32((high - low) / top) if high > low else np.float32(1.0)
    return scale, int(np.clip(np.round(-low / scale), 0, top))


def rounded_weights(array, bits, axis):
    """Weights in steps of their channel's scale, as whole numbers, and the scales, to multiply."""
    top = (1 << (bits - 1)) - 1
    others = tuple(i for i in range(array.ndim) if i != axis)
    scale = np.abs(array).max(axis=others, keepdims=True).astype(np.float32) / top
    scale = np.where(scale == 0, np.float32(1), scale).astype(np.float32)
    return np.clip(np.round(array / scale), -top, top), scale


def weighted(node, constants):
    """Whether a node multiplies by weights, and not two computed matrices."""
    return node.op_type in WEIGHTED and node.input[1] in constants


def _axis(node):
    """The axis of a weight's output channels; None where there is no one axis."""
    attributes = {a.name: a.i for a in node.attribute}
    if node.op_type == "ConvTranspose":
        return 1 if attributes.get("group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if attributes.get("transB", 0) else 1
    return 0 if node.op_type == "Conv" else -1


def quantize(graph, ranges, bits, chip=False):
    """The graph with rounded weights and activations, in place; answers scales by layer.

    `bits` gives (activation, weight) bits by layer name. With `chip` the biases of the outputs lie
    on the grid of the sums, as in hardware; an emulator keeps them exact: they differ a little.
    """
    network, scales = graph.network, {}
    layer_of = {made: layer for layer in network.layers for made in layer.made}
    grid = {}
    for name in network.inputs:
        scales[name] = _round(graph, name, *ranges[name], bits=8, first=True)
    places = sites(graph)
    for name, tensor in places.items():
        low, high = ranges[name]
        scales[name] = _round(graph, tensor, low, high, bits=bits[name][0])
        grid[f"{tensor}:dq"] = scales[name]["scale"]
    for name in network.inputs:
        grid[f"{name}:dq"] = scales[name]["scale"]
    makers = {node.output[0]: node for node in graph.nodes}
    for node in [n for n in graph.nodes if weighted(n, graph.tensors)]:
        # where a site took the name of what it rounds, the maker's own output has another
        made = node.output[0].removesuffix(":raw")
        array, axis = graph.array(node.input[1]), _axis(node)
        axis = array.ndim - 1 if axis == -1 else axis
        name = layer_of[made].name
        weight_bits = bits[name][1]
        if axis is None:
            steps, scale = rounded_weights(array.reshape(1, -1), weight_bits, 0)
            steps, scale = steps.reshape(array.shape), scale.ravel()[:1]
        else:
            steps, scale = rounded_weights(array, weight_bits, axis)
        node.input[1] = _stored(graph, made, steps, scale, axis=axis, bits=weight_bits)
        step = _step_of(node.input[0], makers, grid) if chip and name in network.outputs else None
        if step is not None and len(node.input) > 2 and node.input[2] in graph.tensors:
            bias = graph.array(node.input[2])
            unit = (scale.ravel() * step).astype(np.float64)
            whole = (np.round(bias / unit) * unit).astype(np.float32)
            node.input[2] = graph.constant(f"{made}:bias", whole)
    return scales


def _stored(graph, made, steps, scale, *, axis, bits):
    """Weights as the file holds them: int8 with their scales, wider ones as floats."""
    if bits > 8 or axis is None:
        return graph.constant(f"{made}:weights", (steps * scale).astype(np.float32))
    names = [
        graph.constant(f"{made}:steps", steps.astype(np.int8)),
        graph.constant(f"{made}:step", scale.ravel()),
    ]
    return graph.node("DequantizeLinear", names, f"{made}:weights", 0, axis=axis)


def _step_of(tensor, makers, grid):
    """The scale of a value, looked up through what only moves or picks values."""
    passing = {"Transpose", "Flatten", "MaxPool", "Slice", "Gather", "Pad"}
    while tensor not in grid:
        maker = makers.get(tensor)
        if maker is None or maker.op_type not in passing:
            return None
        tensor = maker.input[0]
    return grid[tensor]


def _round(graph, tensor, low, high, *, bits, first=False):
    """Put a value on its grid; whoever read it reads the rounded one."""
    scale, zero = parameters(low, high, bits)
    raw = tensor if first else f"{tensor}:raw"
    if not first:
        graph.rename(tensor, raw, make=True)
    place = 0 if first else 1 + next(i for i, n in enumerate(graph.nodes) if raw in n.output)
    done = f"{tensor}:dq"
    graph.rename(tensor, done)
    names = [f"{tensor}:{word}" for word in ("scale", "zero", "low", "high")]
    if bits == 8:
        graph.constant(names[0], scale)
        graph.constant(names[1], np.uint8(zero))
        graph.node("QuantizeLinear", [raw, *names[:2]], f"{tensor}:q", place)
        graph.node("DequantizeLinear", [f"{tensor}:q", *names[:2]], done, place + 1)
    else:
        top = (1 << bits) - 1
        for name, value in zip(names, (scale, zero, -zero, top - zero), strict=True):
            graph.constant(name, np.float32(value))
        graph.node("Div", [raw, names[0]], f"{tensor}:div", place)
        graph.node("Round", [f"{tensor}:div"], f"{tensor}:round", place + 1)
        graph.node("Clip", [f"{tensor}:round", *names[2:]], f"{tensor}:clip", place + 2)
        graph.node("Mul", [f"{tensor}:clip", names[0]], done, place + 3)
    return {"scale": float(scale), "zero_point": zero, "bits": bits}
