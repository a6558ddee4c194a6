"""Where artifacts go and programs run: one file a transport."""

from pathlib import Path
from typing import Protocol

from edgedeploy.devices.local import LocalDevice
from edgedeploy.errors import InputError
from edgedeploy.records import Target
from edgedeploy.worker import Worker


class Device(Protocol):
    """A place that can hold an artifact and run a program."""

    name: str
    transport: str

    def identity(self) -> str:
        """What tells this device from another of its kind, for cache keys."""
        ...

    def put(self, path: Path) -> str:
        """Bring a file or folder there; answers its path over there."""
        ...

    def worker(self, program: Path, *, timeout_s: float = 600.0) -> Worker:
        """Serve a program over there."""
        ...


def open_device(target: Target) -> Device:
    """The device a target lives on."""
    if target.transport == "local":
        return LocalDevice()
    msg = f"target {target.name}: transport {target.transport!r} is not known"
    raise InputError(msg, hint='Known: "local".')
