"""Crops of the photographs that scikit-learn brings along."""

from pathlib import Path

import numpy as np
import pytest

from edgedeploy.errors import DataError, MissingError
from edgedeploy.zoo import pictures


@pytest.mark.parametrize("side", [64, 96, 128, 224])
def test_crops(side: int) -> None:
    images, labels = getattr(pictures, f"crops_{side}")(split="train")
    assert (images.shape, images.dtype, labels) == ((128, 3, side, side), np.float32, None)
    assert 0 <= images.min() < 0.05
    assert 0.9 < images.max() <= 1
    assert len({image.tobytes() for image in images}) == 128


def test_splits_are_apart_and_the_same_every_time() -> None:
    (train, _), (test, _) = pictures.crops_64("train"), pictures.crops_64("test")
    assert len(test) == 256
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}
    assert np.array_equal(pictures.crops_64("train")[0], train)


def test_unknown_split() -> None:
    with pytest.raises(DataError, match="no split 'tests'") as caught:
        pictures.crops_64("tests")
    assert "'test'" in caught.value.hint


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _path: False)
    with pytest.raises(MissingError, match="no photograph at"):
        pictures.crops_64("train")
    monkeypatch.setattr(pictures, "find_spec", lambda _name: None)
    with pytest.raises(MissingError, match="not installed"):
        pictures.crops_64("train")
