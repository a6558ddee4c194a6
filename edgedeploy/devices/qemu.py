"""A virtual board: our firmware in an emulator, its serial line and a debug probe over loopback."""

import contextlib
import functools
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgedeploy.devices.local import LocalDevice
from edgedeploy.devices.supervised import Supervised
from edgedeploy.digest import file_sha256
from edgedeploy.errors import (
    EdgeDeployError,
    InputError,
    MissingError,
    UnsupportedError,
    WorkerError,
)
from edgedeploy.firmware import build_firmware, check_compiler
from edgedeploy.records import Record, Target
from edgedeploy.toml import decode
from edgedeploy.worker import Worker

HOST = "127.0.0.1"
# What the firmware writes once it listens (docs/device-protocol.md).
READY = b"m-ready\r\n"
# A program may notice the end of an emulator before its parent does.
DYING_S = 0.3
NOISE = "QEMU waiting for connection on"
# Every instruction takes one virtual nanosecond, and idle time is skipped: counts repeat exactly.
COUNTED = ("-icount", "shift=0,sleep=off")
# Nothing of the host's: no window, no network, no console.
ALONE = ("-display", "none", "-monitor", "none", "-parallel", "none", "-nic", "none")


class QemuOptions(Record):
    """`device_options.qemu` of a target: the emulator, its machine, the port of our firmware.

    The model lies at `model_address`, as in a board's flash, and may take `model_bytes`.
    """

    program: str
    firmware: str
    model_address: int
    model_bytes: int
    arguments: tuple[str, ...] = ()
    start_timeout_s: float = 30.0


class QemuDevice:
    """The virtual board of a target: started by `put`, ended when the context is left.

    However this process ends, the emulator ends with it (see supervise.py).
    """

    transport = "qemu"
    notes: tuple[str, ...] = ()

    def __init__(self, target: Target) -> None:
        where = f"target {target.name}: device_options.qemu"
        table = target.device_options.get("qemu")
        if not isinstance(table, dict):
            msg = f"{where} is not there, and the target's transport is qemu"
            raise InputError(msg, hint="It names program, firmware, model_address, model_bytes.")
        self._options = decode(table, QemuOptions, where)
        if self._options.model_bytes <= 0 or self._options.model_address < 0:
            msg = (
                f"{where}: model_bytes {self._options.model_bytes} at model_address"
                f" {self._options.model_address}, expected a place in the memory of the board"
            )
            raise InputError(msg, hint="Both are counts of bytes, for example 8388608.")
        self.name = self._options.firmware
        self._target = target.name
        self._running: Supervised | None = None
        self._ports: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        running = self._running
        if running and isinstance(error, EdgeDeployError):
            with contextlib.suppress(TimeoutError):
                running.wait(DYING_S)
                error.log = f"{self._ended(running)}\n{_said(running)}\n{error.log}".strip()
        self._stop()

    def check(self) -> None:
        """Raise `MissingError` where the emulator or the firmware's cross compiler is absent."""
        _ = self._program
        check_compiler(self._options.firmware)

    def identity(self) -> str:
        """The emulator's version, its machine, and the firmware's hash."""
        machine = " ".join(self._options.arguments)
        return f"{self._version} {machine} firmware {self.name} {self._firmware_sha256[:16]}"

    def put(self, path: Path) -> str:
        """Start the board anew with the model in its flash; answers the model's path here.

        Raises `UnsupportedError` for a model larger than the flash, `MissingError` for an absent
        emulator or cross compiler, `WorkerError` where the emulator or the firmware does not
        start.
        """
        options = self._options
        if not path.is_file():
            msg = f"{path} is no file: a board's flash holds one file"
            raise InputError(msg, hint="Compile the model for this target again.")
        size = path.stat().st_size
        if size > options.model_bytes:
            msg = (
                f"{path.name} has {size:,} bytes, {size - options.model_bytes:,} more than the"
                f" {options.model_bytes:,} that {self.name} has for a model"
            )
            raise UnsupportedError(msg, hint="Take a smaller model or a lower precision.")
        self._stop()
        self._start(path.resolve())
        return str(path)

    def worker(self, program: Path, *, timeout_s: float = 600.0) -> Worker:
        """A process on this host that serves `program` and reaches the board over loopback."""
        return LocalDevice().worker(program, timeout_s=timeout_s)

    def exchange(
        self, given: Path, wanted: Path | None
    ) -> contextlib.AbstractContextManager[tuple[str, str]]:
        """The paths themselves: the program that reaches the board runs on this host."""
        return LocalDevice().exchange(given, wanted)

    def run_options(self) -> dict[str, Any]:
        """`port`, a URL of the serial line, and `probe`, host:port of the debugger's door."""
        if self._running is None:
            msg = f"{self.name} is not running"
            raise EdgeDeployError(msg, hint="`put` starts it.")
        return dict(self._ports)

    @functools.cached_property
    def _program(self) -> str:
        found = shutil.which(self._options.program)
        if found is None:
            msg = f"the emulator {self._options.program} is not on PATH"
            raise MissingError(msg, hint="`make toolchain` installs it.")
        return found

    @functools.cached_property
    def _version(self) -> str:
        done = subprocess.run(
            [self._program, "--version"], check=False, capture_output=True, text=True
        )
        if done.returncode or not done.stdout.strip():
            msg = f"{self._program} --version ended with exit code {done.returncode}"
            hint = "`make toolchain` installs it."
            raise MissingError(msg, hint=hint, log=(done.stdout + done.stderr).strip())
        return done.stdout.splitlines()[0].strip()

    @functools.cached_property
    def _firmware(self) -> Path:
        return build_firmware(self._options.firmware)

    @functools.cached_property
    def _firmware_sha256(self) -> str:
        return file_sha256(self._firmware)

    def _start(self, model: Path) -> None:
        """Start the emulator and see its firmware come up.

        The sockets are bound here and handed over, so no other process can take their ports. The
        first client is connected before the emulator starts, so no byte of the firmware's first
        words is lost, and the emulator waits for nobody.
        """
        place = f"addr={self._options.model_address:#x},force-raw=on"
        with contextlib.ExitStack() as stack:
            serial = stack.enter_context(_listening())
            probe = stack.enter_context(_listening())
            client = stack.enter_context(socket.create_connection(serial.getsockname()))
            command = [
                self._program,
                *self._options.arguments,
                *ALONE,
                *COUNTED,
                *("-kernel", str(self._firmware)),
                *("-device", f"loader,file={_escaped(str(model))},{place}"),
                *("-chardev", f"socket,id=line,fd={serial.fileno()},server=on,wait=on,nodelay=on"),
                *("-serial", "chardev:line"),
                *("-chardev", f"socket,id=probe,fd={probe.fileno()},server=on,wait=off,nodelay=on"),
                *("-gdb", "chardev:probe"),
            ]
            self._running = Supervised(command, passed=(serial.fileno(), probe.fileno()))
            self._ports = {
                "port": f"socket://{HOST}:{serial.getsockname()[1]}",
                "probe": f"{HOST}:{probe.getsockname()[1]}",
            }
            # held open here too, they would take clients that nobody answers
            serial.close()
            probe.close()
            try:
                self._see_ready(self._running, client)
            except BaseException:
                self._stop()
                raise

    def _see_ready(self, running: Supervised, client: socket.socket) -> None:
        deadline = time.monotonic() + self._options.start_timeout_s
        said = b""
        while READY not in said:
            client.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                block = client.recv(4096)
            except TimeoutError:
                msg = (
                    f"the firmware of {self.name} did not say m-ready within"
                    f" {self._options.start_timeout_s:g} s of its start; it said {said[-80:]!r}"
                )
                hint = f"`edgedeploy doctor` shows the toolchain of {self._target}."
                raise WorkerError(msg, hint=hint, log=_said(running)) from None
            except ConnectionError:
                block = b""
            if not block:
                with contextlib.suppress(TimeoutError):
                    running.wait(5.0)
                hint = f"Its arguments stand in device_options.qemu of target {self._target}."
                raise WorkerError(self._ended(running), hint=hint, log=_said(running))
            said += block

    def _ended(self, running: Supervised) -> str:
        how = f"ended with exit code {running.exit_code()}"
        last = _said(running).splitlines()[-1:]
        return f"{self._options.program} {how}{': ' + last[0] if last else ''}"

    def _stop(self) -> None:
        if self._running:
            self._running.stop()
        self._running = None
        self._ports = {}


@contextlib.contextmanager
def _listening() -> Iterator[socket.socket]:
    """A socket that listens on a free port of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        try:
            listening.bind((HOST, 0))
            listening.listen(4)
        except OSError as err:
            msg = f"no port of {HOST} can be listened on: {err.strerror}"
            raise EdgeDeployError(msg, hint="Does this system allow loopback sockets?") from err
        yield listening


def _said(running: Supervised) -> str:
    lines = running.output().splitlines()
    return "\n".join(line for line in lines if NOISE not in line)


def _escaped(path: str) -> str:
    """As QEMU's options want a comma that separates nothing."""
    return path.replace(",", ",,")
