# /// script
# requires-python = ">=3.10"
# dependencies = ["openvino>=2026.1,<2027", "numpy>=1.26"]
# ///
"""OpenVINO on the host's CPU: one inference, its bare call for timing, its layers."""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
import weakref
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

# OpenVINO's classes have no types, and are imported too late to be named
CompiledModel = Any
ConstOutput = Any
InferRequest = Any
Array = npt.NDArray[Any]
# a tuple holds the choices, its first the default
OPTIONS: dict[str, Any] = {
    "threads": 1,
    "streams": 1,
    "precision_hint": ("f32", "bf16", "f16"),
    "performance_hint": ("LATENCY", "THROUGHPUT"),
    "pinning": False,
}
WARM_UP_RUNS = 3


class Missing(Exception):
    """OpenVINO is not there; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Unsupported(Exception):
    """The CPU plugin cannot run this model, and nothing is broken; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(Exception):
    """An option, artifact or input that is wrong; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Loaded:
    """An artifact compiled for this CPU, and requests on it for concurrent callers."""

    def __init__(self, artifact: str, options: dict[str, Any]) -> None:
        self.artifact = artifact
        self.options = options
        self.compiled = self.compile()
        self.inputs = [described(port) for port in self.compiled.inputs]
        self.outputs = [described(port) for port in self.compiled.outputs]
        self.single = self.compiled.create_infer_request()
        self.idle: list[InferRequest] = []
        self.made = 0

    def compile(self, **more: object) -> CompiledModel:
        """A compiled model; each has `streams` streams of `threads` threads."""
        properties = {
            "NUM_STREAMS": self.options["streams"],
            "INFERENCE_NUM_THREADS": self.options["threads"] * self.options["streams"],
            "INFERENCE_PRECISION_HINT": self.options["precision_hint"],
            "PERFORMANCE_HINT": self.options["performance_hint"],
            "ENABLE_CPU_PINNING": self.options["pinning"],
            **more,
        }
        core = toolkit().Core()
        try:
            model = core.read_model(self.artifact)
        except RuntimeError as error:
            msg = f"OpenVINO cannot read {self.artifact}: {last_line(error)}"
            raise BadInput(msg, "Compile it again with this version of OpenVINO.") from error
        try:
            return core.compile_model(model, "CPU", properties)
        except RuntimeError as error:
            if "support" not in str(error).lower():
                raise
            msg = f"OpenVINO cannot run {self.artifact} on the CPU: {last_line(error)}"
            raise Unsupported(msg, "Export without this operator or type.") from error

    def request(self) -> InferRequest:
        """A request no living caller has, on a stream of its own."""
        if self.idle:
            return self.idle.pop()
        if self.made and self.made % self.options["streams"] == 0:
            self.compiled = self.compile()
        self.made += 1
        return self.compiled.create_infer_request()


state: dict[str, Loaded] = {}


@functools.cache
def toolkit() -> ModuleType:
    """The openvino package, kept from reporting its use.

    Its converter of PyTorch and TensorFlow models sends an event over the network and writes to the
    user's home as soon as it is imported; the package does without it where it is absent, as here.
    """
    sys.modules.setdefault("openvino.tools.ovc", cast("ModuleType", None))
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        msg = f"OpenVINO cannot be imported: {error}"
        raise Missing(msg, "pip install 'openvino>=2026.1,<2027'") from error


def probe() -> dict[str, Any]:
    """The version of OpenVINO; package and CPU plugin are in memory after this."""
    toolkit().Core().get_property("CPU", "FULL_DEVICE_NAME")
    return {"tools": {"openvino": toolkit().__version__.partition("-")[0]}}


def load(artifact: str, options: dict[str, Any]) -> dict[str, Any]:
    """Compile an IR (.xml) or .onnx file for this CPU; replaces the one before.

    Options: `threads` of one inference (1), `streams` of one compiled model (1), `precision_hint`
    ("f32": left alone OpenVINO takes bf16 where the CPU has it), `performance_hint` ("LATENCY"),
    `pinning` of threads to cores (off: two compiled models would share one core). Raises
    `BadInput`, `Unsupported`.
    """
    chosen = checked(options)
    state.clear()
    loaded = state["loaded"] = Loaded(artifact, chosen)
    return {"inputs": loaded.inputs, "outputs": loaded.outputs, "options": chosen}


def run(inputs: dict[str, Array]) -> dict[str, Array]:
    """One inference: arrays by the model's names in and out. Raises `BadInput`."""
    loaded = current()
    found = loaded.single.infer(dict(enumerate(verified(loaded, inputs))))
    return {value["name"]: np.array(found[i]) for i, value in enumerate(loaded.outputs)}


def bind(inputs: dict[str, Array]) -> Callable[[], object]:
    """`request.infer` on inputs set once, outputs left where they were computed.

    Each living callable has a request and a stream of its own: beyond `streams` of them the model
    is compiled again, as one compiled model takes turns.
    """
    loaded = current()
    arrays = verified(loaded, inputs)
    request = loaded.request()
    for place, array in enumerate(arrays):
        request.set_input_tensor(place, toolkit().Tensor(array, shared_memory=True))
    call = functools.partial(request.infer, share_outputs=True)
    call()
    # the arrays live as long as the callable; then its request is free for another
    weakref.finalize(call, lambda kept: loaded.idle.append(request), arrays).atexit = False
    return call


def facts() -> dict[str, Any]:
    """Version, processor as OpenVINO names it, and what the compiled model came to."""
    core = toolkit().Core()
    found = {**probe(), "device": core.get_property("CPU", "FULL_DEVICE_NAME")}
    if state:
        compiled = current().compiled
        for name in ("NUM_STREAMS", "INFERENCE_NUM_THREADS", "ENABLE_CPU_PINNING"):
            found[name.lower()] = compiled.get_property(name)
        hint = compiled.get_property("INFERENCE_PRECISION_HINT")
        found["inference_precision_hint"] = hint.get_type_name()
    return found


def layers(inputs: dict[str, Array], count: int) -> list[dict[str, Any]]:
    """Mean seconds of each executed node in `count` inferences of a model that counts them.

    Nodes are those left after fusion, in the order they run; whole microseconds are counted.
    """
    loaded = current()
    request = loaded.compile(PERF_COUNT=True).create_infer_request()
    feed = dict(enumerate(verified(loaded, inputs)))
    times: dict[tuple[str, str], float] = {}
    for turn in range(WARM_UP_RUNS + count):
        request.infer(feed)
        for node in request.profiling_info if turn >= WARM_UP_RUNS else []:
            if node.status.name == "EXECUTED":
                layer = (node.node_name, node.node_type)
                times[layer] = times.get(layer, 0.0) + node.real_time.total_seconds()
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


def last_line(error: RuntimeError) -> str:
    """The end of OpenVINO's report, after the places in its sources."""
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1]


def described(port: ConstOutput) -> dict[str, Any]:
    """Name, numpy dtype and shape; a free dimension is a name.

    A tensor that optimisation made one with another has several names: the model's own stands in
    the node that ends the graph there.
    """
    names = port.get_names()
    own = port.node.get_friendly_name().partition("/sink_port_")[0]
    name = own if own in names or not names else port.get_any_name()
    kind = port.get_element_type()
    dtype = "bfloat16" if kind.get_type_name() == "bf16" else kind.to_dtype().name
    sizes = enumerate(port.get_partial_shape())
    shape = [f"{name}_{axis}" if size.is_dynamic else size.get_length() for axis, size in sizes]
    return {"name": name, "dtype": dtype, "shape": shape}


def verified(loaded: Loaded, inputs: dict[str, Array]) -> list[Array]:
    """The inputs in the model's order, contiguous arrays of their own; a wrong one is refused."""
    wanted = {value["name"]: value for value in loaded.inputs}
    if set(inputs) != set(wanted):
        msg = f"inputs given are {sorted(inputs)}, the model's are {sorted(wanted)}"
        raise BadInput(msg, "Give one array for each of the model's inputs.")
    arrays = []
    for name, value in wanted.items():
        array, shape = np.array(inputs[name], order="C"), value["shape"]
        sizes = zip(shape, array.shape, strict=False)
        same = all(not isinstance(size, int) or size == found for size, found in sizes)
        if str(array.dtype) != value["dtype"] or array.ndim != len(shape) or not same:
            expected = f"{value['dtype']} {tuple(shape)}"
            msg = f"input {name!r} is {array.dtype} {array.shape}, expected {expected}"
            raise BadInput(msg, "Check the workload's shape and dtype for this input.")
        arrays.append(array)
    return arrays


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """The options given over the known ones' defaults; an unknown key or value is refused."""
    chosen = {key: fix[0] if isinstance(fix, tuple) else fix for key, fix in OPTIONS.items()}
    for key, value in options.items():
        refuse_unknown(key, list(OPTIONS), "option")
        if isinstance(OPTIONS[key], tuple):
            refuse_unknown(value, list(OPTIONS[key]), key)
        elif type(value) is not type(OPTIONS[key]) or value < OPTIONS[key]:
            msg = f"option {key} is {value!r}, expected a value like {OPTIONS[key]!r}"
            raise BadInput(msg, "threads and streams are 1 or more; pinning is true or false.")
    return chosen | options


def refuse_unknown(word: str, known: list[str], what: str) -> None:
    """Raise `BadInput` for a word that is not known, naming the nearest."""
    if word not in known:
        close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.4)
        msg = f"{what} {word!r} is not known"
        raise BadInput(msg, f"Did you mean {close[0]!r}?" if close else f"Known: {known}.")
