"""Layout "npz": one array an input, samples on the first axis, labels under "labels" or "y"."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedeploy.data.arrays import Array, Slot, by_name, label_key, plain_label, take_array
from edgedeploy.data.dataset import Sample, unlabelled
from edgedeploy.errors import DataError
from edgedeploy.workload import DataSpec, EvaluationSpec, find_data, require_file

Header = tuple[tuple[int, ...], np.dtype[np.generic]]


@dataclass(frozen=True)
class NpzRows:
    """Stacked arrays in one file; `keys` maps an input's name to its array's."""

    path: Path
    size: int
    keys: dict[str, str]
    known: Array | None
    slots: tuple[Slot, ...]

    @property
    def source(self) -> str:
        return f"{self.size} samples in {self.path}"

    def __len__(self) -> int:
        return self.size

    def labels(self) -> Array | None:
        return self.known

    def read(self, chosen: Sequence[int]) -> Iterator[Sample]:
        stacked = {name: _load(self.path, key) for name, key in self.keys.items()}
        for index in chosen:
            arrays = {slot.name: take_array(stacked[slot.name][index], slot) for slot in self.slots}
            label = None if self.known is None else plain_label(self.known[index])
            yield Sample(arrays, label, f"{self.path}[{index}]")

    def files(self, choose: Callable[[], Sequence[int]]) -> list[Path]:
        return [self.path]

    def facts(self) -> dict[str, str]:
        return {}


def open_npz(spec: DataSpec, slots: tuple[Slot, ...], folder: str) -> NpzRows:
    """The arrays of `spec.data`; only their headers and the labels are read here.

    Nothing pickled is ever loaded. Raises `DataError` for a file that is no .npz, a missing array,
    arrays or labels of unlike length, and missing labels where an evaluation needs them.
    """
    path = require_file(find_data(spec.data, folder), "data")
    headers = _headers(path)
    names = {key: key for key in headers}
    keys = by_name(names, slots, str(path))
    sizes = {key: headers[key][0][0] if headers[key][0] else 0 for key in keys.values()}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{key} {size}" for key, size in sizes.items())
        msg = f"{path} has arrays of unlike sample counts: {found}"
        raise DataError(msg, hint="Stack the same number of samples on axis 0 of each.")
    size = next(iter(sizes.values()))
    key = label_key(names, slots)
    if key is None and isinstance(spec, EvaluationSpec):
        raise unlabelled(str(path))
    known = _load(path, key) if key else None
    if known is not None and (known.ndim == 0 or len(known) != size):
        count = len(known) if known.ndim else 1
        msg = f"{path} is mislabelled: {count} labels in {key!r} for {size} samples"
        raise DataError(msg, hint="Store one label a sample, in the same order.")
    return NpzRows(path, size, keys, known, slots)


def _headers(path: Path) -> dict[str, Header]:
    """Shape and dtype of every array, without reading the arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [name for name in archive.namelist() if name.endswith(".npy")]
            return {entry.removesuffix(".npy"): _header(archive, entry) for entry in entries}
    except (zipfile.BadZipFile, ValueError, EOFError, RuntimeError) as err:
        msg = f"{path} is not a sound .npz file: {err}"
        raise DataError(msg, hint="Write it again with numpy.savez.") from err


def _header(archive: zipfile.ZipFile, entry: str) -> Header:
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject:
        msg = f"array {entry} holds pickled objects, which are never loaded"
        raise ValueError(msg)
    return shape, dtype


def _load(path: Path, key: str) -> Array:
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: Array = archive[key]
    except (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, OSError, EOFError) as err:
        msg = f"{path}: array {key!r} cannot be read: {err}"
        raise DataError(msg, hint="Write it again with numpy.savez.") from err
    return array
