"""Where artifacts go and programs run: one file a transport."""

from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from edgedeploy.errors import InputError
from edgedeploy.records import Target
from edgedeploy.worker import Worker


class Device(Protocol):
    """A place that can hold an artifact and run a program; a context that ends what it started.

    `notes` tell what happened to it meanwhile that a reader of its figures should know.
    """

    name: str
    transport: str
    notes: tuple[str, ...]

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def check(self) -> None:
        """Raise `MissingError` for what is not there; starts, builds and reserves nothing."""
        ...

    def identity(self) -> str:
        """What tells this device from another of its kind, for cache keys."""
        ...

    def put(self, path: Path) -> str:
        """Bring a file or folder there; answers the path by which a program finds it."""
        ...

    def worker(self, program: Path, *, timeout_s: float = 600.0) -> Worker:
        """Serve a program that reaches the device: over there, or here beside its cable."""
        ...

    def exchange(self, given: Path, wanted: Path | None) -> AbstractContextManager[tuple[str, str]]:
        """The files of one call: the paths by which a program there finds `given` and writes
        `wanted` ("" where there is none); after the block it lies here, and neither does there.
        """
        ...

    def run_options(self) -> dict[str, Any]:
        """What a runtime program needs to reach the device: a port, an address; else nothing."""
        ...


def open_device(target: Target) -> Device:
    """The device a target lives on; nothing is started before it is entered."""
    if target.transport == "local":
        from edgedeploy.devices.local import LocalDevice

        return LocalDevice()
    if target.transport == "serial":
        from edgedeploy.devices.serial import SerialDevice

        return SerialDevice(target)
    if target.transport == "qemu":
        from edgedeploy.devices.qemu import QemuDevice

        return QemuDevice(target)
    if target.transport == "ssh":
        from edgedeploy.devices.ssh import SshDevice

        return SshDevice(target)
    msg = f"target {target.name}: transport {target.transport!r} is not known"
    raise InputError(msg, hint='Known: "local", "serial", "qemu", "ssh".')
