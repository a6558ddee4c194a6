"""Crops of the two photographs that scikit-learn brings along: real images without any data."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgedeploy.errors import DataError, MissingError, nearest

PHOTOGRAPHS = ("china.jpg", "flower.jpg")
# crops a split has; their places are drawn from these seeds
SPLITS = {"train": (128, 0), "test": (256, 1)}


def load_split(side: int, split: str) -> tuple[npt.NDArray[np.float32], None]:
    """Crops (N, 3, side, side) float32, RGB in 0..1, and no labels.

    Split "train" has 128 of them, "test" 256 others, of both photographs in turn. Raises
    `DataError` for another split, `MissingError` where scikit-learn is not installed.
    """
    if split not in SPLITS:
        msg = f"the photographs have no split {split!r}"
        raise DataError(msg, hint=nearest(split, list(SPLITS)))
    count, seed = SPLITS[split]
    photographs = [_read(name) for name in PHOTOGRAPHS]
    generator = np.random.default_rng(seed)
    found = [_crop(photographs[n % len(photographs)], side, generator) for n in range(count)]
    stacked = np.stack(found).transpose(0, 3, 1, 2)
    return stacked.astype(np.float32) / np.float32(255), None


crops_64 = partial(load_split, 64)
crops_96 = partial(load_split, 96)
crops_128 = partial(load_split, 128)
crops_224 = partial(load_split, 224)


def _crop(
    photograph: Image.Image, side: int, generator: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """A square from anywhere in the photograph, scaled down to (side, side, 3)."""
    shorter = min(photograph.size)
    size = int(generator.integers(min(side, shorter), shorter, endpoint=True))
    left = int(generator.integers(0, photograph.width - size, endpoint=True))
    top = int(generator.integers(0, photograph.height - size, endpoint=True))
    box = (left, top, left + size, top + size)
    return np.asarray(photograph.resize((side, side), Image.Resampling.BILINEAR, box))


def _read(name: str) -> Image.Image:
    # importing scikit-learn for it would take over a second
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        msg = "scikit-learn, which brings the photographs, is not installed"
        raise MissingError(msg, hint="pip install scikit-learn")
    path = Path(found.origin).parent / "datasets" / "images" / name
    if not path.is_file():
        msg = f"this scikit-learn has no photograph at {path}"
        raise MissingError(msg, hint="Calibrate on images of your own: --calibration FOLDER.")
    with Image.open(path) as image:
        return image.convert("RGB")
