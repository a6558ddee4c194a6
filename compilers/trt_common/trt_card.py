"""The graphics card of this host, as its driver tells: its compute capability and name."""

from __future__ import annotations

import ctypes
import functools
import importlib

LIBRARY = "libcuda.so.1"
PACKAGES = ("cuda.bindings.runtime", "cuda.cudart")  # by version of cuda-python
# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR, _INTEGRATED
MAJOR, MINOR, INTEGRATED = 75, 76, 18


class Card:
    """The first card: `capability` such as "8.9", `name`; without one both are empty and `why`.

    An `integrated` one shares the memory of its CPU: a Jetson's.
    """

    def __init__(
        self, capability: str = "", name: str = "", why: str = "", *, integrated: bool = False
    ) -> None:
        self.capability, self.name, self.why = capability, name, why
        self.integrated = integrated


@functools.lru_cache(maxsize=1)
def card() -> Card:
    """Ask the driver; the environment's CUDA_VISIBLE_DEVICES says which card is the first."""
    return by_package() or by_driver()


def by_package() -> Card | None:
    """What cuda-python tells, where it is installed: it finds the driver on every system."""
    for name in PACKAGES:
        try:
            cuda = importlib.import_module(name)
        except (ImportError, OSError):
            continue
        status, told = cuda.cudaGetDeviceProperties(0)
        if int(status) == 35:
            return Card(why="no NVIDIA driver")
        if int(status):
            return Card(why=f"the NVIDIA driver tells no card: {status}")
        label = bytes(told.name).split(b"\0")[0].decode("utf-8", "replace")
        return Card(f"{told.major}.{told.minor}", label, integrated=bool(told.integrated))
    return None


def by_driver() -> Card:
    """What the driver's own library tells."""
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError:
        return Card(why="no NVIDIA driver")
    status = cuda.cuInit(0)
    if status:
        return Card(why=f"the NVIDIA driver does not start: cuInit gives {status}")
    device, major, minor, shared = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(128)
    status = (
        cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), MAJOR, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), MINOR, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(shared), INTEGRATED, device)
        or cuda.cuDeviceGetName(name, len(name), device)
    )
    if status:
        return Card(why=f"the NVIDIA driver tells no card: error {status}")
    return Card(
        f"{major.value}.{minor.value}",
        name.value.decode("utf-8", "replace"),
        integrated=bool(shared.value),
    )
