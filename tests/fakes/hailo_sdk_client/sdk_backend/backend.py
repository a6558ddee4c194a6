"""What the runner's calls do: optimize, compile, emulate."""

import copy
import math

import numpy as np
import onnx
from onnx import numpy_helper

from hailo_sdk_client import log
from hailo_sdk_client.exposed_definitions import InferenceContext
from hailo_sdk_client.sdk_backend import archive, float_graph, plan, quantize, sessions
from hailo_sdk_client.sdk_backend.sdk_backend_exceptions import InvalidArgumentsException


class Results:
    """What an optimization leaves: the quantized models, and the grid of each layer."""

    def __init__(self, emulated, chip, scales, done):
        self.emulated, self.chip, self.scales, self.done = emulated, chip, scales, done

    def files(self):
        return {
            "quantized.onnx": self.emulated,
            "chip.onnx": self.chip,
            "quantized.json": {"scales": self.scales, "optimization_level": self.done},
        }

    @classmethod
    def of(cls, files):
        if "quantized.json" not in files:
            return None
        record = files["quantized.json"]
        level = record["optimization_level"]
        return cls(files["quantized.onnx"], files["chip.onnx"], record["scales"], level)


class Context:
    """An emulator that is open; it makes its session once."""

    def __init__(self, kind):
        self.kind = kind
        self.session = None

    def infer(self, network, script, results, data, batch_size):
        if self.session is None:
            self.session = sessions.open_session(self._model(network, script, results))
        limit = batch_size if network.batchable else 1
        parts = []
        for part in sessions.batches(data, limit):
            feed = {
                name: array.astype(np.float32).reshape(len(array), *wire(network, name))
                for name, array in part.items()
            }
            parts.append(self.session.run(network.outputs, feed))
        whole = [np.concatenate(part) for part in zip(*parts, strict=True)]
        shapes = [network.layer(name).output_shape for name in network.outputs]
        return [a.reshape(len(a), *shape) for a, shape in zip(whole, shapes, strict=True)]

    def _model(self, network, script, results):
        if self.kind is InferenceContext.SDK_QUANTIZED:
            return results.emulated
        if self.kind is InferenceContext.SDK_NATIVE:
            graph = float_graph.native(network)
        else:
            graph = float_graph.optimized(network, script)
        return graph.finished(*graph.ends)


def wire(network, name):
    return float_graph.wire_shape(network.layer(name).output_shape)


def check_script(script):
    """Refuse what a script may say and this stand-in does not compute."""
    if any(record["command"] == "nms_postprocess" for record in script):
        message = "this stand-in computes no NMS: leave nms_postprocess out"
        raise InvalidArgumentsException(message)


def optimize(network, script, data):
    """Ranges over the calibration set, then the quantized models."""
    entries = len(next(iter(data.values())))
    taken = plan.calibset(script, entries)
    log.info("Starting Model Optimization")
    done = plan.level(script, entries)
    share = plan.compression(script, done)
    steps = plan.algorithms(script, done, entries)
    if done <= 0:
        text = "Running model optimization with zero level of optimization is not recommended for"
        log.warning(f"{text} production use and might lead to suboptimal accuracy results")
    log.info("Model received quantization params from the hn")
    log.info("MatmulDecompose skipped")
    with log.step("Mixed Precision"):
        bits = plan.bits(network, script, share, weights(network))
    log.info("LayerNorm Decomposition skipped")
    graph = float_graph.optimized(network, script)
    with log.step("Statistics Collector"):
        log.info(f"Using dataset with {taken} entries for calibration")
        data = {name: array[:taken] for name, array in data.items()}
        ranges = quantize.calibrate(graph, data)
    force(network, script, graph, data, ranges)
    for name in ("Fix zp_comp Encoding", "MatmulDecomposeFix"):
        with log.step(name):
            chip = copy.deepcopy(graph)
    log.info("Finetune encoding skipped")
    for feature, name in plan.ALGORITHMS.items():
        if feature not in steps:
            log.info(f"{name} skipped")
            continue
        with log.step(name):
            if feature != "bias_correction":
                word = "finetune" if feature == "finetune" else name
                log.info(f"Using dataset with {steps[feature]} entries for {word}")
    log.info("Layer Noise Analysis skipped")
    _warn_of_range(script, data)
    scales = quantize.quantize(graph, ranges, bits)
    quantize.quantize(chip, ranges, bits, chip=True)
    log.info("Model Optimization is done")
    models = [g.finished(*g.ends).SerializeToString() for g in (graph, chip)]
    return Results(*models, scales, done)


def force(network, script, graph, data, ranges):
    """Ranges that are known: raw images from 0 to 255, a sigmoid from 0 to 1."""
    normalized = {r["layer"] for r in script if r["command"] == "normalization"}
    for name, array in data.items():
        low, high = ranges[name]
        raw = array.dtype == np.uint8 or high > 128 or (name in normalized and high > 2)
        if raw and low >= 0 and high <= 255:
            ranges[name] = (0.0, 255.0)
    makers = {node.output[0]: node.op_type for node in graph.nodes}
    places = quantize.sites(graph)
    for name in network.outputs:
        if name in places and makers.get(places[name]) == "Sigmoid":
            low, high = ranges[name]
            text = f"Output layer {name} with sigmoid activation was detected."
            text += f" Forcing its output range to be [0, 1] (original range was [{low}, {high}])."
            log.info(text)
            ranges[name] = (0.0, 1.0)


def _warn_of_range(script, data):
    """The hint that the compiler gives where data was normalized outside of the network."""
    normalized = {r["layer"] for r in script if r["command"] == "normalization"}
    for name, array in data.items():
        if name not in normalized and (array.min() < 0 or array.max() <= 1):
            axes = tuple(range(array.ndim - 1))
            low, high = array.min(axis=axes), array.max(axis=axes)
            pairs = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
            text = "The calibration set seems to not be normalized, because the values range is"
            log.info(f"{text} {pairs}.")


def weights(network):
    """Number of weights by layer."""
    return {name: math.prod(shape) for name, (shape, _) in _products(network).items()}


def _products(network):
    """Shape of the weights, and positions they are applied at, by layer."""
    model = onnx.ModelProto()
    model.ParseFromString(network.body)
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    layer_of = {made: layer for layer in network.layers for made in layer.made}
    found = {}
    for node in model.graph.node:
        if quantize.weighted(node, shapes):
            layer = layer_of[node.output[0]]
            positions = math.prod(layer.output_shape[:-1]) if len(layer.output_shape) > 1 else 1
            found[layer.name] = (shapes[node.input[1]], positions)
    return found


def params(network):
    """Weights and biases by name, kernels as (H, W, in, out)."""
    model = onnx.ModelProto()
    model.ParseFromString(network.body)
    tensors = {t.name: t for t in model.graph.initializer}
    layer_of = {made: layer for layer in network.layers for made in layer.made}
    found = {}
    for node in model.graph.node:
        if quantize.weighted(node, tensors):
            name = layer_of[node.output[0]].name
            kernel = numpy_helper.to_array(tensors[node.input[1]])
            found[f"{name}/kernel:0"] = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel
            if len(node.input) > 2 and node.input[2]:
                found[f"{name}/bias:0"] = numpy_helper.to_array(tensors[node.input[2]])
    return found


def hn(network, script):
    """The network as a dict, with the layers that a script has added behind its inputs."""
    record = network.hn()
    layers = record["layers"]
    for command in script:
        if command["command"] not in {"normalization", "input_conversion"}:
            continue
        kind = "normalization" if command["command"] == "normalization" else "format_conversion"
        first = layers[command["layer"]]
        name = f"{network.name}/{command['names'][0]}"
        shapes = {key: first[key] for key in ("input_shapes", "output_shapes")}
        after = list(first["output"])
        made = {"type": kind, "input": [command["layer"]], "output": after, "original_names": []}
        for other in after:
            places = layers[other]["input"]
            layers[other]["input"] = [name if n == command["layer"] else n for n in places]
        layers[name] = made | shapes
        first["output"] = [name]
    return record


def compile_network(network, script, results, hw_arch):
    """The bytes of the HEF, and the log of getting there."""
    best = plan.setting(script, "performance_param").get("level") == "max"
    if not best:
        text = 'To achieve optimal performance, set the compiler_optimization_level to "max" by'
        text += " adding performance_param(compiler_optimization_level=max) to the model script."
        log.info(f"{text} Note that this may increase compilation time.")
    log.info("Loading network parameters")
    log.info("Starting Hailo allocation and compilation flow")
    log.info("Using Single-context flow")
    log.info("Validating layers feasibility")
    log.info("Layers feasibility validated successfully")
    log.info("Successful Mapping (allocation time: 0s)")
    log.info(f"Compiling kernels of {network.name}_context_0...")
    sizes = [
        8 * sum(math.prod(network.layer(name).output_shape) for name in names) / (1 << 20)
        for names in (network.inputs, network.outputs)
    ]
    text = f"Bandwidth of model inputs: {sizes[0]:.6g} Mbps, outputs: {sizes[1]:.6g} Mbps"
    log.info(f"{text} (for a single frame)")
    log.info("Building HEF...")
    model = onnx.ModelProto()
    model.ParseFromString(results.chip)
    fps = estimate(network, hw_arch)
    made = archive.hef(network, hw_arch, one_frame(model), results.scales, {"fps": fps})
    log.info("Successful Compilation (compilation time: 0s)")
    return made


def one_frame(model):
    """The model with a batch axis of 1."""
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return model


def estimate(network, hw_arch):
    return plan.fps(hw_arch, plan.products(_products(network).values()))


def profile(network, hw_arch):
    """Figures of a static estimate; none is measured."""
    products = plan.products(_products(network).values())
    fps = estimate(network, hw_arch)
    layers = [{"layer_name": layer.name, "type": layer.type} for layer in network.layers]
    stats = {"model_name": network.name, "standin": True, "fps": fps, "macs": products}
    return {"stats": stats, "latency_data": {"overall_latency_ms": 1000.0 / fps}, "layers": layers}


def noise(network, script, results, data, batch_size):
    """10 log10(signal² / noise²) of each output layer, quantized against float."""
    pairs = [
        Context(kind).infer(network, script, results, data, batch_size)
        for kind in (InferenceContext.SDK_FP_OPTIMIZED, InferenceContext.SDK_QUANTIZED)
    ]
    found = {}
    for name, exact, rounded in zip(network.outputs, *pairs, strict=True):
        error = float(np.square(exact.astype(np.float64) - rounded).sum())
        signal = float(np.square(exact.astype(np.float64)).sum())
        found[name] = round(10 * math.log10(signal / error), 4) if error and signal else None
    log.info("Output layers signal-to-noise ratio (SNR):")
    for name, value in found.items():
        log.info(f"\t{name} SNR:\t{value} dB")
    return found
