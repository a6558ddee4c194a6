# /// script
# requires-python = ">=3.10"
# dependencies = ["onnxruntime>=1.23,<2", "onnx>=1.17,<1.20", "numpy>=1.26", "ml_dtypes>=0.5"]
# ///
"""ONNX Runtime: static int8 as Q/DQ nodes, offline optimisation, error by layer."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

# ONNX Runtime reports its use to its vendor unless this is set when it is imported
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np
import onnx
import onnxruntime
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

Array = np.ndarray[Any, Any]
Table = dict[str, Any]
# protobuf holds at most 2 GiB; beyond this the weights go to a file beside the model
EXTERNAL_BYTES = 1_800_000_000
BINS, LEVELS = 2048, 256
FLOATS = {onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.FLOAT16: np.float16}
DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}
QUANTIZED = re.compile(r"(Dynamic)?(Quantize|Dequantize)Linear|QLinear\w+|QGemm|\w+Integer")
LACKS = {
    r"[Oo]pset (\d+) is under development": "does not know opset {} yet",
    r"Unsupported model IR version: (\d+)": "does not know IR version {}",
    r"Could not find an implementation for (\S+) node with name '(.*)'": "lacks {} of node {!r}",
    r"No Op registered for (\S+) with domain_version of (\d+)": "lacks operator {} at opset {}",
    r"(\S+) is not a registered function/op": "lacks operator {}",
}
# a tuple holds the choices, its first the default
QUANTIZE_OPTIONS: Table = {
    "activation": ("quint8", "qint8"),
    "weight": ("qint8", "quint8"),
    "per_channel": True,
    "symmetric_activation": False,
    "symmetric_weight": True,
    "quantize_bias": True,
    "reduce_range": False,
    "calibration_method": ("minmax", "entropy", "percentile"),
    "percentile": 99.999,
    "exclude": [],
    "op_types": [],
}
COMPILE_OPTIONS: Table = {"graph_optimization": ("extended", "basic", "all", "as_given")}
HERE = {"fp32", "int8"}


class Unsupported(Exception):
    """ONNX Runtime cannot run this model here, and nothing is broken; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(Exception):
    """A model, an option or calibration data that is wrong; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def probe() -> Table:
    """The versions that decide what a model is quantized and optimised into."""
    return {"tools": {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}}


def quantize_model(model: str, output: str, calibration: str | None, options: Table) -> Table:
    """`output/quantized.onnx`: static int8 with Q/DQ nodes, ranges from the calibration samples.

    `calibration` is an .npz, one array an input; `array[i]` is the input of one inference, batch
    axis included. Weights are int8, symmetric and by output channel. Activations are uint8 with a
    zero point: the fastest kind on x86 with VNNI, and their range stands for Relu and Clip. A model
    that has Q/DQ or integer nodes already is answered as it is. Raises `BadInput`.
    """
    chosen = checked(options, QUANTIZE_OPTIONS)
    with tempfile.TemporaryDirectory(prefix="quantize-", dir=output) as work:
        proto = with_shapes(model, Path(work))
        if is_quantized(proto):
            note = "the model is quantized already: taken as it is, quantize options unused"
            return {"path": model, "options": {}, "warnings": [note], **probe()}
        if calibration is None:
            msg = "static int8 needs calibration data, and none was given"
            raise BadInput(msg, "Give `--calibration`, or `[calibration]` in the workload.")
        from onnxruntime import quantization as q
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

        types = sorted({*QDQRegistry, *QLinearOpsRegistry})
        require(chosen["op_types"], types, "op_types: operator")
        require(chosen["exclude"], [node.name for node in proto.graph.node], "exclude: node")
        chosen["op_types"] = chosen["op_types"] or types
        ranges = calibrate(proto, calibration, chosen, Path(work))
        kinds = {"quint8": q.QuantType.QUInt8, "qint8": q.QuantType.QInt8}
        data = {n: q.calibrate.TensorData(lowest=a, highest=b) for n, (a, b) in ranges.items()}
        quantizer = q.QDQQuantizer(
            model=proto,
            per_channel=chosen["per_channel"],
            reduce_range=chosen["reduce_range"],
            weight_qType=kinds[chosen["weight"]],
            activation_qType=kinds[chosen["activation"]],
            tensors_range=q.calibrate.TensorsData(q.CalibrationMethod.MinMax, data),
            nodes_to_quantize=[],
            nodes_to_exclude=chosen["exclude"],
            op_types_to_quantize=chosen["op_types"],
            extra_options={
                "ActivationSymmetric": chosen["symmetric_activation"],
                "WeightSymmetric": chosen["symmetric_weight"],
                "QuantizeBias": chosen["quantize_bias"],
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    path = Path(output, "quantized.onnx")
    save(quantizer.model.model, path)
    return {"path": str(path), "options": chosen, "warnings": [], **probe()}


def compile_model(
    model: str, output: str, precision: str, calibration: str | None, options: Table
) -> Table:
    """`output/model.onnx`: the graph as ONNX Runtime optimises it, constants folded in.

    Level "extended" fuses operators and makes integer operators of Q/DQ groups; the memory layout,
    which depends on the machine, stays for load time ("all" bakes it in). MobileNetV2 at 224 so
    stored runs as fast as its original loaded with all optimisations, in fp32 and int8. "as_given"
    changes nothing, for a provider that fuses in its own way as it loads: the rest is a CPU's. int8
    takes a model quantized before; `calibration` is not used. Raises `Unsupported`, `BadInput`.
    """
    chosen = checked(options, COMPILE_OPTIONS)
    as_given = chosen["graph_optimization"] == "as_given"
    if precision not in ({*HERE, "tf32", "fp16", "bf16"} if as_given else HERE):
        msg = f"precision {precision!r}: ONNX Runtime computes in fp32 or int8 on a CPU"
        raise Unsupported(msg, "Take fp32 or int8 for this target.")
    source, path = load(model, weights=as_given), Path(output, "model.onnx")
    answer = {"path": str(path), "format": "onnx", "options": chosen, "warnings": [], **probe()}
    if precision == "int8" and not is_quantized(source):
        msg = f"int8: {Path(model).name} has neither Q/DQ nor integer operators"
        raise BadInput(msg, "Quantize it first; a target with int8 names a `quantizer`.")
    if as_given:
        save(source, path)
        path.with_name("model.json").write_text(json.dumps({"format": 1, "precision": precision}))
        return answer
    settings = SessionOptions()
    settings.optimized_model_filepath = str(path)
    if any(tensor.data_location == tensor.EXTERNAL for tensor in source.graph.initializer):
        key = "session.optimized_model_external_initializers_file_name"
        settings.add_session_config_entry(key, path.name + ".data")
    open_session(model, f"ORT_ENABLE_{chosen['graph_optimization'].upper()}", settings)
    return answer


def layer_errors(model: str, quantized: str, inputs: str, options: Table) -> Table:
    """Signal to noise of each activation that both models name, in dB, the worst first.

    10 log10(sum x² / sum (x - x')²) over all samples of `inputs` (an .npz as for calibration):
    x of the float model, x' of the quantized one after its Q/DQ pair; null where equal. A layer is
    called by the node that makes it. One sample is held at a time. `options` have no say here.
    """
    floating, integer = load(model), load(quantized)
    after = {(n.op_type, name): n.output[0] for n in integer.graph.node for name in n.input}
    made = {name for node in integer.graph.node for name in node.output}
    layers = {
        name: node.name if len(node.output) == 1 else f"{node.name}:{place}"
        for node in floating.graph.node
        for place, name in enumerate(node.output)
        if name in made and node.op_type != "Constant"
    }
    rounded = [after.get(("QuantizeLinear", name), "") for name in layers]
    twins = [after.get(("DequantizeLinear", r), n) for r, n in zip(rounded, layers, strict=True)]
    with tempfile.TemporaryDirectory(prefix="layers-") as work:
        first = with_outputs(floating, list(layers), Path(work, "float.onnx"))
        second = with_outputs(integer, twins, Path(work, "integer.onnx"))
        power = {name: [0.0, 0.0] for name in layers}
        for feed in feeds(inputs, first):
            pairs = zip(layers, first.run(list(layers), feed), second.run(twins, feed), strict=True)
            for name, x, y in pairs:
                if x.dtype.kind == "f" and x.shape == y.shape:
                    exact = x.astype(np.float64).ravel()
                    power[name][0] += float(exact @ exact)
                    exact -= y.ravel()
                    power[name][1] += float(exact @ exact)
    snr = {
        layers[name]: 10 * math.log10(max(signal, sys.float_info.min) / noise) if noise else None
        for name, (signal, noise) in power.items()
        if signal or noise
    }
    worst_first = sorted(snr.items(), key=lambda item: (item[1] is None, item[1] or 0.0))
    return {"layers": [{"layer": layer, "snr_db": value} for layer, value in worst_first]}


def calibrate(model: onnx.ModelProto, calibration: str, options: Table, work: Path) -> Table:
    """The range of each activation, as numpy scalars of its own type.

    Minimum and maximum are taken inside the graph, so only numbers leave it. Entropy and percentile
    read the samples again into histograms of fixed size. One sample's activations are held at most.
    """
    types, alike = activations(model, options)
    names = list(types)
    reduced = onnx.ModelProto()
    reduced.CopyFrom(model)
    fetches = [f"{name}/{op_type}" for op_type in ("ReduceMin", "ReduceMax") for name in names]
    for fetch in fetches:
        name, _, op_type = fetch.rpartition("/")
        reduced.graph.node.append(onnx.helper.make_node(op_type, [name], [fetch], keepdims=0))
    session = with_outputs(reduced, fetches, work / "reduced.onnx")
    samples = feeds(calibration, session)
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for place, feed in enumerate(samples):
        found = np.array(session.run(fetches, feed), np.float64).reshape(2, -1)
        broken = ~np.isfinite(found).all(axis=0)
        if broken.any():
            msg = f"activation {names[int(broken.argmax())]!r} is not finite on sample {place}"
            raise BadInput(msg, "Look for NaN or infinity in the calibration data and weights.")
        low, high = np.minimum(low, found[0]), np.maximum(high, found[1])
    if options["calibration_method"] != "minmax":
        reduced.CopyFrom(model)
        session = with_outputs(reduced, names, work / "whole.onnx")
        counts = np.zeros((len(names), BINS), np.int64)
        span = np.where(high > low, high - low, 1.0)
        for feed in samples:
            for i, value in enumerate(session.run(names, feed)):
                place = np.clip((value.ravel() - low[i]) * (BINS / span[i]), 0, BINS - 1)
                counts[i] += np.bincount(place.astype(np.int32), minlength=BINS)
        for i in range(len(names)):
            low[i], high[i] = clip(counts[i], low[i], high[i], options)
    ranges = {n: (low[i].astype(types[n]), high[i].astype(types[n])) for i, n in enumerate(names)}
    for name in reversed(alike):
        ranges[name] = ranges[alike[name]]
    return ranges


def activations(model: onnx.ModelProto, options: Table) -> tuple[Table, dict[str, str]]:
    """Float activations with their types, and those that take the range of another.

    The quantizer drops a Relu or Clip that alone reads a tensor, unless ranges are symmetric: that
    tensor takes the range of their output and need not be measured.
    """
    graph = model.graph
    values = [*graph.value_info, *graph.input, *graph.output]
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    for tensor in graph.initializer:
        kinds.pop(tensor.name, None)
    readers = Counter(name for node in graph.node for name in node.input)
    fixed = {value.name for value in [*graph.input, *graph.output]}
    types: Table = {}
    alike: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in options["op_types"]:
            floats = [n for n in [*node.input, *node.output] if kinds.get(n) in FLOATS]
            types |= {name: FLOATS[kinds[name]] for name in floats}
            dropped = node.op_type in {"Relu", "Clip"} and not options["symmetric_activation"]
            alone = bool(floats) and readers[floats[0]] == 1 and floats[0] not in fixed
            if dropped and alone and node.name not in options["exclude"]:
                alike[floats[0]] = node.output[0]
    return {name: kind for name, kind in types.items() if name not in alike}, alike


def clip(counts: Array, low: float, high: float, options: Table) -> tuple[float, float]:
    """A narrower range: a percentile of the values within, or ("entropy") least information lost.

    That is the Kullback-Leibler divergence between the values cut at a distance from zero and the
    same in `LEVELS` steps (S. Migacz, "8-bit inference with TensorRT", 2017). Zeros are exact in
    any such range: their bin counts like its neighbour.
    """
    if low == high:
        return low, high
    edges = np.linspace(low, high, BINS + 1)
    if options["calibration_method"] == "percentile":
        share, cut = counts.cumsum() / counts.sum(), (100 - options["percentile"]) / 200
        first, last = np.searchsorted(share, [cut, 1 - cut])
        return edges[first], edges[min(last + 1, BINS)]
    zero = int(np.clip(round(-low / (high - low) * BINS), 0, BINS - 1))
    counts = counts.astype(np.float64)
    counts[zero] = counts[zero + 1 if zero + 1 < BINS else zero - 1]
    best, answer = math.inf, (low, high)
    for reach in range(max(zero, BINS - zero), 0, -8):
        start = max(zero - reach, 0)
        width = min(zero + reach, BINS) - start
        if width < LEVELS:
            break
        truth = np.bincount(np.clip(np.arange(BINS) - start, 0, width - 1), counts)
        step = np.arange(width) * LEVELS // width
        held = np.maximum(np.bincount(step, truth > 0), 1)
        mean = np.bincount(step, counts[start : start + width]) / held
        p, q = truth[truth > 0], np.maximum(mean[step][truth > 0], 1e-6)
        lost = float(p @ np.log(p / q * (q.sum() / p.sum()))) / p.sum()
        if lost < best:
            best, answer = lost, (edges[start], edges[start + width])
    return answer


def feeds(path: str, session: InferenceSession) -> list[dict[str, Array]]:
    """The samples of an .npz as inputs of a session, as views: the data is held once."""
    try:
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        msg = f"{path} is no .npz of arrays: {error}"
        raise BadInput(msg, "Write it with numpy.savez, one array an input.") from error
    wanted = {tensor.name: tensor for tensor in session.get_inputs()}
    counts = {array.shape[:1] for array in arrays.values()}
    if set(wanted) != set(arrays) or len(counts) != 1 or counts & {(), (0,)}:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        msg = f"{path} holds {found or 'nothing'}; the model's inputs are {', '.join(wanted)}"
        raise BadInput(msg, "One array an input, with as many samples in each, and not none.")
    for name, array in arrays.items():
        dtype = DTYPES.get(wanted[name].type, wanted[name].type[7:-1])
        shape = ["samples", *wanted[name].shape]
        sizes = zip(shape, array.shape, strict=False)
        fits = all(not isinstance(size, int) or size == found for size, found in sizes)
        if array.dtype != dtype or array.ndim != len(shape) or not fits:
            expected = f"expected {dtype} ({', '.join(map(str, shape))})"
            msg = f"input {name!r} in {path} is {array.dtype} {array.shape}, {expected}"
            raise BadInput(msg, "Samples stand on axis 0, before all of the model's own axes.")
    return [{name: array[i] for name, array in arrays.items()} for i in range(counts.pop()[0])]


def load(model: str, weights: bool = True) -> onnx.ModelProto:
    """The model in a file, its external weights too; a nameless node is called by its output."""
    try:
        proto = onnx.load(model, load_external_data=weights)
    except Exception as error:
        msg = f"{model} is no ONNX model: {error}"
        raise BadInput(msg, "Export it again.") from error
    for node in proto.graph.node:
        node.name = node.name or node.output[0]
    return proto


def with_shapes(model: str, work: Path) -> onnx.ModelProto:
    """The model with the types of its activations, at an opset that has Q/DQ by channel."""
    proto = load(model)
    if any(o.domain in {"", "ai.onnx"} and o.version < 13 for o in proto.opset_import):
        proto = onnx.version_converter.convert_version(proto, 13)
    save(proto, work / "model.onnx")
    onnx.shape_inference.infer_shapes_path(str(work / "model.onnx"), str(work / "shapes.onnx"))
    return load(str(work / "shapes.onnx"))


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model, its weights to a file beside it where they exceed what protobuf holds."""
    beside = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > EXTERNAL_BYTES
    onnx.save(model, str(path), save_as_external_data=beside, location=path.name + ".data")


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the model has Q/DQ nodes or operators on integers."""
    return any(QUANTIZED.fullmatch(node.op_type) for node in model.graph.node)


def with_outputs(model: onnx.ModelProto, names: list[str], path: Path) -> InferenceSession:
    """A session that computes the graph as it stands and gives the tensors of `names` too."""
    for name in sorted(set(names) - {value.name for value in model.graph.output}):
        model.graph.output.add(name=name)
    save(model, path)
    return open_session(str(path), "ORT_DISABLE_ALL", SessionOptions())


def open_session(model: str, level: str, settings: SessionOptions) -> InferenceSession:
    """A session, or an error that says whether the model is wrong or ONNX Runtime lacks a part."""
    settings.graph_optimization_level = getattr(GraphOptimizationLevel, level)
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        text = str(error).strip()
        for pattern, what in LACKS.items():
            if found := re.search(pattern, text):
                msg = f"ONNX Runtime {onnxruntime.__version__} {what.format(*found.groups())}"
                raise Unsupported(msg, "Export with another opset or operator.") from error
        msg = f"{Path(model).name} is no model ONNX Runtime can load: {text.splitlines()[0]}"
        raise BadInput(msg, "Check the export; onnx.checker may tell more.") from error


def checked(options: Table, known: Table) -> Table:
    """The options given over the known ones' defaults; an unknown key or value is refused."""
    chosen = {key: fix[0] if isinstance(fix, tuple) else fix for key, fix in known.items()}
    require(list(options), list(known), "option")
    for key, value in options.items():
        if isinstance(known[key], tuple):
            require([value], list(known[key]), f"{key}:")
        elif not isinstance(value, list if known[key] == [] else (bool, int, float)):
            msg = f"option {key} is {value!r}, expected a value like {known[key]!r}"
            raise BadInput(msg, "Correct its type.")
    return chosen | options


def require(words: list[Any], known: list[str], what: str) -> None:
    """Refuse a word that is not among the known, naming the nearest."""
    for word in words:
        if word not in known:
            close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.4)
            msg = f"{what} {word!r} is not known"
            raise BadInput(msg, f"Did you mean {close[0]!r}?" if close else f"Known: {known}.")
