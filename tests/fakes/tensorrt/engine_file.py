"""The file of an engine: a header that says what it is, and the ONNX model it was built from."""

from __future__ import annotations

import json
from typing import Any

MAGIC = b"TRTSTANDIN1\n"


class NotAnEngine(ValueError):
    """The bytes are no engine of this stand-in, or cut short."""


def write(header: dict[str, Any], model: bytes) -> bytes:
    """An engine: magic, length of the header (8 bytes, little-endian), header in JSON, model."""
    text = json.dumps(header, sort_keys=True).encode()
    return MAGIC + len(text).to_bytes(8, "little") + text + model


def read(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and model of an engine."""
    start = len(MAGIC) + 8
    if data[: len(MAGIC)] != MAGIC or len(data) < start:
        msg = "the magic tag is not there"
        raise NotAnEngine(msg)
    end = start + int.from_bytes(data[len(MAGIC) : start], "little")
    if len(data) < end:
        msg = "the header is cut short"
        raise NotAnEngine(msg)
    return json.loads(data[start:end].decode()), data[end:]
