"""Memory of the host that the library gives: a serialized engine, a timing cache."""

from __future__ import annotations

from typing import Any

from tensorrt.enums import DataType
from tensorrt.strict import Bound


class IHostMemory(Bound):
    """Bytes with `nbytes` and `dtype`, and no length.

    The real one is a buffer (`bytes(memory)`, `file.write(memory)`); this one is one from Python
    3.12 on, and below that by `bytes()` only.
    """

    def __init__(self, data: bytes) -> None:
        self._data = bytes(data)

    def __bytes__(self) -> bytes:
        return self._data

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self._data)

    @property
    def nbytes(self) -> int:
        return len(self._data)

    @property
    def dtype(self) -> Any:
        return DataType.INT8
