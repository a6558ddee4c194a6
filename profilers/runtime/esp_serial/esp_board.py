"""A board and the model on it, over all sessions that it takes."""

from __future__ import annotations

import itertools
import json
import struct
import time
import zlib
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from esp_line import (
    CHECKSUM,
    ENGINE,
    FLASH,
    POLL_S,
    SUPPLY,
    BadInput,
    Explained,
    Link,
    Lost,
    Missing,
    Refused,
    Unplugged,
    Unsupported,
    WrongAnswer,
    expect,
)
from esp_probe import Probe
from esp_tensor import DEPLOY, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

Array = npt.NDArray[Any]
T = TypeVar("T")
# words of the reasons that our engine and esp-dl's glue give; all others are of a node or tensor
WRONG_FILE = ("damaged", "encrypted", "cut off", "no model", "no flash", "says it", "cannot read")
TOO_LARGE = ("does not fit", "memory", " bytes ")
ALONE = "Does something else talk to the board? Is its supply sound? Run it again."


class Board:
    """A board and the model on it; what is under way goes on after the board has started over."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.link = Link(options)
        self.ask = self.link.ask
        self.lost = 0
        self.noted: dict[str, Any] = {}
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.tested: dict[str, Any] = {}
        self._written = b""
        self.info: dict[str, Any] = self.surely("attaching", self._read_info)

    def surely(self, doing: str, action: Callable[..., T], *arguments: Any) -> T:
        """`action`, from its beginning in a new session where one was lost over it."""
        for again in itertools.count(1):
            try:
                if not self.link.session:
                    self._come_back()
                return action(*arguments)
            except Lost as error:
                self.lost += 1
                if again > self.options["retries"]:
                    msg = f"{error}; {again} times in a row while {doing}"
                    raise type(error)(msg, error.hint) from error
        raise AssertionError

    def _come_back(self) -> None:
        deadline = time.monotonic() + self.options["timeout_s"]
        self._written = b""
        while True:
            try:
                self.link.attach()
                break
            except Missing as error:
                if not self.lost:
                    raise
                expect(time.monotonic() < deadline, f"{error}: unplugged?", SUPPLY, Unplugged)
                time.sleep(POLL_S)
        if self.noted:
            self.load(self.noted)

    def _read_info(self) -> dict[str, Any]:
        found = b""
        while True:
            answer = self.ask("info", struct.pack("<I", len(found)))
            found += answer[4:]
            if len(found) >= int.from_bytes(answer[:4], "little") or len(answer) <= 4:
                return dict(json.loads(found))

    def forget(self) -> None:
        """Have no model, so that none is run by another's layout."""
        self.noted, self.inputs, self.outputs, self.tested = {}, [], [], {}

    def load(self, noted: dict[str, Any]) -> None:
        """Have the engine load the model at its place; tensors are those noted in its artifact."""
        try:
            counts = struct.unpack("<HHHI", self.ask("load"))[:2]
        except Refused as error:
            if error.status == ENGINE:
                raise refusal(error.reason) from error
            raise
        msg = f"the board's model has {counts[0]} inputs and {counts[1]} outputs"
        same = counts == (len(noted["inputs"]), len(noted["outputs"]))
        expect(same, msg + ", not this artifact's", DEPLOY, BadInput)
        self.inputs, self.outputs = (
            [
                Tensor(row, noted["rounding"], self.ask("tensor", bytes([side, index])))
                for index, row in enumerate(noted[name])
            ]
            for side, name in enumerate(("inputs", "outputs"))
        )
        for tensors in (self.inputs, self.outputs):
            names, held = zip(*((each.name, each.held_name) for each in tensors), strict=True)
            same = names == held or set(names) != set(held)
            expect(same, f"the board has {names} in the order {held}", DEPLOY, BadInput)
        self.noted = noted

    def checked(self, request: str, payload: bytes, prepare: Callable[[], None]) -> bytes:
        """The answer to a request with a CRC of inputs, which are sent anew where they differ."""
        for _ in range(self.options["retries"] + 1):
            prepare()
            try:
                return self.ask(request, payload)
            except Refused as error:
                if error.status != CHECKSUM:
                    raise
                self._written = b""
        msg = "the inputs on the board are not those sent, time after time"
        raise WrongAnswer(msg, ALONE)

    def infer(self, data: bytes, warm_up: int, count: int) -> int:
        """Run on these inputs; answers the CRC-32 of the outputs, which stay on the board."""
        asked = struct.pack("<III", warm_up, count, zlib.crc32(data))
        done, crc = struct.unpack("<II", self.checked("run", asked, lambda: self._write(data)))
        expect(done == count, f"the board ran {done} inferences, expected {count}", FLASH)
        return int(crc)

    def _write(self, data: bytes) -> None:
        if self._written == data:
            return
        self._written, start, most = b"", 0, self.link.largest - 5
        for index, tensor in enumerate(self.inputs):
            part = data[start : start + tensor.bytes]
            for at in range(0, tensor.bytes, most):
                self.ask("write", struct.pack("<BI", index, at) + part[at : at + most])
            start += tensor.bytes
        self._written = data

    def once(self, data: bytes) -> Array:
        """(1, bytes) of outputs of one inference, and of no other."""
        crc, found = self.infer(data, 0, 1), b""
        for index, tensor in enumerate(self.outputs):
            for at in range(0, tensor.bytes, self.link.largest):
                want = min(self.link.largest, tensor.bytes - at)
                found += self.ask("read", struct.pack("<BIH", index, at, want))
        return verified(found, crc)[None]

    def batch(self, block: Array) -> Array:
        """(N, bytes) of inputs to (N, bytes) of outputs, both by a probe in the samples' memory."""
        data, address = block.tobytes(), self.info["samples_address"]
        probe = Probe(self.options["probe"], self.options["timeout_s"])

        def prepare() -> None:
            with probe:
                probe.write(address, data)

        asked = struct.pack("<II", len(block), zlib.crc32(data))
        offset, size, crc = struct.unpack("<III", self.checked("batch", asked, prepare))
        self._written = b""
        expected = len(block) * sum(tensor.bytes for tensor in self.outputs)
        same = offset >= len(data) and size == expected
        expect(same, f"{size} bytes of results at {offset}, expected {expected}", FLASH)
        with probe:
            results = probe.read(address + offset, size)
        return verified(results, crc).reshape(len(block), -1)

    def checked_vectors(self) -> bytes:
        """The answer to a self-test, which overwrites the inputs."""
        self._written = b""
        return self.ask("self-test")

    def timed(self, data: bytes, warm_up: int, count: int) -> tuple[Array, int]:
        """(count, 2) ticks and microseconds of inferences, and the CRC-32 of their outputs."""
        crc, found = self.infer(data, warm_up, count), b""
        while len(found) < 16 * count:
            answer = self.ask("samples", struct.pack("<I", len(found) // 16))
            (total,) = struct.unpack_from("<I", answer)
            expect(total == count and len(answer) > 4, f"{total} samples of {count}", FLASH)
            found += answer[4:]
        return np.frombuffer(found, "<u8").reshape(count, 2), crc

    def profiled(self, data: bytes, count: int) -> list[tuple[str, str, int]]:
        """Name, operator and ticks in `count` inferences of each layer."""
        self.infer(data, self.options["warm_up"], 1)
        (total,) = struct.unpack("<H", self.ask("profile", struct.pack("<I", count)))
        found: list[tuple[str, str, int]] = []
        while len(found) < total:
            answer, at = self.ask("layers", struct.pack("<H", len(found))), 2
            expect(len(answer) > 2, f"{len(found)} layers, expected {total}", FLASH)
            while at < len(answer):
                ticks, size = struct.unpack_from("<QB", answer, at)
                at += 9 + size
                (named,) = struct.unpack_from("<H", answer, at)
                op, name = answer[at - size : at], answer[at + 2 : at + 2 + named]
                found.append((name.decode(errors="replace"), op.decode(), ticks))
                at += 2 + named
        return found


def refusal(reason: str) -> Explained:
    """What an engine's reason for not loading a model stands for: the file, or the model."""
    msg = f"the board's engine refuses the model: {reason}"
    if any(words in reason for words in WRONG_FILE):
        return BadInput(msg, "Compile the model and deploy it again.")
    if any(words in reason for words in TOO_LARGE):
        hint = "Take a smaller model or input, or a board with more memory."
        return Unsupported(msg, hint)
    return Unsupported(msg, "Change the model where it says, or take another target.")


def verified(data: bytes, crc: int) -> Array:
    """The bytes as an array; raises `WrongAnswer` where they are not what the board computed."""
    found = zlib.crc32(data)
    expect(found == crc, f"outputs read have CRC {found:08x}, expected {crc:08x}", ALONE)
    return np.frombuffer(data, np.uint8)
