# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = ["esp-ppq==1.3.12", "torch==2.13.0", "onnx>=1.17,<1.20", "numpy>=1.26"]
# ///
"""ESP-DL for ESP32 chips: an ONNX model quantized by esp-ppq, with its errors by layer."""

from __future__ import annotations

import difflib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

Array = np.ndarray[Any, Any]
Table = dict[str, Any]
TOOLS = ("esp-ppq", "torch", "onnx", "onnxsim", "numpy", "flatbuffers")
STEPS = Path(__file__).resolve().parent / "espdl"
CHIPS = ("esp32s3", "esp32p4", "esp32s31", "esp32", "esp32s2", "esp32c3", "esp32c5", "esp32c6", "c")
PRECISIONS = ("int8", "int16", "mixed")
QUANTIZED = re.compile(r"(Dynamic)?(Quantize|Dequantize)Linear|QLinear\w+|QGemm|\w+Integer")
FLOAT32 = onnx.TensorProto.FLOAT
LAYER_OPTIONS = ("int16_layers", "mixed_layers", "mixed_min_snr_db")
COUNTS = ("calibration_steps", "equalization_iterations", "search_candidates", "error_samples")
LEAST_SAMPLES, MOST_SAMPLES = 2, 5000  # esp-ppq's own limits
# a tuple holds the choices, its first the default
OPTIONS: Table = {
    "chip": CHIPS,
    "calibration_algorithm": ("default", "kl", "percentile", "minmax", "mse"),
    "calibration_steps": 256,
    "equalization": False,
    "equalization_iterations": 10,
    "equalization_threshold": 0.5,
    "bias_correction": False,
    "tqt_steps": 0,
    "tqt_learning_rate": 1e-5,
    "int16_layers": [],
    "mixed_layers": 0.0,
    "mixed_min_snr_db": 0.0,
    "search": False,
    "search_candidates": 12,
    "error_samples": 4,
    "seed": 0,
    "mlperf_id": "",
}


class Missing(Exception):
    """esp-ppq is not there; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Unsupported(Exception):
    """ESP-DL cannot run this model, and nothing is broken; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(Exception):
    """A model, an option or calibration data that is wrong; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


KINDS = {kind.__name__: kind for kind in (Missing, Unsupported, BadInput)}


def probe() -> Table:
    """The versions that decide what a model is quantized into."""
    try:
        return {"tools": {name: importlib.metadata.version(name) for name in TOOLS}}
    except importlib.metadata.PackageNotFoundError as error:
        msg = f"{error.name} is not installed"
        raise Missing(msg, "pip install esp-ppq==1.3.12 torch==2.13.0") from error


def compile_model(
    model: str, output: str, precision: str, calibration: str | None, options: Table
) -> Table:
    """`output/model.espdl`: the model for one chip, test vectors and input layouts in it.

    `precision` is "int8", "int16" or "mixed" (int8 with some layers in int16). Powers of two are
    the only scales. `calibration` is an .npz, one array an input; `array[i]` is the input of one
    inference, batch axis included. Beside the folder `output`, in `kept`, lie what people read
    (`model.info`, `model.json`, `errors.json`) and the quantized graph as data for the emulator.
    The work is done in a process of its own, in which the order of sets and hashes is fixed: the
    same input gives the same bytes. Raises `Unsupported`, `BadInput`.
    """
    tools = probe()
    if precision not in PRECISIONS:
        msg = f"precision {precision!r}: ESP-DL runs these chips in whole numbers only"
        hint = "Take int8, int16 or mixed; float layers would run in software, if at all."
        raise Unsupported(msg, hint)
    chosen = checked(options, precision)
    kept = Path(output).parent / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="espdl-", dir=Path(output).parent) as work:
        inputs, outputs, nodes = prepare(model, Path(work, "model.onnx"))
        require(chosen["int16_layers"], nodes, "int16_layers: node")
        if chosen["search"] and len(inputs) != 1:
            msg = f"search = true: esp-ppq searches models of one input, this has {len(inputs)}"
            raise BadInput(msg, "Leave `search` out and choose the options yourself.")
        if calibration is None:
            msg = f"{precision} needs calibration data, and none was given"
            raise BadInput(msg, "Give `--calibration`, or `[calibration]` in the workload.")
        request = {
            "work": work,
            "kept": str(kept),
            "precision": precision,
            "inputs": inputs,
            "outputs": outputs,
            "samples": extracted(calibration, inputs, chosen["calibration_steps"], Path(work)),
            "options": chosen,
        }
        answer = in_child(request, Path(work))
        path = Path(output, "model.espdl")
        shutil.move(str(Path(work, "model.espdl")), path)
    return {
        "path": str(path),
        "format": "espdl",
        "kept": str(kept),
        "options": answer["options"],
        "warnings": answer["warnings"],
        **tools,
    }


def layer_errors(model: str, quantized: str, inputs: str, options: Table) -> Table:
    """Signal to noise of each computing layer in dB, the worst first, as measured when compiled.

    On calibration samples: `snr_db` at the layer's own output, with the error of all before it;
    `alone_snr_db` at the network's outputs, with only this layer quantized; null where equal.
    `options["kept"]` is the folder that `compile_model` answered.
    """
    path = Path(str(options.get("kept", "")), "errors.json")
    if not path.is_file():
        msg = f"{path} does not exist"
        raise BadInput(msg, "Compile the model again; its answer names the folder `kept`.")
    return {"layers": json.loads(path.read_text(encoding="utf-8"))["layers"]}


def prepare(model: str, path: Path) -> tuple[list[Table], list[str], list[str]]:
    """Copy a model to `path`, batch 1 and all nodes named; its inputs, outputs and nodes."""
    try:
        proto = onnx.load(model)
    except Exception as error:
        msg = f"{model} is no ONNX model: {error}"
        raise BadInput(msg, "Export it again.") from error
    quantized = [node for node in proto.graph.node if QUANTIZED.fullmatch(node.op_type)]
    if quantized:
        node = quantized[0]
        msg = f"the model is quantized already: node {node.name!r} is a {node.op_type}"
        hint = "Give the float model; esp-ppq quantizes it with scales that are powers of two."
        raise Unsupported(msg, hint)
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = []
    for value in proto.graph.input:
        if value.name in weights:
            continue
        kind = value.type.tensor_type
        if kind.elem_type != FLOAT32:
            found = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
            msg = f"input {value.name!r} is {found}; esp-ppq calibrates float32 inputs only"
            raise Unsupported(msg, "Do what needs whole numbers, such as a look-up, on the host.")
        for axis, size in enumerate(kind.shape.dim):
            if not size.dim_value and axis == 0:
                size.dim_value = 1
            elif not size.dim_value:
                msg = f"axis {axis} of input {value.name!r} is free ({size.dim_param or '?'})"
                raise Unsupported(msg, "Export it with a fixed size: a chip has no other.")
        shape = [size.dim_value for size in kind.shape.dim]
        if len(shape) >= 4 and shape[0] != 1:
            msg = f"input {value.name!r} has shape {shape}: batch {shape[0]}"
            raise Unsupported(msg, "Export it with batch 1: a chip runs one sample at a time.")
        inputs.append({"name": value.name, "shape": shape})
    nodes: list[str] = []
    for node in proto.graph.node:
        node.name = node.output[0] if node.name in {"", *nodes} else node.name
        nodes.append(node.name)
    try:
        if not all(value.type.tensor_type.HasField("shape") for value in proto.graph.output):
            proto = onnx.shape_inference.infer_shapes(proto)
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        msg = f"{Path(model).name} is no valid ONNX model: {str(error).splitlines()[0]}"
        raise BadInput(msg, "Export it again; onnx.checker tells more.") from error
    # names of free sizes; those that depend on the batch become numbers when it is simplified
    del proto.graph.value_info[:]
    onnx.save(proto, str(path))
    return inputs, [value.name for value in proto.graph.output], nodes


def extracted(calibration: str, inputs: list[Table], count: int, work: Path) -> dict[str, str]:
    """The arrays of an .npz as files to be read sample by sample: fit for the inputs, and finite.

    Of each the first `count` samples are looked at, as only they will be used.
    """
    try:
        files = {}
        with zipfile.ZipFile(calibration) as archive:
            for place, name in enumerate(archive.namelist()):
                path = work / f"samples{place}.npy"
                with archive.open(name) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
                files[name.removesuffix(".npy")] = str(path)
        arrays = {name: np.load(path, mmap_mode="r") for name, path in files.items()}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        msg = f"{calibration} is no .npz of arrays: {error}"
        raise BadInput(msg, "Write it with numpy.savez, one array an input.") from error
    counts = {array.shape[:1] for array in arrays.values()}
    if (
        {value["name"] for value in inputs} != set(arrays)
        or len(counts) != 1
        or counts & {(), (0,)}
    ):
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        names = ", ".join(value["name"] for value in inputs)
        msg = f"{calibration} holds {found or 'nothing'}; the model's inputs are {names}"
        raise BadInput(msg, "One array an input, with as many samples in each, and not none.")
    for value in inputs:
        array = arrays[value["name"]]
        if array.dtype != np.float32 or list(array.shape[1:]) != value["shape"]:
            expected = f"expected float32 {('samples', *value['shape'])}"
            msg = f"input {value['name']!r} in {calibration} is {array.dtype} {array.shape}, "
            raise BadInput(msg + expected, "Samples stand on axis 0, before all axes of the model.")
        if len(array[:count]) < LEAST_SAMPLES:
            msg = f"{len(array[:count])} calibration sample; esp-ppq takes {LEAST_SAMPLES} or more"
            raise BadInput(msg, "Give more data, or a higher `calibration_steps`.")
        for place, sample in enumerate(array[:count]):
            if not np.isfinite(sample).all():
                msg = f"calibration sample {place} of input {value['name']!r} is not finite"
                raise BadInput(msg, "Look for NaN or infinity in the calibration data.")
    return files


def in_child(request: Table, work: Path) -> Table:
    """Have the request answered by a new interpreter whose hashes are fixed.

    The child's stdin is a pipe that nothing is ever written to: it closes when this process ends,
    however that comes, and then the child ends too.
    """
    asked, answered = work / "request.json", work / "answer.json"
    asked.write_text(json.dumps(request), encoding="utf-8")
    command = [sys.executable, str(STEPS / "quantize.py"), str(asked), str(answered)]
    fixed = {"PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}
    environment = {**os.environ, **fixed}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2, env=environment) as child:
        try:
            code = child.wait()
        except BaseException:
            child.kill()
            raise
    answer: Table = json.loads(answered.read_text("utf-8")) if answered.is_file() else {}
    if error := answer.get("error"):
        print(error["trace"], file=sys.stderr)
        raise KINDS.get(error["kind"], RuntimeError)(*error["arguments"])
    if code or not answer:
        ended = f"by signal {-code}" if code < 0 else f"with code {code}"
        why = ", most likely for want of memory" if code == -signal.SIGKILL else ""
        msg = f"the process that quantizes ended {ended} without an answer{why}; see its log"
        raise RuntimeError(msg)
    return answer


def checked(options: Table, precision: str) -> Table:
    """The options given over the defaults; an unknown key or value is refused."""
    chosen = {key: fix[0] if isinstance(fix, tuple) else fix for key, fix in OPTIONS.items()}
    require(list(options), list(OPTIONS), "option")
    for key, value in options.items():
        fix = OPTIONS[key]
        if isinstance(fix, tuple):
            require([value], list(fix), f"{key}:")
        elif type(value) is not type(fix) and (type(value), type(fix)) != (int, float):
            msg = f"option {key} is {value!r}, expected a value like {fix!r}"
            raise BadInput(msg, "Correct its type.")
        elif isinstance(value, (int, float)) and value < (key in COUNTS):
            msg = f"option {key} is {value!r}, expected {int(key in COUNTS)} or more"
            raise BadInput(msg, "Correct its value.")
        elif precision != "mixed" and key in LAYER_OPTIONS and value:
            msg = f"option {key} chooses layers for int16, and the precision is {precision}"
            raise BadInput(msg, "Take precision mixed, or leave the option out.")
    chosen |= options
    if chosen["calibration_steps"] > MOST_SAMPLES:
        msg = f"option calibration_steps is {chosen['calibration_steps']}"
        raise BadInput(msg, f"esp-ppq takes {MOST_SAMPLES} samples at most.")
    if chosen["calibration_algorithm"] == "default":
        # esp-ppq's own for int8, kl, costs MLPerf Tiny's ResNet8 up to 2 points
        chosen["calibration_algorithm"] = "minmax" if precision == "int16" else "percentile"
    return chosen


def require(words: list[Any], known: list[str], what: str) -> None:
    """Refuse a word that is not among the known, naming the nearest."""
    for word in words:
        if word not in known:
            close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.4)
            msg = f"{what} {word!r} is not known"
            raise BadInput(msg, f"Did you mean {close[0]!r}?" if close else f"Known: {known}.")
