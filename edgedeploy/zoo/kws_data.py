"""Keyword spotting: the 1,000 MFCC maps by which MLPerf Tiny judges accuracy, and drawn ones."""

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedeploy.errors import DataError, nearest
from edgedeploy.workload import find_data

ACCURACY_SET = "mlperf_tiny/kws/kws01_1000_mfcc_int8.zip"
LABELS = "y_labels.csv"
SPLITS = ("train", "test")
FRAMES, COEFFICIENTS, CLASSES = 49, 10, 12
# the input quantization of the published int8 model, kws_ref_model.tflite
SCALE, ZERO_POINT = np.float32(0.5847029), 83
# of each coefficient, over the whole accuracy set, rounded: all that the drawn maps have of it
MEAN = (-15.0, 1.3, 0.0, -0.6, -0.5, -0.5, -0.5, -0.5, -0.6, -0.6)
DEVIATION = (24.0, 3.9, 2.6, 2.0, 1.7, 1.3, 1.2, 1.0, 1.0, 0.9)
# between a frame and the next
CORRELATION = 0.9
DRAWN = 128


def load_split(split: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """MFCC maps (N, 1, 49, 10) float32, and labels (N,) int64 where there are any.

    Split "test" is the accuracy set, dequantized. The train set is Google's Speech Commands, in
    sound, which that set does not come with; so split "train" is 128 maps drawn from a seed, each
    coefficient a first-order process in time: no map that accuracy is judged by is calibrated on.
    Raises `DataError` for another split, `InputError` where the file is missing.
    """
    if split not in SPLITS:
        msg = f"the keywords have no split {split!r}"
        raise DataError(msg, hint=nearest(split, list(SPLITS)))
    if split == "train":
        return drawn(DRAWN, seed=0), None
    stored, labels = read_accuracy_set(find_data(ACCURACY_SET, ""))
    return (stored.astype(np.float32) - ZERO_POINT) * SCALE, labels


def drawn(count: int, seed: int) -> npt.NDArray[np.float32]:
    """Maps (count, 1, 49, 10) from `seed`, in the range that the published int8 input has."""
    noise = np.random.default_rng(seed).standard_normal((count, 1, FRAMES, COEFFICIENTS))
    maps = noise.copy()
    for frame in range(1, FRAMES):
        fresh = np.sqrt(1 - CORRELATION**2) * noise[:, :, frame]
        maps[:, :, frame] = CORRELATION * maps[:, :, frame - 1] + fresh
    real = maps * np.asarray(DEVIATION) + np.asarray(MEAN)
    ends = (np.array([-128, 127]) - ZERO_POINT) * SCALE
    found: npt.NDArray[np.float32] = np.clip(real, ends[0], ends[1]).astype(np.float32)
    return found


def read_accuracy_set(path: Path) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """Stored maps (N, 1, 49, 10) int8 and labels (N,), in the order of the label file.

    Raises `DataError` for a file that is no such .zip, a map of another size, or a wrong label.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            rows = list(csv.reader(io.StringIO(archive.read(LABELS).decode())))
            maps = [_map(archive, row, path) for row in rows]
    except (zipfile.BadZipFile, KeyError, OSError, UnicodeDecodeError, RuntimeError) as err:
        msg = f"{path} is no accuracy set of the keywords, or damaged: {err}"
        raise DataError(msg, hint=f"It holds {LABELS} and the maps it names.") from err
    if not maps:
        msg = f"{path}: {LABELS} names no map"
        raise DataError(msg, hint="Copy it again.")
    return np.stack(maps), np.asarray([int(row[2]) for row in rows], dtype=np.int64)


def _map(archive: zipfile.ZipFile, row: list[str], path: Path) -> npt.NDArray[np.int8]:
    if len(row) != 3 or not row[2].isdecimal() or int(row[2]) >= CLASSES:
        msg = f"{path}: {LABELS} has the row {','.join(row)!r}"
        raise DataError(msg, hint=f"A row is name,{CLASSES},label with a label under {CLASSES}.")
    content = archive.read(row[0])
    if len(content) != FRAMES * COEFFICIENTS:
        msg = f"{path}: map {row[0]} found {len(content)} bytes, expected {FRAMES * COEFFICIENTS}"
        raise DataError(msg, hint="Copy it again.")
    return np.frombuffer(content, np.int8).reshape(1, FRAMES, COEFFICIENTS)
