"""Where the builder runs: a Jetson or another host, and what to install there."""

from __future__ import annotations

import platform
from pathlib import Path

RELEASE = "/etc/nv_tegra_release"
JETPACK = (
    "Install JetPack's own package: `sudo apt-get install python3-libnvinfer` (JetPack 6: Python"
    " 3.10); a venv sees it when it is made with --system-site-packages."
)
HOST = (
    "Install NVIDIA's package: `sudo apt-get install python3-libnvinfer` from NVIDIA's CUDA"
    " repository, or `pip install tensorrt`, which loads its libraries from NVIDIA's own index."
)
OWN_PLACE = (
    " In an environment of its own, name it: EDGEDEPLOY_PYTHON_TRT=/path/to/venv/bin/python, or run"
    " it in NVIDIA's container image by --container."
)
DRIVER = (
    "It times kernels on the card that the engine is for: build there (`compile_on`, or run"
    " edgedeploy on that host), with NVIDIA's driver installed."
)


def jetson() -> bool:
    """Whether this is a Jetson: its kernel's package says so."""
    return Path(RELEASE).is_file() or "tegra" in platform.release()


def remedy() -> str:
    """How to install TensorRT on this kind of host."""
    return (JETPACK if jetson() else HOST) + OWN_PLACE
