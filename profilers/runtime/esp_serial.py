# /// script
# requires-python = ">=3.10"
# dependencies = ["flatbuffers>=2", "numpy>=1.26", "pyserial>=3.5,<4"]
# ///
"""Boards with our firmware on a serial line: inferences, and what the board itself times.

The protocol is docs/device-protocol.md; line, tensors and board are in the folder of this name.
"""

from __future__ import annotations

import difflib
import functools
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import serial

sys.path.append(str(Path(__file__).resolve().with_suffix("")))
from esp_board import ALONE, Board
from esp_line import BadInput, Lost, Refused, Stalled, expect
from esp_tensor import layout

if TYPE_CHECKING:
    from collections.abc import Callable

Array = npt.NDArray[Any]
# `port` is a device, a pty or "socket://host:port"; an answer may take `timeout_s`, and is asked
# for `retries` times again; `probe` is "host:port" of a gdb stub; `warm_up` is for `layers`;
# `board` is how the board's name begins, any where it is empty
DEFAULTS: dict[str, Any] = {
    "port": "",
    "baud": 115200,
    "timeout_s": 10.0,
    "retries": 3,
    "probe": "",
    "warm_up": 1,
    "board": "",
}
MEMORY = (
    "flash_model", "parameters", "unpacked_weights", "sram_arena", "psram_arena", "largest_tensor",
    "sram_total", "psram_total", "stack_peak", "stack_total", "flash_code", "static",
)  # fmt: skip
SELF_TEST = ("vectors", "failed", "values", "different", "first_bad", "expected", "found")
SHARD_SAMPLES = 256  # what a board that starts over costs at most

state: dict[str, Board] = {}


def probe() -> dict[str, Any]:
    """The version of what drives the line; needs no board."""
    return {"tools": {"pyserial": serial.__version__}}


def artifact_sha256(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """SHA-256 of the model's place on the board, over as many bytes as the file at `path` has."""
    board, size = connected(options), Path(path).stat().st_size
    digest = board.surely("hashing", board.ask, "hash", struct.pack("<I", size))
    return {"sha256": digest.hex(), "size_bytes": size}


def load(artifact: str, options: dict[str, Any]) -> dict[str, Any]:
    """Have the board load the model, which `artifact` tells the names of; options: `DEFAULTS`.

    The board then tests itself once, whose outcome `facts` tells and which never fails the load.
    Raises `Missing` (port), `Unsupported` (operator, memory), `BadInput`, and what befalls lines:
    `Stalled`, `Unplugged`, `StartedOver`, `WrongAnswer`.
    """
    noted = layout(artifact)
    board = connected(options)
    board.forget()
    board.surely("loading the model", board.load, noted)
    board.tested = tested(board)
    inputs, outputs = (
        [{"name": each.name, "dtype": each.dtype.name, "shape": each.shape} for each in side]
        for side in (board.inputs, board.outputs)
    )
    return {"inputs": inputs, "outputs": outputs, "options": board.options}


def run(inputs: dict[str, Array]) -> dict[str, Array]:
    """One inference: arrays by the model's names in and out. Raises `BadInput`."""
    return {name: values[0] for name, values in run_many(one(inputs)).items()}


def run_many(samples: dict[str, Array]) -> dict[str, Array]:
    """Inferences on arrays (N, *shape) to arrays (N, *shape); bit-equal to `run`'s.

    They go by the samples' memory where there is one and a probe, else one by one over the line.
    """
    board = current()
    block = numbers(board, samples)
    sizes = [sum(tensor.bytes for tensor in side) for side in (board.inputs, board.outputs)]
    fit = min(SHARD_SAMPLES, max(0, board.info["samples_bytes"] - 16) // sum(sizes))
    if board.options["probe"] and fit and len(block) > 1:
        shards = [block[at : at + fit] for at in range(0, len(block), fit)]
        found = [board.surely("running", board.batch, shard) for shard in shards]
    else:
        found = [board.surely("running", board.once, row.tobytes()) for row in block]
    outputs = np.concatenate([np.zeros((0, sizes[1]), np.uint8), *found])
    ends = np.cumsum([tensor.bytes for tensor in board.outputs])[:-1]
    parts = zip(board.outputs, np.split(outputs, ends, axis=1), strict=True)
    return {tensor.name: tensor.values(part) for tensor, part in parts}


def bind(inputs: dict[str, Array]) -> Callable[[], object]:
    """One inference with its way over the line; it is `timed` that measures the board."""
    board = current()
    data = numbers(board, one(inputs)).tobytes()
    return functools.partial(board.surely, "running", board.infer, data, 0, 1)


def timed(inputs: dict[str, Array], warm_up: int, count: int) -> dict[str, Any]:
    """`count` inferences by the board's clock, in runs of as many as it keeps samples of.

    Seconds and cycles on a board; on a virtual one instructions, and no time. Whole runs done
    before a board is lost are kept, and a note says so.
    """
    board = current()
    data = numbers(board, one(inputs)).tobytes()
    chunks, crcs, notes = [np.zeros((0, 2), "<u8")], set(), []
    before, left = board.lost, count
    while left:
        many = min(board.info["sample_capacity"], left)
        try:
            # a later run finds caches as the one before left them, but for reading its samples
            warm = min(warm_up, 1) if left < count and board.lost == before else warm_up
            samples, crc = board.surely("timing", board.timed, data, warm, many)
        except (Stalled, Lost) as error:
            if left == count:
                raise
            notes.append(f"{count - left} of {count} inferences were timed: {error}")
            break
        crcs.add(crc)
        expect(len(crcs) == 1, "the same inputs gave other outputs in a later run", ALONE)
        chunks.append(samples)
        left -= many
    if board.lost > before and not left:
        notes.append(f"the board was lost {board.lost - before} times; that run began anew")
    if board.info["ticks_per_count"] > 1:
        step = board.info["ticks_per_count"]
        notes.append(f"{board.info['tick_unit']} are counted in steps of {step}")
    ticks, micros = np.concatenate(chunks).T
    answer = {"clock": "device", "latency_s": None, "cycles": None, "instructions": None}
    if not board.info["virtual"]:
        answer["latency_s"] = (micros / 1e6).tolist()
    if board.info["tick_unit"] in answer:
        answer[board.info["tick_unit"]] = ticks.tolist()
    return {**answer, "notes": notes}


def layers(inputs: dict[str, Array], count: int) -> list[dict[str, Any]]:
    """Mean of each layer in `count` inferences: in what the board counts, and in s on real ones."""
    board = current()
    data = numbers(board, one(inputs)).tobytes()
    unit, clock_hz = board.info["tick_unit"], board.info["clock_hz"]
    found = []
    for name, op, ticks in board.surely("profiling", board.profiled, data, count):
        layer: dict[str, Any] = {"name": name, "op": op}
        if unit in {"cycles", "instructions"}:
            layer[unit] = ticks / count
        if unit == "cycles" and clock_hz and not board.info["virtual"]:
            layer["time_s"] = ticks / count / clock_hz
        found.append(layer)
    return found


def memory() -> dict[str, int]:
    """The board's memory in bytes by kind; its stack only where it knows that."""
    board = current()
    sizes = struct.unpack("<12I", board.surely("asking for memory", board.ask, "memory"))
    found = dict(zip(MEMORY, sizes, strict=True))
    return {kind: size for kind, size in found.items() if size or not kind.startswith("stack")}


def self_test() -> dict[str, int]:
    """The board's own check against the model's embedded vectors; `vectors` is 0 without any."""
    return checked_vectors(current())


def checked_vectors(board: Board) -> dict[str, int]:
    """What `self_test` answers, of a board that is given."""
    answer = struct.unpack("<HHIIIii", board.surely("testing itself", board.checked_vectors))
    return dict(zip(SELF_TEST, answer, strict=True))


def tested(board: Board) -> dict[str, Any]:
    """The outcome of a self-test: four counts, and a `note` where nothing could be compared."""
    try:
        found = checked_vectors(board)
        note = "" if found["vectors"] else "the model has no embedded vectors"
    except Refused as error:
        found, note = {}, error.reason
    except Stalled as error:  # it says nothing while at it, and a large model takes long
        found, note = {}, str(error)
    counts = {key: found.get(key, 0) for key in ("vectors", "failed", "values", "different")}
    return {**counts, "note": note} if note else counts


def facts() -> dict[str, Any]:
    """What the board says of itself and of its self-test; firmware and engine are tools."""
    if not state:
        return probe()
    board = state["board"]
    tools = {"firmware": board.link.firmware, "engine": board.info["engine"]}
    clock = {"clock_hz": board.info["clock_hz"] or None}
    more = {"self_test": board.tested} if board.tested else {}
    tools |= probe()["tools"]
    return {**board.info, **clock, **more, "tools": tools, "sessions_lost": board.lost}


def close() -> None:
    """Free the port."""
    if state:
        state.pop("board").link.close()


def connected(options: dict[str, Any]) -> Board:
    """The board of these options, attached; one of others is let go.

    Raises `BadInput` where it is not the `board` that they name.
    """
    chosen = checked(options)
    if not state or state["board"].options != chosen:
        close()
        state["board"] = Board(chosen)
    board = state["board"]
    found, wanted = str(board.info["board"]), chosen["board"]
    msg = f"the board at {chosen['port']} says it is {found!r}, expected {wanted!r}"
    hint = "Name the port of the right board, or the target of this one."
    expect(found.lower().startswith(wanted.lower()), msg, hint, BadInput)
    return board


def current() -> Board:
    """The board with the model that `load` had it take."""
    if not state or not state["board"].inputs:
        msg = "no artifact is loaded"
        raise BadInput(msg, "Call load(artifact, options) first.")
    return state["board"]


def one(inputs: dict[str, Array]) -> dict[str, Array]:
    """The same with an axis ahead for samples."""
    return {name: np.asarray(value)[None] for name, value in inputs.items()}


def numbers(board: Board, samples: dict[str, Array]) -> Array:
    """(N, bytes): all inputs in the board's order, as it holds them; wrong ones are refused."""
    names = [tensor.name for tensor in board.inputs]
    msg = f"inputs given are {sorted(samples)}, the model's are {sorted(names)}"
    expect(set(samples) == set(names), msg, "Give one array for each of them.", BadInput)
    counts = {name: len(values) for name, values in samples.items()}
    hint = "Give as many samples for each input."
    expect(len(set(counts.values())) == 1, f"samples are {counts}", hint, BadInput)
    for tensor in board.inputs:
        found = samples[tensor.name]
        same = found.dtype == tensor.dtype and list(found.shape[1:]) == tensor.shape
        wanted = f"{tensor.dtype} {tensor.shape}"
        msg = f"input {tensor.name!r} is {found.dtype} {list(found.shape[1:])}, expected {wanted}"
        expect(same, msg, "Check the workload's shape and dtype for it.", BadInput)
    return np.concatenate([each.numbers(samples[each.name]) for each in board.inputs], axis=1)


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """The options given over the defaults; an unknown key or value is refused."""
    for key, value in options.items():
        close_by = difflib.get_close_matches(key, DEFAULTS, n=1, cutoff=0.4)
        hint = f"Did you mean {close_by[0]!r}?" if close_by else f"Known: {list(DEFAULTS)}."
        expect(key in DEFAULTS, f"option {key!r} is not known", hint, BadInput)
        kinds = (int, float) if key == "timeout_s" else type(DEFAULTS[key])
        right = isinstance(value, kinds) and not isinstance(value, bool)
        msg = f"option {key} is {value!r}, expected a value like {DEFAULTS[key]!r}"
        texts = [name for name, default in DEFAULTS.items() if isinstance(default, str)]
        hint = f"{', '.join(texts)} are text, the others numbers that are not negative."
        expect(right and (isinstance(value, str) or value >= 0), msg, hint, BadInput)
    chosen = {**DEFAULTS, **options}
    hint = "Name the board's serial port (--port), for example /dev/ttyACM0."
    expect(bool(chosen["port"]), "option port is not set", hint, BadInput)
    return chosen
