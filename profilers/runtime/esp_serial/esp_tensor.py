"""Tensors by the model's names and axes, and as a board holds them."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from esp_line import BadInput, expect
from flatbuffers.table import Table

Array = npt.NDArray[Any]
STORED = {8: "<i1", 16: "<i2", 32: "<i4", 33: "<f4"}
DEPLOY = "Another model is on the board: deploy this one to it."


class Tensor:
    """An input or output: values by the model's own name and axes, numbers as the board has it."""

    def __init__(self, noted: dict[str, Any], rounding: str, answer: bytes) -> None:
        kind, self.exponent, rank = struct.unpack_from("<BbB", answer)
        *held, self.bytes = struct.unpack_from(f"<{rank}iI", answer, 3)
        self.name, self.shape, self.dtype = noted["name"], noted["shape"], np.dtype(noted["dtype"])
        self.perm = noted["perm"] or list(range(len(self.shape)))
        self.laid = [self.shape[axis] for axis in self.perm]
        self.half_up, self.stored = rounding == "half_up", np.dtype(STORED.get(kind, "V"))
        same = held == self.laid or (not noted["perm"] and math.prod(held) == math.prod(self.laid))
        same = same and self.bytes == math.prod(held) * self.stored.itemsize
        self.held_name = answer[7 + 4 * rank :].decode(errors="replace")
        found = f"{self.held_name!r} of type {kind}, {held}"
        msg = f"the board holds {found}, expected {self.name!r} {self.laid}"
        expect(same and sorted(self.perm) == list(range(len(self.shape))), msg, DEPLOY, BadInput)

    def numbers(self, values: Array) -> Array:
        """Values (N, *shape) to (N, bytes): clip(round(value / 2^exponent)) in float64."""
        held = values.transpose(0, *(axis + 1 for axis in self.perm))
        if self.stored.kind == "i":
            msg = f"input {self.name!r} has values that are no numbers"
            expect(not np.isnan(held).any(), msg, "Check the preprocessing.", BadInput)
            scaled = np.ldexp(held.astype(np.float64), -self.exponent)
            limits = np.iinfo(self.stored)
            held = np.floor(scaled + 0.5) if self.half_up else np.rint(scaled)
            held = np.clip(held, limits.min, limits.max)
        stored = np.ascontiguousarray(held, dtype=self.stored)
        return stored.reshape(len(values), math.prod(self.laid)).view(np.uint8)

    def values(self, numbers: Array) -> Array:
        """The way back: (N, bytes) to values (N, *shape)."""
        held = np.ascontiguousarray(numbers).view(self.stored).reshape(len(numbers), *self.laid)
        if self.stored.kind == "i":
            held = np.ldexp(held.astype(np.float64), self.exponent)
        axes = (int(axis) + 1 for axis in np.argsort(self.perm))
        return np.ascontiguousarray(held.transpose(0, *axes), dtype=self.dtype)


def layout(artifact: str) -> dict[str, Any]:
    """Names, shapes, order of axes and rounding, as the compiler noted them in an .espdl file.

    The file is "EDL2" and 16 bytes, or "EDL1" and 12, ahead of a flatbuffer: in its root, slot 20
    is a vector of metadata, each a key (slot 4) and a value (slot 6). Raises `BadInput`.
    """
    hint = "Compile it with this version of edgedeploy, without encryption."
    try:
        data = Path(artifact).read_bytes()
        start = {b"EDL1": 12, b"EDL2": 16}[data[:4]]
        expect(data[4:8] == bytes(4), f"{artifact} is encrypted", hint, BadInput)
        root = Table(data, start + int.from_bytes(data[start : start + 4], "little"))
        entries, found = root.Offset(20), {}
        for index in range(root.VectorLen(entries)):
            entry = Table(data, root.Indirect(root.Vector(entries) + 4 * index))
            key, value = (entry.String(entry.Pos + entry.Offset(slot)) for slot in (4, 6))
            found[key] = value
        noted: dict[str, Any] = json.loads(found[b"edgedeploy"])
        known = {"half_up", "half_even"} >= {noted["rounding"]} and noted["inputs"]
        expect(bool(known and noted["outputs"]), f"{artifact} notes {noted}", hint, BadInput)
    except OSError as error:
        msg = f"{artifact} cannot be read: {error.strerror}"
        raise BadInput(msg, hint) from error
    except (KeyError, ValueError, TypeError, struct.error) as error:
        msg = f"{artifact} is no .espdl file with `edgedeploy` in its metadata: {error!r}"
        raise BadInput(msg, hint) from error
    return noted
