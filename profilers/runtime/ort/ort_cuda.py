"""ONNX Runtime's CUDA provider: sessions that really have it, bound inputs, what ran elsewhere."""

from __future__ import annotations

import ctypes
import functools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable

Array = npt.NDArray[Any]
Table = dict[str, Any]
Ends = tuple[list[Table], list[Table]]
# ONNX Runtime's class has no types
Session = Any

PROVIDER = "CUDAExecutionProvider"
# where bound tensors lie, as OrtValue names it
MEMORY = "cuda"
# a tuple holds the choices, its first the default. `transfers`: inputs go to the card and outputs
# come back in each inference, else they stay there; `tf32` by the artifact's precision unless said
OPTIONS: Table = {
    "device": 0,
    "transfers": True,
    "cuda_graph": False,
    "prefer_nhwc": False,
    "tf32": ("artifact", "on", "off"),
}
ASSIGNMENT = "session.record_ep_graph_assignment_info"
CUDART = ("libcudart.so.13", "libcudart.so.12")
REMEDY = (
    "Make a Python with onnxruntime-gpu in the place of onnxruntime, and the CUDA and cuDNN"
    " libraries it names (pip install 'onnxruntime-gpu[cuda,cudnn]'), and name it in"
    " EDGEDEPLOY_PYTHON_RUNTIME_ORT."
)
NO_DRIVER = "built, not run: no NVIDIA driver"
WHOLE = "one inference, inputs and outputs in host memory, copied to the card and back"
INSIDE = "one inference, inputs and outputs in the card's memory"


class Missing(Exception):
    """The provider, its libraries or a driver are not there; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Unsupported(Exception):
    """The provider cannot do this, and nothing is broken; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def require() -> None:
    """Raise `Missing` unless this ONNX Runtime has the provider and finds its libraries."""
    available = onnxruntime.get_available_providers()
    if PROVIDER not in available:
        if driver_version() is None:
            raise Missing(NO_DRIVER, f"Run it where one is. {REMEDY}")
        msg = f"ONNX Runtime {onnxruntime.__version__} here has no {PROVIDER}, only {available}"
        raise Missing(msg, REMEDY)
    preload()


@functools.cache
def preload() -> None:
    """Load CUDA's libraries from the packages of this Python, once: what it lacks it prints."""
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()


def effective(artifact: str, options: Table) -> Table:
    """The options with TF32 as the artifact's precision wants it: on for tf32 alone."""
    if options["tf32"] != "artifact":
        return options
    record = Path(artifact).with_name("model.json")
    precision = ""
    if record.is_file():
        precision = json.loads(record.read_text(encoding="utf-8")).get("precision", "")
    return {**options, "tf32": "on" if precision == "tf32" else "off"}


def provider_options(options: Table) -> dict[str, str]:
    """What the provider is told; TF32 is on there unless it is told otherwise."""
    return {
        "device_id": str(options["device"]),
        "enable_cuda_graph": str(int(options["cuda_graph"])),
        "prefer_nhwc": str(int(options["prefer_nhwc"])),
        "use_tf32": str(int(options["tf32"] == "on")),
    }


def open_session(artifact: str, settings: onnxruntime.SessionOptions, options: Table) -> Session:
    """A session on the card. ONNX Runtime goes on without the provider where that does not start:
    such a session is refused, and one that falls back in the middle of a run is not let.

    Raises `Missing`.
    """
    require()
    settings.add_session_config_entry(ASSIGNMENT, "1")
    given = [(PROVIDER, provider_options(options))]
    try:
        session = onnxruntime.InferenceSession(
            artifact, settings, providers=given, enable_fallback=0
        )
    except Exception as error:
        if driver_version() is None:
            raise absent(options) from error
        raise
    if PROVIDER not in session.get_providers():
        raise absent(options)
    session.disable_fallback()
    return session


def absent(options: Table) -> Missing:
    """Why the provider did not start on the device, as far as that can be told."""
    driver = driver_version()
    if driver is None:
        return Missing(NO_DRIVER, "Run it where the driver is installed.")
    msg = f"{PROVIDER} did not start on device {options['device']} (driver {driver})"
    return Missing(msg, f"The log says what it lacks. {REMEDY}")


class Bound:
    """Inputs and outputs at fixed places in the card's memory, and one inference on them."""

    def __init__(self, session: Session, ends: Ends, feed: Table) -> None:
        self.session = session
        self.binding = session.io_binding()
        device = int(session.get_provider_options().get(PROVIDER, {}).get("device_id", 0))
        self.held = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(value, MEMORY, device)
            for name, value in feed.items()
        }
        for name, value in self.held.items():
            self.binding.bind_ortvalue_input(name, value)
        self.outputs = []
        for end in ends[1]:
            if static(end):
                value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                    end["shape"], np.dtype(end["dtype"]), MEMORY, device
                )
                self.outputs.append(value)
                self.binding.bind_ortvalue_output(end["name"], value)
            else:  # allocated by each run
                self.binding.bind_output(end["name"], MEMORY, device)
        self.inside = functools.partial(session.run_with_iobinding, self.binding)

    def whole(self, feed: Table) -> list[Array]:
        """Inputs to the card (these copies wait for themselves), the inference, outputs back."""
        for name, value in self.held.items():
            value.update_inplace(feed[name])
        self.inside()
        return [np.asarray(value.numpy()) for value in self.binding.get_outputs()]


def bound(session: Session, ends: Ends, feed: Table, options: Table) -> Callable[[], object]:
    """One inference on these inputs; it ends when the card is done (the provider waits itself).

    With transfers and no graph that is `session.run` and nothing around it.
    """
    if options["transfers"] and not options["cuda_graph"]:
        names = [end["name"] for end in ends[1]]
        return functools.partial(session.run, names, feed)
    held = Bound(session, ends, feed)
    # a graph is recorded in the first run
    held.inside()
    return functools.partial(held.whole, feed) if options["transfers"] else held.inside


def require_static(ends: Ends) -> None:
    """Raise `Unsupported` where a size is free: what a graph recorded is at fixed places."""
    free = [end["name"] for side in ends for end in side if not static(end)]
    if free:
        msg = f"a CUDA graph has fixed sizes; those of {', '.join(free)} are free"
        raise Unsupported(msg, "Give the model fixed shapes, or leave cuda_graph off.")


def static(end: Table) -> bool:
    """Whether all sizes of an input or output are numbers."""
    return all(isinstance(size, int) for size in end["shape"])


def elsewhere(session: Session) -> list[str] | None:
    """Nodes that run on another provider, as "name (operator)"; None where that is not told."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    return [
        f"{node.name} ({node.op_type})"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != PROVIDER
        for node in part.get_nodes()
    ]


def facts(session: Session, options: Table) -> Table:
    """Device, driver, CUDA, what the provider was told, and what ran elsewhere."""
    others = elsewhere(session)
    found: Table = {
        "device": device_name(options["device"]) or f"CUDA device {options['device']}",
        "bus_id": bus_id(options["device"]),
        "driver": driver_version(),
        "cuda": getattr(onnxruntime, "cuda_version", None) or None,
        "provider_options": session.get_provider_options().get(PROVIDER, {}),
        "latency_scope": WHOLE if options["transfers"] else INSIDE,
    }
    if others is None:
        found["elsewhere"] = f"not told by ONNX Runtime {onnxruntime.__version__}"
    elif others:
        found["elsewhere"] = f"{len(others)} nodes not on the card: {', '.join(others[:20])}"
    return found


def driver_version() -> str | None:
    """The version of NVIDIA's kernel driver; None without one."""
    for name, pattern in (
        ("/proc/driver/nvidia/version", r"Kernel Module\D*?([\d.]{4,})"),
        ("/sys/module/nvidia/version", r"([\d.]+)"),
    ):
        path = Path(name)
        if path.is_file() and (told := re.search(pattern, path.read_text(encoding="utf-8"))):
            return told[1]
    return None


def device_name(device: int) -> str | None:
    """The card's name by the CUDA driver; None without one."""
    return driver_text("cuDeviceGetName", device)


def bus_id(device: int) -> str | None:
    """The card's place on the PCI bus by the CUDA driver; None without one."""
    return driver_text("cuDeviceGetPCIBusId", device)


def driver_text(function: str, device: int) -> str | None:
    """What a function of the CUDA driver writes of a card; None without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    handle, text = ctypes.c_int(), ctypes.create_string_buffer(128)
    told = (
        driver.cuInit(0) == 0
        and driver.cuDeviceGet(ctypes.byref(handle), device) == 0
        and getattr(driver, function)(text, len(text), handle) == 0
    )
    return text.value.decode() if told else None


def used_bytes(device: int) -> int | None:
    """Bytes in use on the whole card, by all processes; None where the runtime is not loaded."""
    for name in CUDART:
        try:
            runtime = ctypes.CDLL(name)
        except OSError:
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        if (
            runtime.cudaSetDevice(device) == 0
            and runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) == 0
        ):
            return total.value - free.value
    return None
