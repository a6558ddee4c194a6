"""Layout "cifar10": the official pickles `data_batch_1` to `5` and `test_batch`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from edgedeploy.data.arrays import Array, Slot
from edgedeploy.data.dataset import Sample
from edgedeploy.data.image import image_slot, prepare
from edgedeploy.data.pickled import read_pickle
from edgedeploy.errors import DataError, nearest
from edgedeploy.workload import DataSpec, find_data

FOLDER = "cifar-10-batches-py"
SPLITS = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
SIDE = 32


@dataclass(frozen=True)
class CifarRows:
    """The rows of the batches of one split; however many there are in each."""

    batches: tuple[Path, ...]
    slot: Slot

    @property
    def source(self) -> str:
        return f"CIFAR-10 {', '.join(p.name for p in self.batches)} in {self.batches[0].parent}"

    @cached_property
    def _contents(self) -> tuple[Array, Array]:
        parts = [_read_batch(path) for path in self.batches]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def __len__(self) -> int:
        return len(self._contents[0])

    def labels(self) -> Array:
        return self._contents[1]

    def read(self, chosen: Sequence[int]) -> Iterator[Sample]:
        pixels, labels = self._contents
        for index in chosen:
            image = Image.fromarray(pixels[index])
            where = f"{self.batches[0].parent} row {index}"
            yield Sample({self.slot.name: prepare(image, self.slot)}, int(labels[index]), where)

    def files(self, choose: Callable[[], Sequence[int]]) -> list[Path]:
        return list(self.batches)

    def facts(self) -> dict[str, str]:
        return {"pillow": PIL.__version__}


def open_cifar10(spec: DataSpec, slots: tuple[Slot, ...], folder: str) -> CifarRows:
    """The split "train" or "test" of the folder `spec.data`, or of the official folder in it.

    The pickles are read as data (`edgedeploy.data.pickled`) when the first sample is asked for.
    Raises `DataError` for another split or a batch that is not there.
    """
    if spec.split not in SPLITS:
        msg = f"CIFAR-10 has no split {spec.split!r}"
        raise DataError(msg, hint=nearest(spec.split, list(SPLITS)))
    root = find_data(spec.data, folder)
    if (root / FOLDER).is_dir():
        root = root / FOLDER
    batches = tuple(root / name for name in SPLITS[spec.split])
    missing = [path.name for path in batches if not path.is_file()]
    if missing:
        msg = f"{root} lacks {', '.join(missing)} of CIFAR-10's split {spec.split!r}"
        raise DataError(msg, hint=f"Name the official folder {FOLDER}, unpacked.")
    return CifarRows(batches, image_slot(slots, "CIFAR-10"))


def _read_batch(path: Path) -> tuple[Array, Array]:
    """Pixels as (N, 32, 32, 3) uint8, RGB, and labels as (N,) int64."""
    found = read_pickle(path)
    if not isinstance(found, dict):
        msg = f"{path} holds a {type(found).__name__}, not a CIFAR-10 batch"
        raise DataError(msg, hint="Copy it again from the official archive.")
    # Python 2 wrote the keys as bytes
    table = {str(k, "latin-1") if isinstance(k, bytes) else k: v for k, v in found.items()}
    data, labels = table.get("data"), table.get("labels")
    width = 3 * SIDE * SIDE
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != width:
        shape = data.shape if isinstance(data, np.ndarray) else type(data).__name__
        msg = f"{path}: 'data' found {shape}, expected an array of shape (N, {width})"
        raise DataError(msg, hint="Copy it again from the official archive.")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        msg = f"{path}: 'labels' is not a list of integers; found keys {sorted(map(str, table))}"
        raise DataError(msg, hint="CIFAR-100 is another layout: read it with layout 'python'.")
    if len(labels) != len(data):
        msg = f"{path} is mislabelled: {len(labels)} labels for {len(data)} images"
        raise DataError(msg, hint="Copy it again from the official archive.")
    pixels = data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pixels), np.asarray(labels, dtype=np.int64)
