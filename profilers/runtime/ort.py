# /// script
# requires-python = ">=3.10"
# dependencies = ["onnxruntime>=1.23,<2", "numpy>=1.26"]
# ///
"""ONNX Runtime on the CPU or by CUDA: one inference, its bare call for timing, its layers."""

from __future__ import annotations

import difflib
import functools
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

# ONNX Runtime reports its use to its vendor unless this is set when it is imported
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

Array = npt.NDArray[Any]
DEFAULTS: dict[str, Any] = {
    "threads": 1,
    "spinning": False,
    "graph_optimization": "all",
    "provider": "CPUExecutionProvider",
}
LEVELS = {
    "all": GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "disable": GraphOptimizationLevel.ORT_DISABLE_ALL,
}
DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(string)": "object"}
WARM_UP_RUNS = 3
LEAST = {"threads": 1, "device": 0}
CUDA = "CUDAExecutionProvider"


class BadInput(Exception):
    """An option, artifact or input that is wrong; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Unsupported(Exception):
    """This provider has no such thing, and nothing is broken; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Loaded:
    """A session with what it was made from, and its inputs and outputs as the contract has them."""

    def __init__(self, artifact: str, options: dict[str, Any]) -> None:
        self.artifact = artifact
        self.options = options
        self.used_before: int | None = None
        if self.on_card:
            self.options = cuda().effective(artifact, options)
            cuda().require()
            self.used_before = cuda().used_bytes(options["device"])
        self.session = open_session(artifact, session_options(options), self.options)
        self.inputs = [described(value) for value in self.session.get_inputs()]
        self.outputs = [described(value) for value in self.session.get_outputs()]
        self.names = [value["name"] for value in self.outputs]
        self.graphs = 0
        self.single: Any = None
        if self.on_card and options["cuda_graph"]:
            cuda().require_static((self.inputs, self.outputs))

    @property
    def on_card(self) -> bool:
        """Whether CUDA's provider runs it."""
        return bool(self.options["provider"] == CUDA)

    def infer(self, feed: dict[str, Array]) -> list[Array]:
        """The outputs of one inference, in the model's order."""
        if not self.on_card or not self.options["cuda_graph"]:
            return list(self.session.run(self.names, feed))
        if self.single is None:
            self.single = cuda().Bound(self.free_session(), (self.inputs, self.outputs), feed)
        return [np.array(value) for value in self.single.whole(feed)]

    def on_inputs(self, feed: dict[str, Array]) -> Callable[[], object]:
        """A callable of one inference on these inputs, and nothing around it."""
        if not self.on_card:
            return functools.partial(self.session.run, self.names, feed)
        session = self.free_session() if self.options["cuda_graph"] else self.session
        ends = (self.inputs, self.outputs)
        bound: Callable[[], object] = cuda().bound(session, ends, feed, self.options)
        return bound

    def free_session(self) -> InferenceSession:
        """One without a graph yet: it has one, at fixed places, and is for one thread then."""
        self.graphs += 1
        if self.graphs == 1:
            return self.session
        return open_session(self.artifact, session_options(self.options), self.options)


state: dict[str, Loaded] = {}
others: list[Loaded] = []


def probe() -> dict[str, Any]:
    """The version of the runtime; it is fully imported after this."""
    return {"tools": {"onnxruntime": onnxruntime.__version__}}


def load(artifact: str, options: dict[str, Any]) -> dict[str, Any]:
    """Make a session of an .onnx file; replaces the one before.

    Options: `threads` of one inference (1), `spinning` of waiting threads (off: it burns the
    neighbours' cores), `graph_optimization` at load ("all"), `provider`. With that of CUDA also
    `device` (0), `transfers` (on: inputs and outputs in host memory), `cuda_graph`, `prefer_nhwc`
    (both off), `tf32` ("artifact": on where that is tf32). Raises `BadInput`, `Missing`.
    """
    chosen = checked(options)
    state.clear()
    others.clear()
    loaded = state["loaded"] = Loaded(artifact, chosen)
    return {"inputs": loaded.inputs, "outputs": loaded.outputs, "options": loaded.options}


def run(inputs: dict[str, Array]) -> dict[str, Array]:
    """One inference: arrays by the model's names in and out. Raises `BadInput`."""
    loaded = current()
    values = loaded.infer(verified(loaded, inputs))
    return dict(zip(loaded.names, values, strict=True))


def bind(inputs: dict[str, Array]) -> Callable[[], object]:
    """`session.run` on these inputs and nothing around it; threads may each have their own.

    By CUDA without `transfers`, or with a graph: the run of a session bound to the card's memory.
    """
    loaded = current()
    return loaded.on_inputs(verified(loaded, inputs))


def beside(artifact: str, options: dict[str, Any]) -> dict[str, Any]:
    """One more session beside the one of `load`; options as there. Raises `BadInput`."""
    loaded = Loaded(artifact, checked(options))
    others.append(loaded)
    return {"inputs": loaded.inputs, "outputs": loaded.outputs, "options": loaded.options}


def bind_beside(place: int, inputs: dict[str, Array]) -> Callable[[], object]:
    """As `bind`, of the model that call number `place` of `beside` loaded."""
    loaded = others[place]
    return loaded.on_inputs(verified(loaded, inputs))


def facts() -> dict[str, Any]:
    """Version, providers in use and available, and the threads of one inference."""
    found: dict[str, Any] = {
        **probe(),
        "device": onnxruntime.get_device(),
        "available_providers": onnxruntime.get_available_providers(),
    }
    if state:
        found["providers"] = current().session.get_providers()
        found["threads"] = current().options["threads"]
        if current().on_card:
            found |= cuda().facts(current().session, current().options)
    return found


def layers(inputs: dict[str, Array], count: int) -> list[dict[str, Any]]:
    """Mean seconds of each node in `count` inferences of a session that profiles itself.

    Nodes are those of the graph as optimised for this machine, in the order they first ran. The
    profiler counts whole microseconds and slows tiny nodes, so the sum exceeds an unprofiled run.
    """
    loaded = current()
    if loaded.on_card:
        msg = "ONNX Runtime times what CUDA runs by its launch, not by what it takes on the card"
        raise Unsupported(msg, "A runtime with the card's own profiler tells times by layer.")
    feed = verified(loaded, inputs)
    with tempfile.TemporaryDirectory(prefix="layers-") as folder:
        settings = session_options(loaded.options)
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder, "profile"))
        session = open_session(loaded.artifact, settings, loaded.options)
        for _ in range(WARM_UP_RUNS + count):
            session.run(loaded.names, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
    times: dict[tuple[str, str], float] = {}
    for event in sorted(events, key=lambda event: event["ts"]):
        name, _, kind = event["name"].rpartition("_kernel_time")
        if event.get("cat") == "Node" and not kind and event["ts"] >= runs[-count]:
            layer = (name, event["args"]["op_name"])
            times[layer] = times.get(layer, 0.0) + event["dur"] / 1e6
    return [
        {"name": name, "op": op, "time_s": total / count} for (name, op), total in times.items()
    ]


def memory() -> dict[str, int]:
    """Nothing beyond the process's own on a host; by CUDA what the whole card has more in use
    than when the CUDA context was made: weights, arena and workspaces, other processes' changes.
    """
    if not state or current().used_before is None:
        return {}
    now = cuda().used_bytes(current().options["device"])
    return {"device_delta": max(0, now - current().used_before)}


def current() -> Loaded:
    """What `load` made last."""
    if not state:
        msg = "no artifact is loaded"
        raise BadInput(msg, "Call load(artifact, options) first.")
    return state["loaded"]


def session_options(options: dict[str, Any]) -> SessionOptions:
    """The options of a session, one operator at a time on `threads` threads."""
    settings = SessionOptions()
    settings.intra_op_num_threads = options["threads"]
    settings.inter_op_num_threads = 1
    settings.graph_optimization_level = LEVELS[options["graph_optimization"]]
    settings.log_severity_level = 3
    spinning = "1" if options["spinning"] else "0"
    settings.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    return settings


@functools.cache
def cuda() -> ModuleType:
    """What is particular to CUDA's provider, imported where that is asked for."""
    sys.path.append(str(Path(__file__).resolve().with_name("ort")))
    return importlib.import_module("ort_cuda")


def open_session(
    artifact: str, settings: SessionOptions, options: dict[str, Any]
) -> InferenceSession:
    """A session on the provider asked for; others serve only nodes it does not have."""
    try:
        if options["provider"] == CUDA:
            return cuda().open_session(artifact, settings, options)
        return InferenceSession(artifact, settings, providers=[options["provider"]])
    except Exception as error:
        if hasattr(error, "hint"):
            raise
        msg = f"ONNX Runtime cannot load {artifact}: {str(error).strip().splitlines()[0]}"
        raise BadInput(msg, "Compile it with this version of ONNX Runtime.") from error


def described(value: onnxruntime.NodeArg) -> dict[str, Any]:
    """Name, numpy dtype and shape; a free dimension is a name."""
    dtype = DTYPES.get(value.type, value.type[len("tensor(") : -1])
    shape = [
        size if isinstance(size, int) else size or f"{value.name}_{axis}"
        for axis, size in enumerate(value.shape)
    ]
    return {"name": value.name, "dtype": dtype, "shape": shape}


def verified(loaded: Loaded, inputs: dict[str, Array]) -> dict[str, Array]:
    """The inputs as arrays of their own, C-contiguous; a wrong one is refused."""
    wanted = {value["name"]: value for value in loaded.inputs}
    if set(inputs) != set(wanted):
        msg = f"inputs given are {sorted(inputs)}, the model's are {sorted(wanted)}"
        raise BadInput(msg, "Give one array for each of the model's inputs.")
    feed = {}
    for name, value in inputs.items():
        array, shape = np.array(value, order="C"), wanted[name]["shape"]
        sizes = zip(shape, array.shape, strict=False)
        same = all(not isinstance(size, int) or size == found for size, found in sizes)
        if str(array.dtype) != wanted[name]["dtype"] or array.ndim != len(shape) or not same:
            expected = f"{wanted[name]['dtype']} {tuple(shape)}"
            msg = f"input {name!r} is {array.dtype} {array.shape}, expected {expected}"
            raise BadInput(msg, "Check the workload's shape and dtype for this input.")
        feed[name] = array
    return feed


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """The options given over the defaults; an unknown key or value is refused."""
    choices = {
        "graph_optimization": list(LEVELS),
        "provider": [*onnxruntime.get_available_providers(), CUDA],
    }
    defaults = DEFAULTS
    if options.get("provider") == CUDA:
        choices["tf32"] = list(cuda().OPTIONS["tf32"])
        defaults = {**DEFAULTS, **cuda().OPTIONS, "tf32": choices["tf32"][0]}
    for key, value in options.items():
        refuse_unknown(key, list(defaults), "option")
        if key in choices:
            refuse_unknown(value, choices[key], key)
        elif type(value) is not type(defaults[key]) or (key in LEAST and value < LEAST[key]):
            msg = f"option {key} is {value!r}, expected a value like {defaults[key]!r}"
            raise BadInput(msg, "threads is 1 or more, device 0 or more; others true or false.")
    return {**defaults, **options}


def refuse_unknown(word: str, known: list[str], what: str) -> None:
    """Raise `BadInput` for a word that is not known, naming the nearest."""
    if word not in known:
        close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.4)
        msg = f"{what} {word!r} is not known"
        raise BadInput(msg, f"Did you mean {close[0]!r}?" if close else f"Known: {known}.")
