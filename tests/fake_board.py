"""A board of Python behind a TCP port: the device's end of the protocol, with faults to order.

Nothing it answers is a measurement. It serves what the real firmware cannot be made to do: an old
version, a memory that forgets, a run that dies, a clock of cycles on a desk without a board.
"""

import hashlib
import json
import socket
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import Any, Self

import flatbuffers
import numpy as np
from esp_line import Frame, decoded

LAYOUT: dict[str, Any] = {
    "inputs": [
        {"name": "image", "dtype": "float32", "shape": [1, 3, 4, 5], "perm": [0, 2, 3, 1]},
        {"name": "state", "dtype": "float32", "shape": [1, 6], "perm": None},
    ],
    "outputs": [
        {"name": "picture", "dtype": "float32", "shape": [1, 3, 4, 5], "perm": [0, 2, 3, 1]},
        {"name": "next", "dtype": "float32", "shape": [2, 3], "perm": None},
    ],
    "rounding": "half_up",
}
# type, exponent, shape on the board
TENSORS = [
    [(8, -5, (1, 4, 5, 3)), (16, -8, (1, 6))],
    [(8, -3, (1, 4, 5, 3)), (16, -6, (1, 6))],
]
SIZES = [[60, 12], [60, 12]]
TICKS, MICROSECONDS = 240_017, 1_000
NAMES = (
    "", "hello", "info", "load", "tensor", "write", "run", "read", "samples",
    "profile", "layers", "memory", "hash", "self_test", "batch",
)  # fmt: skip
LAYERS = [(1_000, "Conv", "/first/Conv"), (500, "Gemm", "/last/Gemm")]
MEMORY = (5_000, 4_000, 100, 2_000, 0, 1_500, 320_000, 8_000_000, 0, 0, 60_000, 9_000)
INFO: dict[str, Any] = {
    "board": "fake",
    "cpu": "python",
    "compiler": "none",
    "engine": "fake 1",
    "firmware": "9.9",
    "tick_unit": "cycles",
    "ticks_per_count": 1,
    "clock_hz": 240_000_000,
    "virtual": False,
    "model_extent": 65_536,
    "samples_address": 0,
    "samples_bytes": 0,
    "sample_capacity": 8,
}


def write_espdl(path: Path, metadata: dict[str, str], *, magic: bytes = b"EDL2") -> Path:
    """A model file that holds metadata and nothing else."""
    builder = flatbuffers.Builder(64)
    entries = []
    for key, value in metadata.items():
        texts = [builder.CreateString(text) for text in (key, value)]
        builder.StartObject(2)
        for slot, text in enumerate(texts):
            builder.PrependUOffsetTRelativeSlot(slot, text, 0)
        entries.append(builder.EndObject())
    builder.StartVector(4, len(entries), 4)
    for entry in reversed(entries):
        builder.PrependUOffsetTRelative(entry)
    props = builder.EndVector()
    builder.StartObject(10)
    builder.PrependUOffsetTRelativeSlot(8, props, 0)
    builder.Finish(builder.EndObject())
    data = bytes(builder.Output())
    header = magic + struct.pack("<II", 0, len(data)) + bytes(4 if magic == b"EDL2" else 0)
    path.write_bytes(header + data)
    return path


def due(counts: dict[str, int], name: str) -> bool:
    """Whether a fault ordered for this request is still to happen; it has then happened."""
    counts[name] = counts.get(name, 0) - 1
    return counts[name] >= 0


def computed(inputs: bytes) -> bytes:
    """The fake model: each number times three plus seven, in the width of its output."""
    first = np.frombuffer(inputs[:60], "i1") * np.int8(3) + np.int8(7)
    second = np.frombuffer(inputs[60:], "<i2") * np.int16(3) + np.int16(7)
    return first.tobytes() + second.tobytes()


class FakeBoard:
    """Serves one connection at a time on a loopback port; a context manager.

    `version` 0 is refused at hello and 2 answered; `text_only` knows no frames; `noise` is said
    to each who connects; `refuses` a load with this text; `forgets` an input before so many runs;
    `miscomputes` the run of that number; says it is busy for `busy_s` three times over. `resets`,
    `stalls` and `hangs_up` happen to so many requests of a name.
    """

    def __init__(
        self,
        model: bytes = b"",
        *,
        info: dict[str, Any] | None = None,
        version: int = 1,
        text_only: bool = False,
        noise: bytes = b"",
        refuses: str = "",
        forgets: int = 0,
        miscomputes: int = -1,
        busy_s: float = 0.0,
        resets: dict[str, int] | None = None,
        stalls: dict[str, int] | None = None,
        hangs_up: dict[str, int] | None = None,
    ) -> None:
        self.model, self.info, self.version = model, INFO | (info or {}), version
        self.text_only, self.noise, self.refuses = text_only, noise, refuses
        self.forgets, self.miscomputes, self.busy_s = forgets, miscomputes, busy_s
        self.resets, self.stalls, self.hangs_up = resets or {}, stalls or {}, hangs_up or {}
        self.ram = bytearray(self.info["samples_bytes"])
        self.names = [[row["name"] for row in LAYOUT[side]] for side in ("inputs", "outputs")]
        self.asked: list[str] = []
        self.runs = 0
        self._start_over()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.05)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port = f"socket://127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._server.close()

    def _start_over(self) -> None:
        self.session, self.last = 0, (-1, 0, b"")
        self.inputs, self.outputs = bytearray(72), b""
        self.samples = self.layers = 0
        self.loaded = False

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                self._line, _ = self._server.accept()
            except TimeoutError:
                continue
            self._line.settimeout(0.05)
            self._line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._line:
                try:
                    self._converse()
                except OSError:
                    continue

    def _converse(self) -> None:
        self._line.sendall(self.noise)
        rest = b""
        while not self._ended.is_set():
            try:
                data = self._line.recv(4096)
            except TimeoutError:
                continue
            if not data:
                return
            if self.text_only:
                found = b"m-name-dut-[old]\r\nm-ready\r\n" if b"name%" in data else b"e-[?]\r\n"
                self._line.sendall(found)
                continue
            *segments, rest = (rest + data).split(b"\0")
            for segment in segments:
                frame = decoded(segment)
                if frame is not None and not self._answered(frame):
                    return

    def _answered(self, frame: Frame) -> bool:
        """Answer a request; False where the line is to end."""
        name = NAMES[frame.kind]
        self.asked.append(name)
        if due(self.stalls, name):
            return True
        if due(self.hangs_up, name):
            return False
        if due(self.resets, name):
            self._start_over()
            self._line.sendall(b"Guru Meditation Error: panic'ed\r\nm-init-done\r\nm-ready\r\n")
        if name == "hello":
            status, payload = self._hello(frame.payload)
        elif frame.session != self.session:
            status, payload = 2, b"session"
        elif (frame.sequence, frame.session) == self.last[:2]:
            self._line.sendall(self.last[2])
            return True
        else:
            if self.busy_s and name in {"run", "batch"}:
                for done in range(3):
                    self._send(frame, 1, struct.pack("<I", done))
                    time.sleep(self.busy_s)
            status, payload = getattr(self, f"on_{name}")(frame.payload)
        self.last = (frame.sequence, frame.session, self._send(frame, status, payload))
        return True

    def _send(self, request: Frame, status: int, payload: bytes) -> bytes:
        frame = Frame(
            request.kind + 0x80, status, request.sequence, request.session, payload
        ).encoded()
        self._line.sendall(frame)
        return frame

    def _hello(self, payload: bytes) -> tuple[int, bytes]:
        version, session = struct.unpack("<HI", payload)
        if version != self.version and self.version < 2:
            return 2, b"version"
        self.session = session
        return 0, struct.pack("<HH", self.version, 64) + b"edgedeploy 9.9"

    def on_info(self, payload: bytes) -> tuple[int, bytes]:
        (offset,) = struct.unpack("<I", payload)
        text = json.dumps(self.info).encode()
        return 0, struct.pack("<I", len(text)) + text[offset : offset + 60]

    def on_load(self, _: bytes) -> tuple[int, bytes]:
        if self.refuses:
            return 5, self.refuses.encode()
        self.loaded = True
        return 0, struct.pack("<HHHI", 2, 2, 2, len(self.model))

    def on_tensor(self, payload: bytes) -> tuple[int, bytes]:
        side, index = payload
        kind, exponent, shape = TENSORS[side][index]
        size = SIZES[side][index]
        rank = len(shape)
        name = self.names[side][index].encode()
        return 0, struct.pack(f"<BbB{rank}iI", kind, exponent, rank, *shape, size) + name

    def on_write(self, payload: bytes) -> tuple[int, bytes]:
        index, offset = struct.unpack_from("<BI", payload)
        at = sum(SIZES[0][:index]) + offset
        self.inputs[at : at + len(payload) - 5] = payload[5:]
        return 0, b""

    def on_run(self, payload: bytes) -> tuple[int, bytes]:
        warm_up, count, crc = struct.unpack("<III", payload)
        if not self.loaded:
            return 3, b"no model"
        if self.forgets:
            self.forgets -= 1
            self.inputs[0] ^= 1
        if zlib.crc32(self.inputs) != crc:
            return 4, b"inputs differ"
        self.runs += 1
        self.outputs = computed(bytes(self.inputs))
        if self.runs == self.miscomputes:
            self.outputs = bytes(72)
        self.samples, self.warm_up = count, warm_up
        return 0, struct.pack("<II", count, zlib.crc32(self.outputs))

    def on_read(self, payload: bytes) -> tuple[int, bytes]:
        index, offset, count = struct.unpack("<BIH", payload)
        start = sum(SIZES[1][:index])
        part = self.outputs[start : start + SIZES[1][index]]
        return 0, part[offset : offset + count]

    def on_samples(self, payload: bytes) -> tuple[int, bytes]:
        (first,) = struct.unpack("<I", payload)
        page = struct.pack("<QQ", TICKS, MICROSECONDS) * min(3, self.samples - first)
        return 0, struct.pack("<I", self.samples) + page

    def on_profile(self, payload: bytes) -> tuple[int, bytes]:
        (self.layers,) = struct.unpack("<I", payload)
        return 0, struct.pack("<H", len(LAYERS))

    def on_layers(self, payload: bytes) -> tuple[int, bytes]:
        (first,) = struct.unpack("<H", payload)
        ticks, op, name = LAYERS[first]
        entry = struct.pack("<QB", ticks * self.layers, len(op)) + op.encode()
        entry += struct.pack("<H", len(name)) + name.encode()
        return 0, struct.pack("<H", len(LAYERS)) + entry

    def on_batch(self, payload: bytes) -> tuple[int, bytes]:
        count, crc = struct.unpack("<II", payload)
        size = count * sum(SIZES[0])
        if zlib.crc32(self.ram[:size]) != crc:
            return 4, b"samples differ"
        samples = [bytes(self.ram[at : at + 72]) for at in range(0, size, 72)]
        results, offset = b"".join(map(computed, samples)), (size + 15) // 16 * 16
        self.ram[offset : offset + len(results)] = results
        self.inputs[:] = self.ram[size - 72 : size]
        return 0, struct.pack("<III", offset, len(results), zlib.crc32(results))

    def on_memory(self, _: bytes) -> tuple[int, bytes]:
        return 0, struct.pack("<12I", *MEMORY)

    def on_hash(self, payload: bytes) -> tuple[int, bytes]:
        (size,) = struct.unpack("<I", payload)
        return 0, hashlib.sha256((self.model + b"\xff" * size)[:size]).digest()

    def on_self_test(self, _: bytes) -> tuple[int, bytes]:
        self.inputs[:] = bytes(72)
        return 0, struct.pack("<HHIIIii", 2, 1, 66, 3, 17, -5, 12)
