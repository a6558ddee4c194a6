"""The firmware's engine on this host, as a library, and networks for it."""

import ctypes
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, Any]
REPOSITORY = Path(__file__).resolve().parent.parent.parent
FIRMWARE = REPOSITORY / "firmware"
FOLDER = tempfile.TemporaryDirectory(prefix="engine-tests-")
ERROR_BYTES = 160
TYPES = {8: np.int8, 16: np.int16, 32: np.int32, 33: np.float32}
HOOK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_bool)


class Tensor(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint16),
        ("type", ctypes.c_uint8),
        ("exponent", ctypes.c_int8),
        ("rank", ctypes.c_uint8),
        ("sizes", ctypes.c_int32 * 6),
        ("bytes", ctypes.c_uint32),
    ]

    @property
    def text(self) -> str:
        return ctypes.string_at(self.name, self.name_bytes).decode()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.sizes[: self.rank])


class Memory(ctypes.Structure):
    _fields_ = [
        ("fast", ctypes.c_void_p),
        ("fast_bytes", ctypes.c_uint32),
        ("large", ctypes.c_void_p),
        ("large_bytes", ctypes.c_uint32),
    ]


class Use(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint32)
        for name in (
            "model_bytes",
            "parameter_bytes",
            "unpacked_bytes",
            "arena_fast_bytes",
            "arena_large_bytes",
            "largest_tensor_bytes",
        )
    ]


class Layer(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint16),
        ("op", ctypes.c_char_p),
    ]


class Check(ctypes.Structure):
    _fields_ = [
        ("vectors", ctypes.c_uint16),
        ("failed", ctypes.c_uint16),
        ("values", ctypes.c_uint32),
        ("different", ctypes.c_uint32),
        ("first_bad", ctypes.c_uint32),
        ("expected", ctypes.c_int32),
        ("found", ctypes.c_int32),
    ]


class Refused(Exception):
    """The engine's reason."""


def aligned(size: int) -> Array:
    """Zeroed bytes at a multiple of 16."""
    whole = np.zeros(size + 16, np.uint8)
    start = -whole.ctypes.data % 16
    return whole[start : start + size]


@functools.cache
def library(*flags: str) -> ctypes.CDLL:
    """The engine built with the host's compiler, warnings being errors."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not here")
    built = Path(FOLDER.name) / f"engine{len(list(Path(FOLDER.name).glob('*.so')))}.so"
    sources = sorted(str(path) for path in (FIRMWARE / "engine").glob("*.c"))
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-fPIC", "-shared"]
    command += [*flags, f"-I{FIRMWARE}", *sources, "-o", str(built)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(built))
    for name in ("load", "run", "input", "output", "layer_at", "self_test", "memory_use"):
        getattr(loaded, f"engine_{name}").restype = ctypes.c_bool
    for name in ("input_data", "output_data", "metadata"):
        getattr(loaded, f"engine_{name}").restype = ctypes.c_void_p
    return loaded


class Engine:
    """A model in memory of its own; a second one in the same library takes the first's place."""

    def __init__(
        self,
        file: bytes,
        *flags: str,
        fast: int = 1 << 18,
        large: int = 1 << 20,
    ) -> None:
        self.library = library(*flags)
        self.error = ctypes.create_string_buffer(ERROR_BYTES)
        self.file, self.fast, self.large = aligned(len(file)), aligned(fast), aligned(large)
        self.file[:] = np.frombuffer(file, np.uint8)
        memory = Memory(
            self.fast.ctypes.data, fast, self.large.ctypes.data if large else None, large
        )
        at = ctypes.c_void_p(self.file.ctypes.data)
        if not self.library.engine_load(at, len(file), ctypes.byref(memory), self.error):
            raise Refused(self.error.value.decode("ascii"))

    def tensors(self, kind: str) -> list[Tensor]:
        """All inputs or outputs."""
        found = []
        for index in range(getattr(self.library, f"engine_{kind}_count")()):
            one = Tensor()
            assert getattr(self.library, f"engine_{kind}")(index, ctypes.byref(one))
            found.append(one)
        return found

    def run(self, inputs: dict[str, Array], hook: Any = None) -> dict[str, Array]:
        """The outputs by name; every input in the device's own layout."""
        for index, one in enumerate(self.tensors("input")):
            given = np.ascontiguousarray(inputs[one.text], TYPES[one.type])
            assert given.nbytes == one.bytes
            ctypes.memmove(self.library.engine_input_data(index), given.ctypes.data, one.bytes)
        assert self.library.engine_run(hook, None, self.error), self.error.value
        return self.outputs()

    def outputs(self) -> dict[str, Array]:
        found = {}
        for index, one in enumerate(self.tensors("output")):
            content = ctypes.string_at(self.library.engine_output_data(index), one.bytes)
            found[one.text] = np.frombuffer(content, TYPES[one.type]).reshape(one.shape)
        return found

    def layers(self) -> list[tuple[str, str]]:
        """Operator and name of each."""
        found = []
        for index in range(self.library.engine_layer_count()):
            one = Layer()
            assert self.library.engine_layer_at(index, ctypes.byref(one))
            name = ctypes.string_at(one.name, one.name_bytes).decode()
            found.append((one.op.decode(), name))
        return found

    def use(self) -> dict[str, int]:
        use = Use()
        assert self.library.engine_memory_use(ctypes.byref(use))
        return {name: getattr(use, name) for name, _ in Use._fields_}

    def self_test(self) -> Check:
        check = Check()
        assert self.library.engine_self_test(ctypes.byref(check), self.error), self.error.value
        return check

    def metadata(self, key: str) -> bytes | None:
        size = ctypes.c_uint32()
        at = self.library.engine_metadata(key.encode(), ctypes.byref(size))
        return None if at is None else ctypes.string_at(at, size.value)


@functools.cache
def networks() -> Path:
    """The folder with the networks of engine_nets.py, each with what the simulator says."""
    if importlib.util.find_spec("esp_ppq") is None:
        pytest.skip("esp-ppq is not here")
    script = Path(__file__).with_name("engine_nets.py")
    folder = Path(FOLDER.name) / "networks"
    folder.mkdir()
    same = os.environ | {"PYTHONHASHSEED": "0"}
    command = [sys.executable, str(script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=same)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def arranged(values: Array, shape: tuple[int, ...]) -> Array:
    """What has the exported model's order, channels before height and width, in the device's."""
    if values.shape == shape:
        return values
    moved = np.moveaxis(values, 1, -1)
    return moved if moved.shape == shape else values.reshape(shape)
