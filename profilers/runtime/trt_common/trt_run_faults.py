"""What CUDA's codes and the library's messages mean here: whose fault it is, and what to do."""

from __future__ import annotations

import re

NOT_RUN = "built, not run: "
NO_DRIVER = NOT_RUN + "no NVIDIA driver"
NO_GPU = NOT_RUN + "the NVIDIA driver finds no GPU"
DRIVER_HINT = (
    "Run it on a machine with an NVIDIA GPU and its driver (`nvidia-smi` lists it); in a container,"
    " give it the GPU (`--gpus all`)."
)


class Told(Exception):
    """What ends a call; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Missing(Told):
    """The driver, a GPU or a package is not there, or not to be had."""


class Unsupported(Told):
    """This runtime or card has no such thing, and nothing is broken."""


class BadInput(Told):
    """An option, artifact, input or version that is wrong."""


class OutOfDeviceMemory(Told, MemoryError):
    """The card has no memory left for it."""


class DeviceLost(Told):
    """The card stopped answering this process, which must be started anew."""


class Failed(Told):
    """CUDA or TensorRT reported a fault that is none of the above."""


MEMORY = (
    "the GPU has no memory left for it",
    "`nvidia-smi` shows what else uses the GPU (on a Jetson: `free -h`): end that, or lower the"
    " batch or the number of streams.",
)
RESTART = (
    "Start it again: this process cannot use the GPU any more. `dmesg | grep -i -e NVRM -e Xid`"
    " tells of the card."
)
SYSTEM = "Restart the machine, so that the kernel's module and the library are of one version."
# by the names of cudaError_t; a code that is not here is told by its name and CUDA's own text
MEANINGS: dict[str, tuple[type[Told], str, str]] = {
    "cudaErrorMemoryAllocation": (OutOfDeviceMemory, *MEMORY),
    "cudaErrorNoDevice": (Missing, NO_GPU, DRIVER_HINT),
    "cudaErrorInvalidDevice": (
        BadInput,
        "there is no GPU of that number",
        "`nvidia-smi -L` lists them, from 0 on: give one as run option device.",
    ),
    "cudaErrorDevicesUnavailable": (
        Missing,
        NOT_RUN + "the GPU is not available to this process",
        "Another process has it to itself, or it is prohibited: `nvidia-smi -q -d COMPUTE`.",
    ),
    "cudaErrorSystemDriverMismatch": (
        Missing,
        NOT_RUN + "the NVIDIA driver's module and library are of different versions",
        SYSTEM,
    ),
    "cudaErrorSystemNotReady": (
        Missing,
        NOT_RUN + "the system is not ready for CUDA",
        "Start the driver's fabric manager (`systemctl start nvidia-fabricmanager`).",
    ),
    "cudaErrorInitializationError": (
        Missing,
        NOT_RUN + "the NVIDIA driver cannot be initialised",
        SYSTEM,
    ),
    "cudaErrorIllegalAddress": (DeviceLost, "a kernel reached memory that is not its own", RESTART),
    "cudaErrorLaunchFailure": (DeviceLost, "a kernel failed", RESTART),
    "cudaErrorLaunchTimeout": (DeviceLost, "a kernel ran longer than the display allows", RESTART),
    "cudaErrorECCUncorrectable": (DeviceLost, "the GPU's memory has an error", RESTART),
    "cudaErrorHardwareStackError": (DeviceLost, "the GPU reported a hardware error", RESTART),
    "cudaErrorContextIsDestroyed": (DeviceLost, "the context on the GPU is gone", RESTART),
    "cudaErrorUnknown": (DeviceLost, "the driver reported an unknown fault", RESTART),
    "cudaErrorSetOnActiveProcess": (
        BadInput,
        "how to wait for this GPU was decided when it was first used in this process",
        "Start it in a new process to change run option spin.",
    ),
}
CAPTURE = (
    "the engine cannot be captured in a CUDA graph",
    "Run it with option cuda_graph = false.",
)
OTHER_HINT = "What the library printed is in the log; `dmesg | grep -i -e NVRM -e Xid` has more."


def meaning(name: str, code: int, text: str, doing: str) -> Told:
    """The exception for one of CUDA's codes; `doing` is what the call was for."""
    told = f"({name}, {code}: {text})"
    if name.startswith(("cudaErrorStreamCapture", "cudaErrorCaptured")):
        return Unsupported(f"{doing}: {CAPTURE[0]} {told}", CAPTURE[1])
    if name not in MEANINGS:
        return Failed(f"{doing}: CUDA failed {told}", OTHER_HINT)
    kind, what, hint = MEANINGS[name]
    if what.startswith(NOT_RUN):
        return kind(f"{what} {told}", hint)
    return kind(f"{doing}: {what} {told}", hint)


# what the library logs when it refuses an engine, TensorRT's texts and TensorRT-RTX's
VERSION_LOG = re.compile(
    r"not compatible with this version|library version|version tag does not match|VERSION_MISMATCH",
    re.I,
)
DEVICE_LOG = re.compile(r"incompatible device|expecting compute|UNSUPPORTED_CC", re.I)
DRIVER_LOG = re.compile(r"OLD_CUDA_DRIVER|cudaError 35\b", re.I)
DAMAGED_LOG = re.compile(r"magic_?tag|incompatible serialization|MALFORMED_ENGINE", re.I)
MEMORY_LOG = re.compile(r"OutOfMemory|out of memory|cudaErrorMemoryAllocation|cudaError 2\b", re.I)


def last(lines: list[str], most: int = 2) -> str:
    """The last lines that the library logged as errors, as one text."""
    return " / ".join(line.strip() for line in lines[-most:]) or "it logged no reason"


def refused(
    lines: list[str], name: str, built: str, here: str, *, made_for: str, card: str
) -> Told:
    """Why the library would not read an engine, from what it logged.

    `built` and `here` are versions of the library called `name`; `made_for` and `card` compute
    capabilities.
    """
    text = " ".join(lines)
    detail = last(lines, 1)
    if MEMORY_LOG.search(text):
        return OutOfDeviceMemory(f"reading the engine: {MEMORY[0]} ({detail})", MEMORY[1])
    if DRIVER_LOG.search(text):
        msg = f"{NOT_RUN}the NVIDIA driver is too old for {name} {here} ({detail})"
        return Missing(msg, "Install a newer driver.")
    if DEVICE_LOG.search(text):
        msg = (
            f"the engine was built for compute capability {made_for}, this GPU has {card}"
            f" ({detail})"
        )
        return BadInput(msg, "Compile for the target with this GPU.")
    if DAMAGED_LOG.search(text) and built == here:
        msg = f"the engine is damaged: it was cut or changed on its way ({detail})"
        return BadInput(msg, "Compile or copy it again.")
    if VERSION_LOG.search(text) or DAMAGED_LOG.search(text):
        return other_version(name, built, here, detail)
    return Failed(f"{name} {here} does not read the engine: {last(lines)}", OTHER_HINT)


def other_version(name: str, built: str, here: str, detail: str = "") -> BadInput:
    """An engine of one version does not run with another."""
    more = f" ({detail})" if detail else ""
    msg = f"the engine was built by {name} {built}, here is {name} {here}{more}"
    return BadInput(msg, f"Install {name} {built} here, or compile with {name} {here}.")
