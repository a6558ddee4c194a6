"""CUDA's runtime by cuda-python, of either layout: the driver, the card, memory, checked calls."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.metadata
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_run_faults import DRIVER_HINT, NO_DRIVER, NO_GPU, NOT_RUN, BadInput, Missing, meaning

if TYPE_CHECKING:
    from types import ModuleType

    Answer = Any  # None, a value, or a tuple of them
    Code = Any  # cudaError_t, an int with a name

MODULES = ("cuda.bindings.runtime", "cuda.cudart")
PACKAGES = ("cuda-bindings", "cuda-python")
PACKAGE_HINT = (
    "Install cuda-python of the driver's CUDA into that environment: `python -m pip install"
    " 'cuda-python<13'` for CUDA 12, as on JetPack 6, `'cuda-python>=13'` for CUDA 13."
)
INSUFFICIENT_DRIVER = 35
SCHEDULE_MASK = 7
DRIVER_FILES = ("/sys/module/nvidia/version", "/proc/driver/nvidia/version")
BOARD_RELEASE = "/etc/nv_tegra_release"


class Cuda:
    """Calls of CUDA's runtime that raise what their code means; `module` has those that do not."""

    def __init__(self, module: ModuleType, version: str) -> None:
        self.module = module
        self.version = version
        self.virtual = "standin" in version.partition("+")[2]

    def __call__(self, name: str, *arguments: Any, doing: str = "") -> Answer:
        """What the function answers beside its code: nothing, one value, or a tuple of them."""
        answer = getattr(self.module, name)(*arguments)
        if int(answer[0]):
            raise self.fault(answer[0], doing or name)
        return answer[1] if len(answer) == 2 else answer[1:]

    def fault(self, code: Code, doing: str) -> Exception:
        """The exception for a code, with its name and CUDA's own text."""
        name = getattr(code, "name", "") or self._text("cudaGetErrorName", code)
        return meaning(name, int(code), self._text("cudaGetErrorString", code), doing)

    def _text(self, function: str, code: Code) -> str:
        found = getattr(self.module, function)(code)[1]
        return found.decode(errors="replace") if isinstance(found, bytes) else str(found)


def bindings() -> tuple[ModuleType, str] | None:
    """The module of CUDA's runtime and its package's version; None where it cannot be imported."""
    for name in MODULES:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                module = importlib.import_module(name)
        except ImportError:
            continue
        parents = [name.rpartition(".")[0], name.partition(".")[0]]
        for parent in parents:
            version = getattr(importlib.import_module(parent), "__version__", None)
            if version:
                return module, str(version)
        for package in PACKAGES:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                return module, importlib.metadata.version(package)
        return module, "unknown"
    return None


def driver_library() -> bool:
    """Whether the driver's library is there, which needs no package to be known."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False


def runtime() -> Cuda:
    """CUDA on this machine: a driver, a GPU and the package that calls it. Raises `Missing`.

    The driver comes first: without one, it does not matter what else is missing.
    """
    found = bindings()
    if found is None:
        if not driver_library():
            raise Missing(NO_DRIVER, DRIVER_HINT)
        msg = "the package cuda-python cannot be imported: neither cuda.bindings nor cuda.cudart"
        raise Missing(msg, PACKAGE_HINT)
    cuda = Cuda(*found)
    code, count = cuda.module.cudaGetDeviceCount()
    if int(code) == INSUFFICIENT_DRIVER:
        has, needs = cuda("cudaDriverGetVersion"), cuda("cudaRuntimeGetVersion")
        if not has:
            raise Missing(NO_DRIVER, DRIVER_HINT)
        msg = (
            f"{NOT_RUN}the NVIDIA driver is too old: it is for CUDA {dotted(has)}, cuda-python"
            f" {cuda.version} needs {dotted(needs)}"
        )
        major = has // 1000 + 1
        raise Missing(msg, f"Install a newer driver, or 'cuda-python<{major}' in its place.")
    if int(code):
        raise cuda.fault(code, "asking for GPUs")
    if count == 0:
        raise Missing(NO_GPU, DRIVER_HINT)
    return cuda


def dotted(version: int) -> str:
    """CUDA's number of a version as people write it: 12060 is 12.6."""
    return f"{version // 1000}.{version % 1000 // 10}"


class Card:
    """The GPU that was chosen, current in this thread, and how the host waits for it."""

    def __init__(self, cuda: Cuda, index: int, wait: str) -> None:
        count = cuda("cudaGetDeviceCount")
        if index >= count:
            msg = f"run option device is {index}, this machine has {count} GPU(s), from 0 on"
            raise BadInput(msg, "`nvidia-smi -L` lists them.")
        self.cuda, self.index, self.wait = cuda, index, wait
        cuda("cudaSetDevice", index, doing="taking the GPU")
        module = cuda.module
        flag = {
            "spin": module.cudaDeviceScheduleSpin,
            "block": module.cudaDeviceScheduleBlockingSync,
        }[wait]
        cuda("cudaSetDeviceFlags", flag, doing="choosing how to wait for the GPU")
        self.flags = cuda("cudaGetDeviceFlags") & SCHEDULE_MASK
        if self.flags != flag:
            msg = f"the GPU is waited for by flag {self.flags}, {wait} is flag {flag}"
            raise BadInput(msg, "Start it in a new process to change run option spin.")
        properties = cuda("cudaGetDeviceProperties", index)
        name = properties.name
        text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        self.name = text.partition("\0")[0]
        self.capability = f"{properties.major}.{properties.minor}"
        self.memory_bytes = int(properties.totalGlobalMem)
        self.processors = int(properties.multiProcessorCount)
        self.integrated = bool(properties.integrated)
        self.ecc = bool(properties.ECCEnabled)

    def free_bytes(self) -> int:
        """Memory of the card that nobody uses now, this process or another."""
        return int(self.cuda("cudaMemGetInfo", doing="asking for free memory")[0])

    def facts(self) -> dict[str, Any]:
        """What is known of card and driver."""
        cuda, module = self.cuda, self.cuda.module
        found: dict[str, Any] = {
            "device": self.name,
            "device_index": self.index,
            "compute_capability": self.capability,
            "device_memory_total_bytes": self.memory_bytes,
            "multiprocessors": self.processors,
            "integrated": self.integrated,
            "ecc": self.ecc,
            "mig": " MIG " in f"{self.name} ",
            "driver": None if cuda.virtual else driver_version(),
            "cuda_driver": dotted(cuda("cudaDriverGetVersion")),
            "cuda_runtime": dotted(cuda("cudaRuntimeGetVersion")),
        }
        code, khz = module.cudaDeviceGetAttribute(
            module.cudaDeviceAttr.cudaDevAttrClockRate, self.index
        )
        if not int(code) and khz:
            found["device_clock_max_hz"] = khz * 1000
        code, bus = module.cudaDeviceGetPCIBusId(32, self.index)
        if not int(code):
            text = bus.decode(errors="replace") if isinstance(bus, bytes) else str(bus)
            found["bus_id"] = text.partition("\0")[0]
        release = first_line(BOARD_RELEASE)
        if release and not cuda.virtual:
            found["board_release"] = release.lstrip("# ")
        return found


def driver_version() -> str | None:
    """The version of the driver that is loaded; None where the system does not tell."""
    for path in DRIVER_FILES:
        match = re.search(r"\b\d+\.\d+(?:\.\d+)?\b", first_line(path) or "")
        if match:
            return match[0]
    return None


def first_line(path: str) -> str | None:
    """The first line of a small system file, None where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()[0]
    except (OSError, IndexError):
        return None
