"""Read a CIFAR pickle as data: nothing in the file can make code run."""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.data.arrays import Array
from edgedeploy.errors import DataError

# One byte a value: all that CIFAR files hold.
BYTE_DTYPES = {"u1", "|u1", "uint8"}


def read_pickle(path: Path) -> object:
    """The dict, list, str, bytes, int and uint8 arrays in `path`; keys may be bytes.

    The few names that numpy and Python 3 write into such files are answered by stand-ins defined
    here, so no imported code is ever reached; any other name is refused. Raises `DataError`.
    """
    try:
        content = path.read_bytes()
        _refuse_memory_bomb(content)
        return finished(_Reader(io.BytesIO(content), encoding="bytes").load())
    except DataError:
        raise
    except OSError as err:
        msg = f"{path} cannot be read: {err.strerror}"
        raise DataError(msg, hint="Check that it may be read.") from err
    except Exception as err:
        # a damaged stream makes the unpickler raise nearly anything
        msg = f"{path} is not a CIFAR pickle or is cut short: {type(err).__name__}: {err}"
        raise DataError(msg, hint="Copy it again from the official archive.") from err


def _refuse_memory_bomb(content: bytes) -> None:
    """Ten bytes of a pickle can ask for a memo of 32 GiB; a sound one has no more than its size."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            msg = f"the pickle numbers an object {argument} in {len(content)} bytes"
            raise DataError(msg, hint="Take the file from the official archive.")


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> "_Inert":
        match f"{module}.{name}":
            case "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct":
                return _Reconstruct()
            case "numpy.ndarray":
                return _Inert()
            case "numpy.dtype":
                return _MakeDtype()
            case "_codecs.encode":
                return _Encode()
            case _:
                msg = f"the pickle asks for {module}.{name}, which a CIFAR file has no use for"
                hint = "It may be made to run code. Take the file from the official archive."
                raise DataError(msg, hint=hint)


class _Inert:
    """Stands for a name in the file; has no attributes that a pickle could set."""

    __slots__ = ()


class _Reconstruct(_Inert):
    __slots__ = ()

    def __call__(self, *_ignored: object) -> "_Pending":
        return _Pending()


class _MakeDtype(_Inert):
    __slots__ = ()

    def __call__(self, kind: str | bytes, *_flags: object) -> "_ByteDtype":
        text = kind.decode("ascii") if isinstance(kind, bytes) else kind
        if text not in BYTE_DTYPES:
            msg = f"the pickle holds an array of {text!r}; CIFAR images are uint8"
            raise DataError(msg)
        return _ByteDtype()


class _ByteDtype(_Inert):
    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment, of which one byte has none."""


class _Encode(_Inert):
    """How Python 3 writes bytes at protocol 2: text to be encoded as latin-1."""

    __slots__ = ()

    def __call__(self, text: str | bytes, encoding: str | bytes = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            msg = f"the pickle encodes {type(text).__name__} as {encoding!r}"
            raise DataError(msg)
        return text.encode("latin-1")


class _Pending(_Inert):
    """An array whose contents come in a later instruction."""

    __slots__ = ("array",)
    array: Array

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, column_major, data = state
        if not isinstance(dtype, _ByteDtype) or not isinstance(data, bytes):
            msg = f"the pickle holds an array with {type(data).__name__} contents, not bytes"
            raise DataError(msg)
        values = np.frombuffer(data, dtype=np.uint8)
        self.array = values.reshape(shape[::-1]).T if column_major else values.reshape(shape)


def finished(value: object) -> object:
    """`value` with its arrays in the place of what stood for them."""
    if isinstance(value, _Pending):
        return value.array
    if isinstance(value, dict):
        return {key: finished(inner) for key, inner in value.items()}
    return value
