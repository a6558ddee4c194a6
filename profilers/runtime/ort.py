# /// script
# requires-python = ">=3.10"
# dependencies = ["onnxruntime>=1.23,<2", "numpy>=1.26"]
# ///
"""ONNX Runtime sessions on the host: one inference, its bare call for timing, its layers."""

from __future__ import annotations

import difflib
import functools
import json
import os
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


class BadInput(Exception):
    """An option, artifact or input that is wrong; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Loaded:
    """A session with what it was made from, and its inputs and outputs as the contract has them."""

    def __init__(self, artifact: str, options: dict[str, Any]) -> None:
        self.artifact = artifact
        self.options = options
        self.session = open_session(artifact, session_options(options), options["provider"])
        self.inputs = [described(value) for value in self.session.get_inputs()]
        self.outputs = [described(value) for value in self.session.get_outputs()]
        self.names = [value["name"] for value in self.outputs]


state: dict[str, Loaded] = {}
others: list[Loaded] = []


def probe() -> dict[str, Any]:
    """The version of the runtime; it is fully imported after this."""
    return {"tools": {"onnxruntime": onnxruntime.__version__}}


def load(artifact: str, options: dict[str, Any]) -> dict[str, Any]:
    """Make a session of an .onnx file; replaces the one before.

    Options: `threads` of one inference (1), `spinning` of waiting threads (off: it burns the
    neighbours' cores), `graph_optimization` at load ("all"), `provider`. Raises `BadInput`.
    """
    chosen = checked(options)
    state.clear()
    others.clear()
    loaded = state["loaded"] = Loaded(artifact, chosen)
    return {"inputs": loaded.inputs, "outputs": loaded.outputs, "options": chosen}


def run(inputs: dict[str, Array]) -> dict[str, Array]:
    """One inference: arrays by the model's names in and out. Raises `BadInput`."""
    loaded = current()
    values = loaded.session.run(loaded.names, verified(loaded, inputs))
    return dict(zip(loaded.names, values, strict=True))


def bind(inputs: dict[str, Array]) -> Callable[[], object]:
    """`session.run` on these inputs and nothing around it; threads may each have their own."""
    loaded = current()
    return functools.partial(loaded.session.run, loaded.names, verified(loaded, inputs))


def beside(artifact: str, options: dict[str, Any]) -> dict[str, Any]:
    """One more session beside the one of `load`; options as there. Raises `BadInput`."""
    loaded = Loaded(artifact, checked(options))
    others.append(loaded)
    return {"inputs": loaded.inputs, "outputs": loaded.outputs, "options": loaded.options}


def bind_beside(place: int, inputs: dict[str, Array]) -> Callable[[], object]:
    """As `bind`, of the model that call number `place` of `beside` loaded."""
    loaded = others[place]
    return functools.partial(loaded.session.run, loaded.names, verified(loaded, inputs))


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
    return found


def layers(inputs: dict[str, Array], count: int) -> list[dict[str, Any]]:
    """Mean seconds of each node in `count` inferences of a session that profiles itself.

    Nodes are those of the graph as optimised for this machine, in the order they first ran. The
    profiler counts whole microseconds and slows tiny nodes, so the sum exceeds an unprofiled run.
    """
    loaded = current()
    feed = verified(loaded, inputs)
    with tempfile.TemporaryDirectory(prefix="layers-") as folder:
        settings = session_options(loaded.options)
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder, "profile"))
        session = open_session(loaded.artifact, settings, loaded.options["provider"])
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
    """Nothing beyond the process's own on a host."""
    return {}


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


def open_session(artifact: str, settings: SessionOptions, provider: str) -> InferenceSession:
    """A session on `provider`; other providers serve only nodes it does not have."""
    try:
        return InferenceSession(artifact, settings, providers=[provider])
    except Exception as error:
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
        "provider": onnxruntime.get_available_providers(),
    }
    for key, value in options.items():
        refuse_unknown(key, list(DEFAULTS), "option")
        if key in choices:
            refuse_unknown(value, choices[key], key)
        elif type(value) is not type(DEFAULTS[key]) or (key == "threads" and value < 1):
            msg = f"option {key} is {value!r}, expected a value like {DEFAULTS[key]!r}"
            raise BadInput(msg, "threads is 1 or more; spinning is true or false.")
    return {**DEFAULTS, **options}


def refuse_unknown(word: str, known: list[str], what: str) -> None:
    """Raise `BadInput` for a word that is not known, naming the nearest."""
    if word not in known:
        close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.4)
        msg = f"{what} {word!r} is not known"
        raise BadInput(msg, f"Did you mean {close[0]!r}?" if close else f"Known: {known}.")
