"""The handwritten digits that scikit-learn brings along: 1,797 images of 8x8 pixels, 10 classes."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedeploy.errors import DataError, MissingError, nearest

SPLITS = ("train", "test")
# Every fifth image of a class is held out.
HELD_OUT = 5


def load_split(split: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Images (N, 1, 8, 8) float32 in 0..1 (grey levels 0..16 over 16) and labels (N,) int64.

    Split "test" is every fifth image of each class in the order of the file, 355 in all; "train"
    is the rest, 1,442. Raises `DataError` for another split.
    """
    if split not in SPLITS:
        msg = f"the digits have no split {split!r}"
        raise DataError(msg, hint=nearest(split, list(SPLITS)))
    table = _read_table()
    images = (table[:, :64].reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    labels = table[:, 64].astype(np.int64)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        held_out[np.flatnonzero(labels == label)[HELD_OUT - 1 :: HELD_OUT]] = True
    chosen = held_out if split == "test" else ~held_out
    return images[chosen], labels[chosen]


def _read_table() -> npt.NDArray[np.float64]:
    """(1797, 65): 64 grey levels and the label.

    Read from the file in the installed package: importing scikit-learn for it takes over a second.
    """
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        msg = "scikit-learn, which brings the handwritten digits, is not installed"
        raise MissingError(msg, hint="pip install scikit-learn")
    file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])
