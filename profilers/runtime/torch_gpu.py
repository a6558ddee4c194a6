# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=2.6,<3", "numpy>=1.26"]
# ///
"""PyTorch on an NVIDIA GPU: eager, or by torch.compile; device times by CUDA events.

Eager means PyTorch's operators one after another as they were captured; Python's calls of modules
within modules are not in it.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

sys.path.append(str(Path(__file__).resolve().with_name("torch_gpu")))
from gpu_calls import Bound
from gpu_faults import BadInput, Missing, OutOfDeviceMemory, Unsupported, driver_version
from gpu_layers import kernel_times, operator_times
from gpu_program import Program, compiled

if TYPE_CHECKING:
    from collections.abc import Callable

Array = npt.NDArray[Any]
Table = dict[str, Any]
# a tuple holds the choices, its first the default
OPTIONS: Table = {
    "device": "cuda:0",
    "mode": ("eager", "compile"),
    "compile_mode": (
        "default",
        "reduce-overhead",
        "max-autotune",
        "max-autotune-no-cudagraphs",
    ),
    "cuda_graph": False,
    "transfers": True,
    "channels_last": False,
    "cudnn_benchmark": True,
    "threads": 1,
}
# modes of torch.compile that record CUDA graphs themselves
WITH_GRAPHS = {"reduce-overhead", "max-autotune"}
WHOLE = "one inference, inputs and outputs in pinned host memory, copied to the card and back"
INSIDE = "one inference, inputs and outputs in the card's memory"
ON_CPU = "one inference on the CPU"
NO_DRIVER = "built, not run: no NVIDIA driver"
REMEDY = "Run it where an NVIDIA driver and a PyTorch with CUDA are; EDGEDEPLOY_PYTHON_TORCH_GPU"
state: dict[str, Loaded] = {}


class Loaded:
    """A program on its device in the way the options say, and its ends as the contract has them."""

    def __init__(self, artifact: str, options: Table) -> None:
        self.options = options
        self.device = require_device(options["device"])
        self.on_card = self.device.type == "cuda"
        self.used_before = used_bytes(self.device)
        if self.on_card:
            torch.cuda.set_device(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            torch.set_num_threads(options["threads"])
        self.program = Program(artifact, self.device, channels_last=options["channels_last"])
        record = self.program.record
        tf32 = record["precision"] == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = options["cudnn_benchmark"]
        self.inputs, self.outputs = record["inputs"], record["outputs"]
        self.graphs_inside = (
            options["mode"] == "compile" and options["compile_mode"] in WITH_GRAPHS and self.on_card
        )
        self.forward: Any = self.program.forward
        if options["mode"] == "compile":
            self.forward = compiled(self.program, options["compile_mode"])
        self.single: Bound | None = None
        if options["mode"] == "compile":  # kernels are made for the card now, not while measured
            zeros = {end["name"]: np.zeros(end["shape"], end["dtype"]) for end in self.inputs}
            self.single = self.bound(zeros, transfers=False)

    def bound(self, inputs: dict[str, Array], **more: bool) -> Bound:
        """The program on these inputs; its first inference has been made then."""
        feed = verified(self.inputs, inputs)
        host = [torch.from_numpy(feed[end["name"]]) for end in self.inputs]
        given = {
            "transfers": self.options["transfers"],
            "graph": self.options["cuda_graph"],
            "steps": self.graphs_inside,
            **more,
        }
        try:
            return Bound(self.forward, host, self.device, **given)
        except Exception as error:
            raise explained(error, self.program, self.options) from error


def probe() -> Table:
    """The version of PyTorch, which is imported after this."""
    return {"tools": {"torch": torch.__version__}}


def load(artifact: str, options: Table) -> Table:
    """Read a program, put it on the device and, with mode "compile", make its kernels there.

    Options: `device` ("cuda:0"; "cpu" computes the same here, and says so), `mode` ("eager",
    "compile"), `compile_mode` (torch.compile's own), `cuda_graph` around the whole (off),
    `transfers` of inputs and outputs in each inference (on), `channels_last` (off),
    `cudnn_benchmark` (on), `threads` on a CPU (1). Raises `Missing`, `BadInput`, `Unsupported`.
    """
    chosen = checked(options)
    state.clear()
    loaded = state["loaded"] = Loaded(artifact, chosen)
    return {"inputs": loaded.inputs, "outputs": loaded.outputs, "options": chosen}


def run(inputs: dict[str, Array]) -> dict[str, Array]:
    """One inference: arrays by the model's names in and out. Raises `BadInput`, `Unsupported`."""
    loaded = current()
    if loaded.single is None:
        loaded.single = loaded.bound(inputs, transfers=False)
    single = loaded.single
    feed = verified(loaded.inputs, inputs)
    for end, place in zip(loaded.inputs, single.inputs, strict=True):
        place.copy_(torch.from_numpy(feed[end["name"]]))
    single()
    values = (value.numpy() for value in single.values())
    return dict(zip(loaded.program.names, values, strict=True))


def bind(inputs: dict[str, Array]) -> Callable[[], object]:
    """One inference from start to end, the card waited for; the first has been made then."""
    return current().bound(inputs)


def bind_async(inputs: dict[str, Array]) -> Callable[[], Callable[[], None]]:
    """Starts one inference and answers what waits for it; each has a stream of its own.

    Where torch.compile records graphs they all share one: it writes to the same places.
    """
    loaded = current()
    return loaded.bound(inputs, own_stream=loaded.on_card and not loaded.graphs_inside).start


def device_times(inputs: dict[str, Array], count: int) -> Table:
    """Seconds of `count` inferences by CUDA events on the card, transfers left out.

    `enqueue_s` is how long the host took to start each: where that is as long as the inference, the
    card waits for the host, and its gaps are in the time between the events.
    """
    loaded = current()
    if not loaded.on_card:
        msg = f"{loaded.device} has no clock of its own"
        raise Unsupported(msg, "Times of a CPU are those from start to end.")
    seconds, starting = loaded.bound(inputs, transfers=False).device_times(count)
    return {
        "clock": "cuda-events",
        "latency_s": seconds,
        "enqueue_s": starting,
        "scope": "the inference without copies, between two events of one stream, another one"
        " started ahead",
        "notes": [],
    }


def facts() -> Table:
    """Versions, the card and its driver, the types computed in, what a timing covers."""
    found: Table = {**probe(), "driver": driver_version(), "cuda": torch.version.cuda}
    if not state:
        return found
    loaded = current()
    options, record = loaded.options, loaded.program.record
    found |= {
        "mode": options["mode"],
        "precision": record["precision"],
        "computed_in": record["dtype"],
        "program": record["program"],
        "tf32": loaded.on_card and torch.backends.cudnn.allow_tf32,
    }
    if not loaded.on_card:
        threads = torch.get_num_threads()
        return {**found, "device": "CPU", "threads": threads, "latency_scope": ON_CPU}
    card = torch.cuda.get_device_properties(loaded.device)
    return found | {
        "device": card.name,
        "compute_capability": f"{card.major}.{card.minor}",
        "multiprocessors": card.multi_processor_count,
        "memory_total_bytes_card": card.total_memory,
        "cudnn": torch.backends.cudnn.version(),
        "bus_id": bus_id(card),
        "latency_scope": WHOLE if options["transfers"] else INSIDE,
    }


def layers(inputs: dict[str, Array], count: int) -> list[Table]:
    """Mean seconds by operator (eager) or by kernel (compiled), from PyTorch's profiler.

    Operators are those of the captured program, each with the kernels it started. The profiler
    slows small ones. Raises `Unsupported` where nothing can be told apart.
    """
    loaded = current()
    feed = verified(loaded.inputs, inputs)
    given = [torch.from_numpy(feed[end["name"]]).to(loaded.device) for end in loaded.inputs]
    if loaded.options["mode"] == "eager" and not loaded.program.is_script:
        return operator_times(loaded.program, given, count, on_card=loaded.on_card)
    if not loaded.on_card:
        msg = "on a CPU, what torch.compile or TorchScript fused is not told apart"
        raise Unsupported(msg, "Take mode eager for times by operator.")
    return kernel_times(loaded.bound(inputs, transfers=False), count)


def memory() -> dict[str, int]:
    """Bytes on the card: PyTorch's peak, what it holds, and what the whole card has more in use
    than before the artifact was loaded (other processes count there). Nothing for a CPU.
    """
    loaded = current()
    if not loaded.on_card or loaded.used_before is None:
        return {}
    now = used_bytes(loaded.device) or 0
    return {
        "device_peak": torch.cuda.max_memory_allocated(loaded.device),
        "device_reserved": torch.cuda.memory_reserved(loaded.device),
        "device_delta": max(0, now - loaded.used_before),
    }


def require_device(name: str) -> torch.device:
    """The device of that name; `Missing` where there is none, `BadInput` for another kind."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        msg = f"device {name!r} is not known to PyTorch"
        raise BadInput(msg, "Expected cuda:0 or another number.") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        msg = f"device {name!r} is neither an NVIDIA card nor the CPU"
        raise BadInput(msg, "Expected cuda:0 or another number.")
    if torch.cuda.is_available():
        if (device.index or 0) < torch.cuda.device_count():
            return torch.device("cuda", device.index or 0)
        msg = f"there is no {name}: {torch.cuda.device_count()} cards are found"
        raise Missing(msg, "Count from cuda:0.")
    if driver_version() is None:
        raise Missing(NO_DRIVER, f"{REMEDY} names it.")
    without = "is built without CUDA" if torch.version.cuda is None else "finds no card"
    msg = f"built, not run: PyTorch {torch.__version__} {without} (driver {driver_version()})"
    raise Missing(msg, f"{REMEDY} names it.")


def bus_id(card: object) -> str | None:
    """A card's place on the PCI bus; None where this PyTorch does not tell."""
    parts = [getattr(card, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    if None in parts:
        return None
    domain, bus, place = parts
    return f"{domain:04x}:{bus:02x}:{place:02x}.0"


def used_bytes(device: torch.device) -> int | None:
    """Bytes in use on a card by all processes; None for a CPU."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return int(total - free)


def explained(error: Exception, program: Program, options: Table) -> Exception:
    """What an error of the first inference means: a type, a fusion or memory it does not have.

    Faults of the card itself are left as they are.
    """
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
    how = options["mode"] if options["mode"] == "eager" else f"compile ({options['compile_mode']})"
    msg = f"PyTorch {torch.__version__}, {how}, {program.record['precision']}: {first}"
    if isinstance(error, torch.OutOfMemoryError):
        return OutOfDeviceMemory(msg, "`nvidia-smi` shows what else uses the card: end that.")
    if first.startswith("CUDA error"):
        return error
    return Unsupported(msg, "Take another precision or mode for this model.")


def current() -> Loaded:
    """What `load` made last."""
    if not state:
        msg = "no artifact is loaded"
        raise BadInput(msg, "Call load(artifact, options) first.")
    return state["loaded"]


def verified(ends: list[Table], inputs: dict[str, Array]) -> dict[str, Array]:
    """The inputs as arrays of their own, C-contiguous; a wrong one is refused."""
    wanted = {end["name"]: end for end in ends}
    if set(inputs) != set(wanted):
        msg = f"inputs given are {sorted(inputs)}, the model's are {sorted(wanted)}"
        raise BadInput(msg, "Give one array for each of the model's inputs.")
    feed = {}
    for name, value in inputs.items():
        array, end = np.array(value, order="C"), wanted[name]
        if array.dtype.name != end["dtype"] or list(array.shape) != list(end["shape"]):
            expected = f"{end['dtype']} {tuple(end['shape'])}"
            msg = f"input {name!r} is {array.dtype} {array.shape}, expected {expected}"
            raise BadInput(msg, "Check the workload's shape and dtype for this input.")
        feed[name] = array
    return feed


def checked(options: Table) -> Table:
    """The options given over the defaults; an unknown key or value is refused."""
    chosen = {key: kind[0] if isinstance(kind, tuple) else kind for key, kind in OPTIONS.items()}
    for key, value in options.items():
        refuse_unknown(key, list(OPTIONS), "option")
        if isinstance(OPTIONS[key], tuple):
            refuse_unknown(value, list(OPTIONS[key]), key)
        elif type(value) is not type(OPTIONS[key]) or (key == "threads" and value < 1):
            msg = f"option {key} is {value!r}, expected a value like {OPTIONS[key]!r}"
            raise BadInput(msg, "device is a name, threads 1 or more, others true or false.")
    chosen |= options
    if chosen["cuda_graph"] and (
        chosen["device"].startswith("cpu")
        or (chosen["mode"] == "compile" and chosen["compile_mode"] in WITH_GRAPHS)
    ):
        msg = f"cuda_graph with device {chosen['device']}, compile_mode {chosen['compile_mode']}"
        raise BadInput(msg, "A CPU has none; that mode of torch.compile records its own.")
    return chosen


def refuse_unknown(word: object, known: list[str], what: str) -> None:
    """Raise `BadInput` for a word that is not known, naming the nearest."""
    if word not in known:
        close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.4)
        msg = f"{what} {word!r} is not known"
        raise BadInput(msg, f"Did you mean {close[0]!r}?" if close else f"Known: {known}.")
