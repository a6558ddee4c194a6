"""A board on a serial port: found by its USB id, flashed where it can be, measured by one run."""

import contextlib
import functools
import os
import re
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgedeploy.devices.flash import Flasher, Part, find_flasher, flash
from edgedeploy.devices.image import FirmwareImage, built_image
from edgedeploy.devices.local import LocalDevice
from edgedeploy.devices.ports import Port, can_be_flashed, find_port, listed_ports, port_lock
from edgedeploy.digest import file_sha256
from edgedeploy.errors import EdgeDeployError, InputError, MissingError, UnsupportedError
from edgedeploy.inventory import base_name
from edgedeploy.records import Record, Target
from edgedeploy.target import runtime_program
from edgedeploy.toml import decode
from edgedeploy.worker import Worker

ASK_TIMEOUT_S = 60.0
# USB goes and comes back with a reset of the chips that have it built in.
RETURN_S = 10.0
LEAVE_S = 0.5
POLL_S = 0.1


class SerialOptions(Record):
    """`device_options.serial` of a target.

    `usb` are the VID:PID of its ports; `port` names one instead. `firmware` is a folder that
    `make firmware` fills, below firmware/. The model goes to the partition `model_partition` of
    that firmware, or to `model_address` where no firmware is built here; `model_bytes` is the place
    it has. `reset` is the boot loader's word for how the board is started afterwards.
    """

    chip: str
    model_address: int
    model_bytes: int
    usb: tuple[str, ...] = ()
    port: str = ""
    baud: int = 115200
    flash_baud: int = 460800
    flasher: str = "esptool"
    firmware: str = ""
    model_partition: str = "model"
    reset: str = "hard-reset"


class SerialDevice:
    """The board of a target; entered, its port is this run's alone.

    `written` names the parts of its flash that the last `put` had to write.
    """

    transport = "serial"
    notes: tuple[str, ...] = ()

    def __init__(self, target: Target) -> None:
        where = f"target {target.name}: device_options.serial"
        table = target.device_options.get("serial")
        if not isinstance(table, dict):
            msg = f"{where} is not there, and the target's transport is serial"
            raise InputError(msg, hint="It names chip, usb, model_address, model_bytes.")
        self._options = decode(table, SerialOptions, where)
        if self._options.model_address < 0 or self._options.model_bytes <= 0:
            msg = f"{where}: model_address and model_bytes name no place in a flash"
            raise InputError(msg, hint="Both are counts of bytes, for example 4194304.")
        self._target = target
        self.name = target.name
        self.written: tuple[str, ...] = ()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(port_lock(self._port.device))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def check(self) -> None:
        """Raise `MissingError` where no board is found, its port may not be opened, or no program
        is here that writes its flash.
        """
        if can_be_flashed(self._port.device):
            find_flasher(self._options.flasher)

    def identity(self) -> str:
        """The USB id and serial number of the board, or its port where it has none."""
        port = self._port
        which = f"{port.usb_id} {port.serial_number}".strip() or port.device
        return f"{self._target.name} {which}"

    def put(self, path: Path) -> str:
        """Bring the model, and the firmware built for it, into the flash; answers `path`.

        Only what differs from what the board says it holds is written. Over a port without a boot
        loader the model must lie there already: `InputError` where another one does. Where no
        firmware is built here, the board must answer as it: `MissingError` else, as its flash may
        hold something of somebody's. Raises `UnsupportedError` for a model larger than its place,
        and what `flash` raises.
        """
        self.written = ()
        if not path.is_file() or path.stat().st_size == 0:
            msg = f"{path} is no file with a model in it"
            raise InputError(msg, hint="Compile the model for this target again.")
        image = built_image(self._options.firmware) if self._options.firmware else None
        address, most = self._place(image)
        size = path.stat().st_size
        if size > most:
            msg = (
                f"{path.name} has {size:,} bytes, {size - most:,} more than the {most:,} that"
                f" {self.name} has for a model"
            )
            raise UnsupportedError(msg, hint="Take a smaller model or a lower precision.")
        if not can_be_flashed(self._port.device):
            self._must_hold(path)
            return str(path)
        if image is None and self._answered(path) == file_sha256(path):
            return str(path)
        parts = [*(image.parts if image else ())]
        parts.append(Part(name="model", address=address, path=str(path.resolve())))
        flasher = Flasher(
            program=find_flasher(self._options.flasher),
            chip=self._options.chip,
            port=self._port.device,
            baud=self._options.flash_baud,
            reset=self._options.reset,
        )
        self.written = tuple(flash(flasher, parts, self._await_port))
        return str(path)

    def worker(self, program: Path, *, timeout_s: float = 600.0) -> Worker:
        """A process on this host that serves `program` and reaches the board over its port."""
        return LocalDevice().worker(program, timeout_s=timeout_s)

    def exchange(
        self, given: Path, wanted: Path | None
    ) -> contextlib.AbstractContextManager[tuple[str, str]]:
        """The paths themselves: the program that reaches the board runs on this host."""
        return LocalDevice().exchange(given, wanted)

    def run_options(self) -> dict[str, Any]:
        """`port`, a device or socket://host:port, and `baud`."""
        return {"port": self._port.device, "baud": self._options.baud}

    @functools.cached_property
    def _port(self) -> Port:
        variable = "EDGEDEPLOY_PORT_" + re.sub(r"\W", "_", base_name(self._target.name)).upper()
        named = self._options.port or os.environ.get(variable, "")
        port = find_port(named, self._options.usb, self._target.board)
        self.name = f"{self._target.name} at {port.device}"
        return port

    @property
    def _make_firmware(self) -> str:
        return f"make firmware TARGET={base_name(self._target.name)}"

    def _place(self, image: FirmwareImage | None) -> tuple[int, int]:
        """Where the model goes and how large it may be: the firmware built here knows best."""
        options = self._options
        if image is None:
            return options.model_address, options.model_bytes
        if image.chip and image.chip != options.chip:
            msg = f"the firmware in {image.folder} is for {image.chip}, expected {options.chip}"
            raise InputError(msg, hint=f"Build it: `{self._make_firmware}`.")
        if not image.partitions:
            return options.model_address, options.model_bytes
        labels = {partition.label: partition for partition in image.partitions}
        if options.model_partition not in labels:
            msg = (
                f"the firmware in {image.folder} has no partition {options.model_partition!r},"
                f" it has {', '.join(labels)}"
            )
            raise InputError(msg, hint="Name it in device_options.serial.model_partition.")
        found = labels[options.model_partition]
        return found.address, found.size_bytes

    def _asked(self, path: Path) -> str:
        """The hash of the model on the board, as its firmware reads it."""
        options = {**self._target.run_options, **self.run_options()}
        program = runtime_program(self._target.profiler)
        with self.worker(program, timeout_s=ASK_TIMEOUT_S) as worker:
            answer = worker.call("artifact_sha256", path=str(path), options=options)
        return str(answer.get("sha256", ""))

    def _answered(self, path: Path) -> str:
        """The same of a board that may hold anything: `MissingError` where it is no firmware's."""
        try:
            return self._asked(path)
        except (InputError, MissingError):  # another board, or nothing to ask it with
            raise
        except EdgeDeployError as err:
            msg = (
                f"the board at {self._port.device} does not answer as edgedeploy's firmware, and"
                f" none is built here: {err.message}"
            )
            hint = f"Build it: `{self._make_firmware}`."
            if not self._options.firmware:
                hint = "Flash it yourself, or name its folder in device_options.serial.firmware."
            raise MissingError(msg, hint=hint, log=err.log) from err

    def _must_hold(self, path: Path) -> None:
        found, wanted = self._asked(path), file_sha256(path)
        if found != wanted:
            msg = (
                f"the model behind {self._port.device} has hash {found[:12]}, the artifact's is"
                f" {wanted[:12]}, and nothing can be flashed through such a port"
            )
            hint = "Bring the model there yourself, or name the board's own port with --port."
            raise InputError(msg, hint=hint)

    def _await_port(self) -> None:
        """Wait for the port after a reset; under another name, it is known by its serial number."""
        port = self._port
        if not port.usb_id:
            return
        time.sleep(LEAVE_S)
        deadline = time.monotonic() + RETURN_S
        while not os.access(port.device, os.R_OK | os.W_OK):
            again = [
                each
                for each in (listed_ports() if port.serial_number else [])
                if (each.usb_id, each.serial_number) == (port.usb_id, port.serial_number)
            ]
            if len(again) == 1 and again[0].device != port.device:
                self._open.enter_context(port_lock(again[0].device))
                self._port = port = again[0]
                self.name = f"{self._target.name} at {port.device}"
                continue
            if time.monotonic() > deadline:
                msg = f"{port.device} did not come back within {RETURN_S:g} s of a reset"
                hint = "Unplug the board and plug it in again."
                raise MissingError(msg, hint=hint)
            time.sleep(POLL_S)
