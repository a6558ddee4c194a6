"""What can go wrong, and the NVIDIA driver as the system tells it."""

from __future__ import annotations

import re
from pathlib import Path

DRIVER_FILES = {
    "/proc/driver/nvidia/version": r"Kernel Module\D*?([\d.]{4,})",
    "/sys/module/nvidia/version": r"([\d.]+)",
}


class Missing(Exception):
    """A driver, a card or a part of PyTorch is not there; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Unsupported(Exception):
    """PyTorch cannot run this model so, and nothing is broken; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(Exception):
    """An option, artifact or input that is wrong; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class OutOfDeviceMemory(MemoryError):
    """The card has no memory left for it; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def driver_version() -> str | None:
    """The version of NVIDIA's kernel driver; None without one."""
    for name, pattern in DRIVER_FILES.items():
        path = Path(name)
        if path.is_file() and (told := re.search(pattern, path.read_text(encoding="utf-8"))):
            return told[1]
    return None
