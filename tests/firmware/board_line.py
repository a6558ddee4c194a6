"""A host of the tests' own on a board's line: text commands, frames, and a debugger's door."""

import contextlib
import os
import select
import shutil
import socket
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import pytest

FIRMWARE = Path(__file__).parents[2] / "firmware"
SESSION = 0x1234ABCD
OK, BUSY, BAD_REQUEST, NO_MODEL, CHECKSUM, ENGINE = range(6)
HELLO, INFO, LOAD, TENSOR, WRITE, RUN, READ, SAMPLES = range(1, 9)
PROFILE, LAYERS, MEMORY, HASH, SELF_TEST, BATCH, RESET = range(9, 16)


class Answer(NamedTuple):
    """What a board answered, its busy answers left out."""

    kind: int
    status: int
    sequence: int
    session: int
    payload: bytes

    def numbers(self, layout: str) -> tuple[int, ...]:
        """The payload's beginning, by a layout of `struct` (little-endian)."""
        return struct.unpack_from("<" + layout, self.payload)


def stuffed(data: bytes) -> bytes:
    """COBS of `data`."""
    out = bytearray()
    for part in data.split(b"\0"):
        full = len(part) // 254 * 254
        for at in range(0, full, 254):
            out += b"\xff" + part[at : at + 254]
        out += bytes([len(part) - full + 1]) + part[full:]
    return bytes(out)


def unstuffed(data: bytes) -> bytes:
    """What `stuffed` was given."""
    out = bytearray()
    while data:
        code, data = data[0], data[1:]
        out += data[: code - 1]
        data = data[code - 1 :]
        if code < 255 and data:
            out.append(0)
    return bytes(out)


def body_of(kind: int, sequence: int, session: int, payload: bytes, status: int = 0) -> bytes:
    """A frame's body with its CRC."""
    body = struct.pack("<BBHI", kind, status, sequence, session) + payload
    return body + struct.pack("<I", zlib.crc32(body))


def frame(kind: int, sequence: int, session: int, payload: bytes = b"") -> bytes:
    """A request as it goes over the line."""
    return b"\0\0" + stuffed(body_of(kind, sequence, session, payload)) + b"\0"


@dataclass
class Line:
    """Both directions of a line to a board. `read` waits a little; `close` ends the board."""

    read: Callable[[float], bytes]
    write: Callable[[bytes], None]
    came: bytes = b""
    sequence: int = 0
    session: int = 0
    busy: list[int] = field(default_factory=list)

    def until(self, end: bytes, timeout_s: float = 20.0) -> bytes:
        """What came up to and with `end`."""
        deadline = time.monotonic() + timeout_s
        while end not in self.came:
            assert time.monotonic() < deadline, f"{end!r} did not come, but {self.came[-400:]!r}"
            self.came += self.read(0.2)
        at = self.came.index(end) + len(end)
        found, self.came = self.came[:at], self.came[at:]
        return found

    def command(self, text: str) -> list[str]:
        """The lines of a text command's answer, without its last."""
        self.write(text.encode() + b"%")
        lines = self.until(b"m-ready\r\n").decode().split("\r\n")
        assert lines[-2:] == ["m-ready", ""]
        return lines[:-2]

    def answer(self, timeout_s: float = 20.0) -> Answer:
        """The next whole frame that is not busy; `self.busy` collects those."""
        deadline = time.monotonic() + timeout_s
        while True:
            *segments, rest = self.came.split(b"\0")
            for at, segment in enumerate(segments):
                body = unstuffed(segment)
                if len(body) < 12 or zlib.crc32(body[:-4]) != int.from_bytes(body[-4:], "little"):
                    continue
                found = Answer(*struct.unpack_from("<BBHI", body), body[8:-4])
                self.came = b"\0".join([*segments[at + 1 :], rest])
                if found.status != BUSY:
                    return found
                self.busy.append(*found.numbers("I"))
                break
            else:
                self.came = rest
                assert time.monotonic() < deadline, "no answer came"
                self.came += self.read(0.2)

    def ask(self, kind: int, payload: bytes = b"", timeout_s: float = 60.0) -> Answer:
        """The answer to a request with the next sequence number."""
        self.sequence += 1
        self.write(frame(kind, self.sequence, self.session, payload))
        found = self.answer(timeout_s)
        assert (found.kind, found.sequence) == (kind + 0x80, self.sequence)
        return found

    def hello(self, session: int = SESSION) -> Answer:
        """Begin a session."""
        self.session = 0
        found = self.ask(HELLO, struct.pack("<HI", 1, session))
        self.session = session
        return found

    def quiet(self, for_s: float = 0.3) -> None:
        """Nothing comes for a while."""
        deadline = time.monotonic() + for_s
        while time.monotonic() < deadline:
            self.came += self.read(0.05)
        assert self.came == b""

    def load(self) -> tuple[int, int]:
        """Load the model; bytes of its first input and its first output."""
        assert self.ask(LOAD).status == OK
        return self.tensor_bytes(0), self.tensor_bytes(1)

    def tensor_bytes(self, side: int) -> int:
        """Bytes of the first input (side 0) or output (1)."""
        found = self.ask(TENSOR, bytes([side, 0])).payload
        return int(struct.unpack_from("<I", found, 3 + 4 * found[2])[0])

    def write_input(self, data: bytes) -> None:
        """The first input, in parts."""
        for at in range(0, len(data), 1000):
            part = struct.pack("<BI", 0, at) + data[at : at + 1000]
            assert self.ask(WRITE, part).status == OK

    def run(self, data: bytes, count: int = 1, warm_up: int = 0) -> Answer:
        """Run on the input that holds `data`."""
        return self.ask(RUN, struct.pack("<III", warm_up, count, zlib.crc32(data)))


def file_line(to_board: int, from_board: int) -> Line:
    """A line over two file descriptors."""

    def read(wait_s: float) -> bytes:
        ready = select.select([from_board], [], [], wait_s)[0]
        return os.read(from_board, 1 << 16) if ready else b""

    def write(data: bytes) -> None:
        while data:
            data = data[os.write(to_board, data) :]

    return Line(read, write)


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the test."""
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def posix_board(program: Path, *options: str) -> Iterator[Line]:
    """The firmware as a process on standard input and output, past its boot messages."""
    command = [str(program), "--stdio", *options]
    pipe = subprocess.PIPE
    with ended(subprocess.Popen(command, stdin=pipe, stdout=pipe)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = file_line(process.stdin.fileno(), process.stdout.fileno())
        line.until(b"m-ready\r\n")
        yield line


class Emulator(NamedTuple):
    """What QEMU needs for a port."""

    command: tuple[str, ...]
    model_address: int


EMULATORS = {
    "qemu-xtensa": Emulator(
        ("qemu-system-xtensa", "-M", "lx60-nommu", "-cpu", "lx106"), 0x61000000
    ),
    "qemu-riscv": Emulator(
        ("qemu-system-riscv32", "-M", "virt", "-cpu", "rv32", "-m", "256M", "-bios", "none"),
        0x82000000,
    ),
}


def free_port() -> int:
    """A TCP port of this host that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def connected(port: int) -> socket.socket:
    """A connection to what is just about to listen there."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the emulator does not listen"
            time.sleep(0.02)


@contextlib.contextmanager
def emulated_board(port: str, program: Path, model: Path) -> Iterator[tuple[Line, int]]:
    """A board in QEMU past its boot messages, and the TCP port of its debugger's door."""
    emulator = EMULATORS[port]
    serial, door = free_port(), free_port()
    command = [
        *emulator.command,
        *("-display", "none", "-monitor", "none", "-nic", "none"),
        *("-icount", "shift=0,sleep=off", "-kernel", str(program)),
        *("-serial", f"tcp:127.0.0.1:{serial},server=on,wait=on,nodelay=on"),
        *("-gdb", f"tcp:127.0.0.1:{door}"),
        *("-device", f"loader,file={model},addr={emulator.model_address},force-raw=on"),
    ]
    with (
        ended(subprocess.Popen(command, stderr=subprocess.DEVNULL)),
        connected(serial) as line_socket,
    ):
        line = file_line(line_socket.fileno(), line_socket.fileno())
        line.until(b"m-ready\r\n")
        yield line, door


class Debugger:
    """A debugger at QEMU's door: the board stands still until `close`."""

    def __init__(self, port: int) -> None:
        self._socket = connected(port)
        self._packet()  # why it stands still

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ask(b"D")
        self._socket.close()

    def ask(self, packet: bytes) -> bytes:
        """The answer to a packet of the remote protocol."""
        self._socket.sendall(b"$%s#%02x" % (packet, sum(packet) & 255))
        return self._packet()

    def _packet(self) -> bytes:
        came = b""
        while b"#" not in came[:-2]:
            came += self._socket.recv(1 << 16)
        self._socket.sendall(b"+")
        return came.partition(b"$")[2].rpartition(b"#")[0]

    def write(self, address: int, data: bytes) -> None:
        """Bytes into the board's memory."""
        for at in range(0, len(data), 1024):
            part = data[at : at + 1024]
            answer = self.ask(b"M%x,%x:%s" % (address + at, len(part), part.hex().encode()))
            assert answer == b"OK"

    def read(self, address: int, count: int) -> bytes:
        """Bytes out of the board's memory."""
        parts = [
            self.ask(b"m%x,%x" % (address + at, min(1024, count - at)))
            for at in range(0, count, 1024)
        ]
        return bytes.fromhex(b"".join(parts).decode())


def build(folder: Path, port: str, *variables: str) -> Path:
    """The firmware of a port; skips the test where its compiler is absent."""
    command = ["make", "-C", str(FIRMWARE), f"PORT={port}", f"BUILD={folder}", "-j2", *variables]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "is not here" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return folder / ("firmware" if port == "posix" else "firmware.elf")


def needs(program: str) -> None:
    """Skip the test where a program is absent."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not here")
