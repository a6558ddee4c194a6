"""Serial ports of this host: which is the board's, and who is using it."""

import contextlib
import fcntl
import hashlib
import importlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgedeploy.cache import storage_error
from edgedeploy.errors import InputError, MissingError
from edgedeploy.records import Record

USB_ID = re.compile(r"([0-9A-Fa-f]{4}):([0-9A-Fa-f]{4})")
URL = re.compile(r"socket://(?:\[[0-9A-Fa-f:.]+\]|[^\s/:?\[\]]+):(\d{1,5})")
# A pseudo terminal of Linux, of macOS.
PTY = re.compile(r"/dev/pts/\d+|/dev/ttys\d+")


class Port(Record):
    """A serial port; `usb_id` (VID:PID, upper case) and `serial_number` where it is a USB one."""

    device: str
    usb_id: str = ""
    serial_number: str = ""
    description: str = ""


def listed_ports() -> list[Port]:
    """The serial ports of this host, by name; `MissingError` without pyserial."""
    try:
        list_ports: Any = importlib.import_module("serial.tools.list_ports")
    except ImportError as err:
        msg = f"pyserial, which finds and opens serial ports, cannot be imported: {err}"
        raise MissingError(msg, hint="pip install pyserial") from err
    found = [
        Port(
            device=str(each.device),
            usb_id="" if each.vid is None else f"{each.vid:04X}:{each.pid or 0:04X}",
            serial_number=str(each.serial_number or ""),
            description=str(each.description or ""),
        )
        for each in list_ports.comports()
    ]
    return sorted(found, key=lambda port: port.device)


def find_port(named: str, usb_ids: Sequence[str], board: str) -> Port:
    """The port named, else the one whose USB id is among `usb_ids`.

    Raises `InputError` for a name of something else and for several candidates, `MissingError`
    where there is none, it went away, or it may not be opened.
    """
    wanted = [each.upper() for each in usb_ids]
    if wrong := [each for each in usb_ids if not USB_ID.fullmatch(each)]:
        msg = f"{wrong[0]!r} is no USB id, expected VID:PID in hex"
        raise InputError(msg, hint='For example usb = ["303A:1001"].')
    if "://" in named:
        address = URL.fullmatch(named)
        if address is None or not 0 < int(address[1]) < 1 << 16:
            msg = f"{named!r} is no port, expected socket://host:port and nothing behind it"
            hint = "For example --port socket://127.0.0.1:5000 or --port socket://[::1]:5000."
            raise InputError(msg, hint=hint)
        return Port(device=named)
    present = listed_ports()
    if named:
        found = [port for port in present if _same(port.device, named)]
        if not Path(named).exists():
            msg = f"there is no serial port {named}; {_seen(present)}"
            raise MissingError(msg, hint="Plug the board in, or name its port with --port.")
        port = found[0] if found else _unlisted(named)
    else:
        candidates = [port for port in present if port.usb_id in wanted]
        if not candidates:
            ids = ", ".join(wanted) or "no USB id at all"
            msg = f"no {board} is plugged in: looked for {ids}; {_seen(present)}"
            hint = "Plug it in with a data cable, or name its port with --port."
            raise MissingError(msg, hint=hint)
        if len(candidates) > 1:
            msg = f"{len(candidates)} ports may be the {board}: {_names(candidates)}"
            raise InputError(msg, hint=f"Name one: --port {candidates[0].device}.")
        port = candidates[0]
    if not os.access(port.device, os.R_OK | os.W_OK):
        msg = f"no permission to use {port.device}"
        raise MissingError(msg, hint="sudo usermod -aG dialout $USER, then log in again.")
    return port


def _unlisted(named: str) -> Port:
    """A terminal that no list has, such as a pseudo terminal; `InputError` for what is none."""
    what = f"{named} is no serial port but a {'folder' if Path(named).is_dir() else 'file'}"
    hint = "Name the port that the board is plugged into, for example --port /dev/ttyACM0."
    if not Path(named).is_char_device():
        raise InputError(what, hint=hint)
    # opened and closed, a pseudo terminal may end what is behind it
    if PTY.fullmatch(os.path.realpath(named)) or not os.access(named, os.R_OK | os.W_OK):
        return Port(device=named)
    try:
        number = os.open(named, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        msg = f"{named} cannot be opened: {err.strerror}"
        raise MissingError(msg, hint="Is it in use by another program, or unplugged?") from err
    try:
        if not os.isatty(number):
            msg = f"{named} is a device, but no serial port"
            raise InputError(msg, hint=hint)
    finally:
        os.close(number)
    return Port(device=named)


def can_be_flashed(device: str) -> bool:
    """Whether a boot loader can be reached there: not over a bare socket or a pseudo terminal."""
    return not device.startswith("socket://") and not PTY.fullmatch(os.path.realpath(device))


@contextlib.contextmanager
def port_lock(device: str) -> Iterator[None]:
    """Keep other runs of this host, of any user, from the port; `MissingError` names who has it.

    The lock ends with its process, however that ends.
    """
    real = device if "://" in device else os.path.realpath(device)
    name = f"edgedeploy-port-{hashlib.sha256(real.encode()).hexdigest()[:16]}.lock"
    path = Path(tempfile.gettempdir(), name)
    with contextlib.ExitStack() as stack:
        try:
            number = _opened(path)
            stack.callback(os.close, number)
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(number, 20, 0).decode(errors="replace").strip()
            msg = f"{device} is in use by pid {owner or '?'}"
            hint = "Two runs would measure each other: wait for that one, or end it."
            raise MissingError(msg, hint=hint) from None
        except OSError as err:
            raise storage_error(err, path) from err
        _tell(number, f"{os.getpid()}\n")
        stack.callback(_tell, number, "")
        yield


def _tell(number: int, owner: str) -> None:
    with contextlib.suppress(OSError):  # another user's file: locked all the same
        os.ftruncate(number, 0)
        os.pwrite(number, owner.encode(), 0)


def _opened(path: Path) -> int:
    """A descriptor of the lock file, made for all users; never through a link somebody left."""
    more = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | more, 0o666)
    except FileExistsError:
        writable = os.access(path, os.W_OK)
        return os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | more)
    os.fchmod(number, 0o666)
    return number


def _same(device: str, named: str) -> bool:
    return os.path.realpath(device) == os.path.realpath(named)


def _names(ports: Sequence[Port]) -> str:
    return ", ".join(f"{port.device} ({port.usb_id or 'no USB id'})" for port in ports)


def _seen(ports: Sequence[Port]) -> str:
    return f"serial ports seen: {_names(ports)}" if ports else "no serial port was seen"
