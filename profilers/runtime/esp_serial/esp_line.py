"""The line to a board: ports, frames, requests and answers, and what may befall them."""

from __future__ import annotations

import contextlib
import difflib
import errno
import grp
import math
import os
import secrets
import select
import socket
import struct
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

import serial
from serial.tools import list_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
VERSION = 1
REQUESTS = (
    "", "hello", "info", "load", "tensor", "write", "run", "read", "samples",
    "profile", "layers", "memory", "hash", "self-test", "batch", "reset",
)  # fmt: skip
OK, BUSY, BAD_REQUEST, NO_MODEL, CHECKSUM, ENGINE = range(6)
POLL_S = 0.05
HELLO_EVERY_S = 1.0
PRINTED_BYTES = 4096
FLASH = "Build the firmware of this version and flash it."
SUPPLY = "Check cable and supply (a brown-out restarts a board), then try again."


class Explained(Exception):
    """What went wrong, for people; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Missing(Explained):
    """No such port, no right to use it, or another program does."""


class Unsupported(Explained):
    """The board cannot run this model, and nothing is broken."""


class BadInput(Explained):
    """An option, artifact or input that is wrong."""


class Stalled(Explained):
    """No whole answer came in time."""


class WrongAnswer(Explained):
    """An answer that cannot be right: nothing of it is used."""


class Lost(Explained):
    """The session is over; a new one may go on with it."""


class Unplugged(Lost):
    """The line ended."""


class StartedOver(Lost):
    """The board began anew, as after power on."""


class Refused(Explained):
    """The board understood a request and refused it."""

    def __init__(self, request: str, status: int, reason: str) -> None:
        super().__init__(f"the board refused {request} (status {status}): {reason}", FLASH)
        self.status, self.reason = status, reason


def expect(right: bool, message: str, hint: str, kind: type[Explained] = WrongAnswer) -> None:
    """Raise an error of that kind unless things are right."""
    if not right:
        raise kind(message, hint)


class Line:
    """A serial device, pty or TCP connection; raises OSError where it ended."""

    def __init__(self, port: str, baud: int, timeout_s: float) -> None:
        self._port: serial.Serial | socket.socket
        if port.startswith("socket://"):  # pyserial's own would read byte by byte
            host, _, number = port.removeprefix("socket://").rpartition(":")
            if not 0 < int(number) < 1 << 16:  # the system would take a remainder of it
                msg = f"{number} is no number of a TCP port"
                raise ValueError(msg)
            address = host.removeprefix("[").removesuffix("]"), int(number)
            self._port = socket.create_connection(address, timeout_s)
            self._port.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._send = self._port.sendall
        elif "://" in port:
            msg = "lines of this kind are not known"
            raise ValueError(msg)
        else:
            self._port = serial.Serial(port, baud, write_timeout=timeout_s, exclusive=True)
            self._send = self._port.write
        self.close = self._port.close

    def read(self) -> bytes:
        """What has come, waiting `POLL_S` at most."""
        if not select.select([self._port], [], [], POLL_S)[0]:
            return b""
        data = os.read(self._port.fileno(), 1 << 16)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed at the other end")
        return data

    def write(self, data: bytes) -> None:
        """Send; a board that takes nothing will not answer either, and is noticed by that."""
        with contextlib.suppress(serial.SerialTimeoutException, TimeoutError):
            self._send(data)


def opened(port: str, baud: int, timeout_s: float) -> Line:
    """The line to a board. Raises `Missing`, `BadInput`."""
    try:
        return Line(port, baud, timeout_s)
    except ValueError as error:
        msg = f"port {port!r} with baud {baud} is not possible: {error}"
        raise BadInput(msg, "A port is a device's path or socket://host:port.") from error
    except OSError as error:
        raise missing(port, error) from error


def missing(port: str, error: OSError) -> Missing:
    """Why a port cannot be opened, and what helps."""
    if "://" in port:
        return Missing(f"nothing answers at {port}: {error}", "Start the board or its bridge.")
    if error.errno in {errno.EACCES, errno.EPERM}:
        group = "dialout"
        with contextlib.suppress(OSError, KeyError):
            group = grp.getgrgid(Path(port).stat().st_gid).gr_name
        hint = f"sudo usermod --append --groups {group} $USER, then log in again."
        return Missing(f"no permission to open {port}, which group {group} has", hint)
    if error.errno in {errno.EBUSY, errno.EAGAIN}:
        hint = f"Close the serial monitor or run that has it (`fuser {port}` finds it)."
        return Missing(f"port {port} is in use by another program", hint)
    if error.errno not in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
        return Missing(f"port {port} cannot be opened: {error}", "Is it a serial port?")
    ports = [found.device for found in list_ports.comports()]
    folder = Path(port).parent
    beside = [str(path) for path in folder.iterdir()] if folder.is_dir() else []
    close = difflib.get_close_matches(port, dict.fromkeys(ports + beside), n=3, cutoff=0.8)
    hint = f"Serial ports here: {', '.join(ports)}." if ports else "Connect the board."
    hint = f"Did you mean {' or '.join(close)}? {hint}" if close else hint
    return Missing(f"there is no port {port}", hint)


class Frame(NamedTuple):
    """Of a request or an answer, what stands between its zeros."""

    kind: int
    status: int
    sequence: int
    session: int
    payload: bytes

    def encoded(self) -> bytes:
        """As it goes over the line."""
        body = struct.pack("<BBHI", *self[:4]) + self.payload
        return b"\0\0" + stuffed(body + struct.pack("<I", zlib.crc32(body))) + b"\0"


def decoded(segment: bytes) -> Frame | None:
    """The frame in what stood between two zeros; None where there is none or it is damaged."""
    body = unstuffed(segment)
    if len(body) < 12 or zlib.crc32(body[:-4]) != int.from_bytes(body[-4:], "little"):
        return None
    kind, status, sequence, session = struct.unpack_from("<BBHI", body)
    return Frame(kind, status, sequence, session, body[8:-4])


def stuffed(data: bytes) -> bytes:
    """COBS: the same without zeros, a byte longer for each 254 begun."""
    out = bytearray()
    for part in data.split(b"\0"):
        full = len(part) // 254 * 254
        for at in range(0, full, 254):
            out += b"\xff" + part[at : at + 254]
        out += bytes([len(part) - full + 1]) + part[full:]
    return bytes(out)


def unstuffed(data: bytes) -> bytes:
    """What `stuffed` was given; nothing where these bytes are no such thing."""
    out, at = bytearray(), 0
    while at < len(data):
        end = at + data[at]
        if end == at or end > len(data):
            return b""
        out += data[at + 1 : end]
        if data[at] != 255 and end < len(data):
            out.append(0)
        at = end
    return bytes(out)


class Link:
    """Requests and answers over a line that may lose, repeat, damage and delay bytes."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.line: Line | None = None
        self.session = self.damaged = 0
        self.largest, self.firmware = 64, ""
        self.printed = self._rest = b""
        # begins anywhere: a board repeats its last answer to a number it has just seen
        self._sequence = secrets.randbelow(1 << 16)

    def attach(self) -> None:
        """Start a session; what the board says before its answer is dropped, it may be booting."""
        if self.line is None:
            self.line = opened(*(self.options[key] for key in ("port", "baud", "timeout_s")))
        session, self._rest = secrets.randbelow((1 << 32) - 1) + 1, b""
        try:
            answer = self.ask("hello", struct.pack("<HI", VERSION, session))
        except Refused as error:
            msg = f"the board refuses protocol version {VERSION}: {error.reason}"
            raise WrongAnswer(msg, FLASH) from error
        except Stalled:
            self._ask_for_name()
            raise
        version, self.largest = struct.unpack_from("<HH", answer)
        msg = f"the board speaks protocol version {version}, expected {VERSION}"
        expect(version == VERSION and self.largest >= 64, msg, FLASH)
        self.session, self.firmware = session, answer[4:].decode(errors="replace")

    def _ask_for_name(self) -> None:
        self._line(Line.write, b"%name%")
        for _ in range(int(min(HELLO_EVERY_S, self.options["timeout_s"]) / POLL_S)):
            self._keep(self._line(Line.read))
        old = "the board answers name% but no frames: its firmware is older than this protocol"
        expect(b"m-name-" not in self.printed, old, FLASH)

    def ask(self, request: str, payload: bytes = b"") -> bytes:
        """The payload of the answer; asked for again, by the same number, until one comes.

        Raises `Refused`, `Stalled`, and `Lost` where the board started over or the line ended.
        """
        self._sequence = (self._sequence + 1) & 0xFFFF
        kind = REQUESTS.index(request)
        frame = Frame(kind, OK, self._sequence, self.session, payload).encoded()
        wait_s, tries = self.options["timeout_s"], self.options["retries"] + 1
        if not self.session and wait_s > HELLO_EVERY_S:
            wait_s, tries = HELLO_EVERY_S, math.ceil(tries * wait_s / HELLO_EVERY_S)
        damaged = self.damaged
        for _ in range(tries):
            self._line(Line.write, frame)
            deadline = time.monotonic() + wait_s
            while time.monotonic() < deadline:
                for answer in self._answers(kind):
                    if answer.status == OK:
                        return answer.payload
                    if answer.status != BUSY:
                        self._refused(request, answer)
                    deadline = time.monotonic() + wait_s
        msg = f"the board gave no answer to {request} in {tries} tries of {wait_s:g} s"
        hint = "Is this the right port, and does its firmware run? Reset the board."
        if self.damaged > damaged:
            msg += f", but {self.damaged - damaged} damaged frames"
            hint = "Check the cable, the baud rate, and whether something else uses the line."
        raise Stalled(msg + self._last_words(), hint)

    def _answers(self, kind: int) -> Iterator[Frame]:
        *segments, self._rest = (self._rest + self._line(Line.read)).split(b"\0")
        if len(self._rest) > PRINTED_BYTES:
            segments, self._rest = [*segments, self._rest], b""
        for segment in segments:
            frame = decoded(segment)
            if frame is None:
                self._keep(segment)
            elif (frame.kind, frame.sequence) == (kind + 0x80, self._sequence):
                yield frame

    def _refused(self, request: str, answer: Frame) -> NoReturn:
        reason = answer.payload.decode(errors="replace")
        if answer.status == BAD_REQUEST and reason == "session":
            self.session = 0
            msg = "the board started over" + self._last_words()
            raise StartedOver(msg, SUPPLY)
        raise Refused(request, answer.status, reason)

    def _keep(self, segment: bytes) -> None:
        if all(32 <= byte < 127 or byte in b"\r\n\t\x1b" for byte in segment):
            self.printed = (self.printed + segment)[-PRINTED_BYTES:]
        else:
            self.damaged += 1

    def _last_words(self) -> str:
        printed, self.printed = self.printed.decode().strip(), b""
        if printed:
            print(f"the board printed:\n{printed}")
        lines = [line for line in printed.splitlines() if not line.startswith("m-")]
        return f"; it printed {lines[-1][-120:]!r}" if lines else ""

    def _line(self, call: Callable[..., T], *arguments: bytes) -> T:
        """A call of the line; `Unplugged` where it ended."""
        if self.line is None:
            msg = "the line to the board is closed"
            raise Unplugged(msg, SUPPLY)
        try:
            return call(self.line, *arguments)
        except OSError as error:
            self.close()
            msg = f"the line to the board ended: {error}{self._last_words()}"
            raise Unplugged(msg, SUPPLY) from error

    def close(self) -> None:
        """Free the port; `attach` opens it again."""
        if self.line is not None:
            with contextlib.suppress(OSError):
                self.line.close()
        self.line, self.session = None, 0
