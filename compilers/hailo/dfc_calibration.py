"""The calibration set: from the model's own units and layout to what the chip takes."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
from dfc_faults import BadInput
from dfc_wire import as_sent, to_wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Array = np.ndarray[Any, Any]
    Table = dict[str, Any]

SLACK = 0.5  # of a raw value: resampling may overshoot by less than a step
WHOLE = 0.01  # how far from a whole number float32 arithmetic may leave a raw value
UNSCALED = 1.5  # raw values that all stay below were scaled already
BLOCK = 64
TWICE = "double normalization: the chip normalizes the input, so raw values of 0 to 255 go there"


class Samples:
    """Calibration samples of a model, read one block at a time."""

    def __init__(self, path: str, inputs: list[Table], work: Path) -> None:
        """Open the .npz at `path`: one array an input, (N, *model shape), N the same in all.

        Raises `BadInput` for what does not fit the model's `inputs` or is not finite.
        """
        self.arrays = extracted(path, work)
        counts = {array.shape[:1] for array in self.arrays.values()}
        names = [each["name"] for each in inputs]
        if set(names) != set(self.arrays) or len(counts) != 1 or counts & {(), (0,)}:
            found = ", ".join(f"{name} {array.shape}" for name, array in self.arrays.items())
            msg = f"{path} holds {found or 'nothing'}; the model's inputs are {', '.join(names)}"
            raise BadInput(msg, "One array an input, with as many samples in each, and not none.")
        for each in inputs:
            fits(self.arrays[each["name"]], each, path)
        self.count = int(next(iter(counts))[0])

    def blocks(self, name: str, count: int) -> Iterator[Array]:
        """The first `count` samples of an input, a few at a time."""
        array = self.arrays[name]
        for start in range(0, count, BLOCK):
            yield np.asarray(array[start : min(start + BLOCK, count)])


def extracted(path: str, work: Path) -> dict[str, Array]:
    """The arrays of an .npz as memory maps of files in `work`."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for place, name in enumerate(archive.namelist()):
                file = work / f"samples{place}.npy"
                with archive.open(name) as source, file.open("wb") as target:
                    shutil.copyfileobj(source, target)
                found[re.sub(r"\.npy$", "", name)] = np.load(str(file), mmap_mode="r")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        msg = f"{path} is no .npz of arrays: {error}"
        raise BadInput(msg, "Write it with numpy.savez, one array an input.") from error
    return found


def fits(array: Array, entry: Table, path: str) -> None:
    """Refuse an array that is not (N, *model shape); one with its channels elsewhere is told so."""
    shape, found = list(entry["shape"]), list(array.shape[1:])
    if found == shape and array.dtype == np.dtype(entry["dtype"]):
        return
    msg = (
        f"input {entry['name']!r} in {path} is {array.dtype} {array.shape},"
        f" expected {entry['dtype']} {('samples', *shape)}"
    )
    hint = "Samples stand on axis 0, before all axes of the model, its batch axis included."
    if len(shape) == 4:
        swapped = {"NCHW": [0, 2, 3, 1], "NHWC": [0, 3, 1, 2]}[entry["layout"]]
        other = "NHWC" if entry["layout"] == "NCHW" else "NCHW"
        if found in ([shape[axis] for axis in swapped], [shape[axis] for axis in swapped[1:]]):
            msg += f": that is {other} data, and the model's input is {entry['layout']}"
            hint = f"Give it as the model takes it, {entry['layout']}: the rest is done here."
    raise BadInput(msg, hint)


def written(samples: Samples, entry: Table, chip: bool, count: int, path: Path) -> str:
    """Write the first `count` samples of an input as (N, *wire shape); their type, and a check.

    `chip` says that the input takes raw values. Where all of them are whole numbers they are
    written, and later sent, as uint8. Raises `BadInput` for raw values that cannot be.
    """
    low, high, whole = np.inf, -np.inf, True
    for block in samples.blocks(entry["name"], count):
        if not np.isfinite(block).all():
            msg = f"calibration samples of input {entry['name']!r} are not finite"
            raise BadInput(msg, "Look for NaN or infinity in the calibration data.")
        raw = to_wire(block, entry)
        low, high = min(low, float(raw.min())), max(high, float(raw.max()))
        whole = whole and bool(np.abs(raw - np.rint(raw)).max() <= WHOLE)
    if chip:
        check_range(entry, low, high)
    entry["wire_dtype"] = "uint8" if chip and whole else "float32"
    shape = (count, *entry["wire_shape"])
    target = np.lib.format.open_memmap(
        str(path), mode="w+", dtype=np.dtype(entry["wire_dtype"]), shape=shape
    )
    place = 0
    for block in samples.blocks(entry["name"], count):
        sent = as_sent(to_wire(block, entry), entry)
        target[place : place + len(sent)] = sent
        place += len(sent)
    target.flush()
    return entry["wire_dtype"]


def check_range(entry: Table, low: float, high: float) -> None:
    """Refuse data that was normalized once more or once less than the workload says."""
    name = entry["name"]
    if low < -SLACK or high > 255 + SLACK:
        msg = (
            f"calibration data of input {name!r} is not what the workload says: as raw values it"
            f" reaches from {low:.4g} to {high:.4g}, expected 0 to 255. Data normalized twice"
            " (double normalization) or not at all looks like that"
        )
        hint = (
            "Let mean, std and value_range in [[inputs]] say how the data was prepared; for data"
            ' that is no picture set the compile option `normalization = "host"`.'
        )
        raise BadInput(msg, hint)
    if high <= UNSCALED:
        msg = f"{TWICE}; those of input {name!r} reach from {low:.4g} to {high:.4g}"
        hint = "Give data prepared once, as mean, std and value_range in [[inputs]] say."
        raise BadInput(msg, hint)


def content_sha256(paths: list[Path]) -> str:
    """The hash of files, name and bytes."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def file_name(name: str) -> str:
    """A file's name for the calibration set of an input."""
    return f"calibration-{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)}.npy"
