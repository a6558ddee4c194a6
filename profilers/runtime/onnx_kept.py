# /// script
# requires-python = ">=3.10"
# dependencies = ["onnxruntime>=1.23,<2", "onnx>=1.17,<1.20", "numpy>=1.26"]
# ///
"""The numbers of the ONNX that an artifact was built from, by ONNX Runtime here: no time is told.

It is the typed or Q/DQ graph that the compiler kept, computed as ONNX defines it: each operator in
float32, what it gives rounded to its type. A device that fuses operators or adds up in another
order comes close and is not equal.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# ONNX Runtime reports its use to its vendor unless this is set when it is imported
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

sys.path.append(str(Path(__file__).resolve().with_name("onnx_kept")))
from kept_tf32 import shorten
from kept_widen import NARROW, graphs, kinds_in, widen

Array = npt.NDArray[Any]
Table = dict[str, Any]
# `kept` is the ONNX file, or its folder, where it is not ARTIFACT/../../kept/model.onnx;
# `threads` are samples at once, 0 for one a core
OPTIONS: Table = {"kept": "", "threads": 0}
EIGHT = {
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.FLOAT8E4M3FN: "float8e4m3fn",
    onnx.TensorProto.FLOAT8E5M2: "float8e5m2",
}
# protobuf holds at most 2 GiB; beyond this the weights go to a file beside the model
EXTERNAL_BYTES = 1_800_000_000
DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}
NOTE = (
    "numbers of the kept ONNX by ONNX Runtime on this host's CPU, not of the device; no time, no"
    " energy"
)
state: dict[str, Kept] = {}


class Unsupported(Exception):
    """ONNX Runtime cannot run this graph, or is not asked rightly; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(Exception):
    """An option, artifact or input that is wrong; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Kept:
    """The kept graph in a session of its own, and its inputs and outputs as the contract has."""

    def __init__(self, artifact: str, options: Table) -> None:
        self.options = options
        path = kept_file(artifact, options["kept"])
        model = read(path)
        kinds = kinds_in(model)
        narrow = sorted(NARROW[kind] for kind in kinds & set(NARROW))
        eight = sorted(EIGHT[kind] for kind in kinds & set(EIGHT)) if is_quantized(model) else []
        record = told(artifact)
        self.arithmetic = arithmetic(narrow, eight, record.get("precision", ""))
        with tempfile.TemporaryDirectory(prefix="kept-") as work:
            source = path
            tf32 = record.get("precision") == "tf32"
            if narrow or tf32:
                source = Path(work, "model.onnx")
                rounding(model, path, tf32=tf32)
                save(model, source)
            self.session = open_session(source)
        self.inputs = [described(value) for value in self.session.get_inputs()]
        self.outputs = [described(value) for value in self.session.get_outputs()]
        self.names = [value["name"] for value in self.outputs]
        same_ends(record, self.inputs, self.outputs, path)

    def forward(self, feed: dict[str, Array]) -> list[Array]:
        """The outputs of one sample, in the model's order."""
        return list(self.session.run(self.names, feed))


def probe() -> Table:
    """The versions of what computes."""
    return {"tools": {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}}


def load(artifact: str, options: Table) -> Table:
    """Take up the ONNX that the compiler kept beside the artifact.

    Options: `kept`, the ONNX file or its folder where it is not `ARTIFACT/../../kept/model.onnx`;
    `threads`, samples at once (0: one a core). Raises `BadInput`, `Unsupported`.
    """
    chosen = checked(options)
    state.clear()
    loaded = state["loaded"] = Kept(artifact, chosen)
    return {"inputs": loaded.inputs, "outputs": loaded.outputs, "options": chosen}


def run(inputs: dict[str, Array]) -> dict[str, Array]:
    """One inference: arrays by the model's names in and out. Raises `BadInput`."""
    loaded = current()
    feed = verified(loaded, {name: np.asarray(value)[None] for name, value in inputs.items()})
    values = loaded.forward({name: value[0] for name, value in feed.items()})
    return dict(zip(loaded.names, values, strict=True))


def run_many(samples: dict[str, Array]) -> dict[str, Array]:
    """Many inferences: arrays of N samples in and out, each computed as if alone."""
    loaded = current()
    feed = verified(loaded, samples)
    count = len(next(iter(feed.values())))
    at_once = loaded.options["threads"] or cores()
    with ThreadPoolExecutor(min(at_once, count)) as pool:
        rows = list(
            pool.map(
                lambda i: loaded.forward({name: value[i] for name, value in feed.items()}),
                range(count),
            )
        )
    return {name: np.stack([row[j] for row in rows]) for j, name in enumerate(loaded.names)}


def bind(inputs: dict[str, Array]) -> None:
    """Raise `Unsupported`: there is nothing here that may be timed."""
    msg = "this computes a device's numbers on this host; its time is not the device's"
    raise Unsupported(msg, "Measure on the device.")


def timed(inputs: dict[str, Array], warm_up: int, count: int) -> Table:
    """Nothing is timed; that it is asked at all keeps the host's own loop out."""
    return {"clock": "none", "latency_s": None, "cycles": None, "instructions": None} | {
        "notes": [f"{NOTE}: {current().arithmetic}" if state else NOTE]
    }


def facts() -> Table:
    """Versions; that these numbers are emulated, and in which arithmetic."""
    found = {**probe(), "device": "ONNX Runtime on this host's CPU", "emulated": True}
    return {**found, **({"arithmetic": current().arithmetic} if state else {})}


def layers(inputs: dict[str, Array], count: int) -> list[Table]:
    """No times, so no layers."""
    return []


def memory() -> dict[str, int]:
    """This process's memory is not the device's."""
    return {}


def kept_file(artifact: str, named: str) -> Path:
    """The ONNX file that the compiler kept, or the artifact where that is ONNX as it was given;
    `BadInput` where there is none.
    """
    path = Path(named) if named else Path(artifact).parent.parent / "kept"
    path = path / "model.onnx" if path.is_dir() or not named else path
    if not named and not path.is_file() and Path(artifact).suffix == ".onnx":
        path = Path(artifact)
    if not path.is_file():
        msg = f"there is no {path}: what is emulated is the ONNX that the compiler kept there"
        raise BadInput(msg, "Compile again; option `kept` names it if it lies elsewhere.")
    return path


def read(path: Path) -> onnx.ModelProto:
    """The model in a file, its external weights too."""
    try:
        return onnx.load(str(path))
    except Exception as error:
        msg = f"{path} is no ONNX model: {error}"
        raise BadInput(msg, "Compile again; it may not be changed.") from error


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a model, its weights to a file beside it where they exceed what protobuf holds."""
    beside = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > EXTERNAL_BYTES
    onnx.save(model, str(path), save_as_external_data=beside, location=path.name + ".data")


def arithmetic(narrow: list[str], eight: list[str], precision: str) -> str:
    """What is computed in which type, in words."""
    words = [f"each result rounded to {' or '.join(narrow)}"] if narrow else []
    words += [f"Q/DQ of {', '.join(eight)} as ONNX defines it"] if eight else []
    factors = " of factors rounded to TF32" if precision == "tf32" else ""
    return "; ".join([f"products{factors} and sums in float32", *words])


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether a model has Q/DQ nodes."""
    kinds = {node.op_type for graph in graphs(model.graph) for node in graph.node}
    return bool(kinds & {"QuantizeLinear", "DequantizeLinear"})


def rounding(model: onnx.ModelProto, path: Path, *, tf32: bool) -> None:
    """Make the model round as the device does: each result to its type, or factors to TF32.

    Raises `BadInput` where types cannot be told.
    """
    try:
        if tf32:
            shorten(model, path)
        else:
            widen(model, path)
    except Exception as error:
        msg = f"{path}: the types of its values cannot be told: {str(error).strip()[:200]}"
        raise BadInput(msg, "Compile again; the file may not be changed.") from error


def open_session(path: Path) -> InferenceSession:
    """A session that computes the graph as it stands, one sample on one thread.

    Q/DQ groups are not made integer operators: those saturate on processors without VNNI, and the
    numbers are not to depend on this host. Only what does not depend on types is optimised: beyond
    that ONNX Runtime 1.31 takes the zero point of an 8-bit float for an integer's, and computes
    wrong numbers.
    """
    settings = SessionOptions()
    settings.intra_op_num_threads = 1
    settings.inter_op_num_threads = 1
    settings.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        text = next(iter(str(error).strip().splitlines()), type(error).__name__)
        msg = f"ONNX Runtime {onnxruntime.__version__} cannot run the kept ONNX: {text[:300]}"
        hint = "Its accuracy can be told on the device alone, or in another precision here."
        raise Unsupported(msg, hint) from error


def told(artifact: str) -> Table:
    """What model.json beside an artifact says of it; nothing where there is none."""
    record = Path(artifact).with_name("model.json")
    found: Table = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    return found


def same_ends(record: Table, inputs: list[Table], outputs: list[Table], path: Path) -> None:
    """Refuse a kept graph that is not the artifact's, where its record names inputs, outputs."""
    for key, found in (("inputs", inputs), ("outputs", outputs)):
        said = [each["name"] for each in record.get(key, found)]
        names = [each["name"] for each in found]
        if sorted(said) != sorted(names):
            msg = f"{path} has {key} {names}, model.json of the artifact says {said}"
            raise BadInput(msg, "They are not of one compilation: compile again.")


def described(value: onnxruntime.NodeArg) -> Table:
    """Name, numpy dtype and shape; a free dimension is a name."""
    dtype = DTYPES.get(value.type, value.type[len("tensor(") : -1])
    shape = [
        size if isinstance(size, int) else size or f"{value.name}_{axis}"
        for axis, size in enumerate(value.shape)
    ]
    return {"name": value.name, "dtype": dtype, "shape": shape}


def verified(loaded: Kept, samples: dict[str, Array]) -> dict[str, Array]:
    """Samples (N, *shape) of every input; a wrong one is refused."""
    wanted = {value["name"]: value for value in loaded.inputs}
    if set(samples) != set(wanted):
        msg = f"inputs given are {sorted(samples)}, the model's are {sorted(wanted)}"
        raise BadInput(msg, "Give one array for each of the model's inputs.")
    counts = {len(value) for value in samples.values()}
    if len(counts) != 1 or counts == {0}:
        msg = f"inputs have {sorted(counts)} samples, expected the same number of each, at least 1"
        raise BadInput(msg, "Give as many samples for each input.")
    feed = {}
    for name, value in samples.items():
        array, shape = np.ascontiguousarray(value), wanted[name]["shape"]
        sizes = zip(shape, array.shape[1:], strict=False)
        same = all(not isinstance(size, int) or size == found for size, found in sizes)
        if str(array.dtype) != wanted[name]["dtype"] or array.ndim != len(shape) + 1 or not same:
            expected = f"{wanted[name]['dtype']} {tuple(shape)}"
            msg = f"input {name!r} is {array.dtype} {array.shape[1:]}, expected {expected}"
            raise BadInput(msg, "Check the workload's shape and dtype for this input.")
        feed[name] = array
    return feed


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def current() -> Kept:
    """What `load` made last."""
    if not state:
        msg = "no artifact is loaded"
        raise BadInput(msg, "Call load(artifact, options) first.")
    return state["loaded"]


def checked(options: Table) -> Table:
    """The options given over the defaults; an unknown key or value is refused."""
    for key, value in options.items():
        if key not in OPTIONS:
            close = difflib.get_close_matches(str(key), list(OPTIONS), n=1, cutoff=0.4)
            msg = f"option {key!r} is not known"
            raise BadInput(msg, f"Did you mean {close[0]!r}?" if close else f"Known: {[*OPTIONS]}.")
        if type(value) is not type(OPTIONS[key]) or (key == "threads" and value < 0):
            msg = f"option {key} is {value!r}, expected a value like {OPTIONS[key]!r}"
            raise BadInput(msg, "threads is 0 (one a core) or more; kept is a path.")
    return {**OPTIONS, **options}
