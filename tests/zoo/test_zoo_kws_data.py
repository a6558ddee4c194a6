"""The keywords' accuracy set and the maps drawn for calibration."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgedeploy.errors import DataError, InputError
from edgedeploy.zoo import kws_data


def archive(path: Path, labels: str, maps: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in maps.items():
            file.writestr(name, content)
        file.writestr("y_labels.csv", labels)
    return path


def test_maps_come_in_the_order_of_the_label_file(tmp_path: Path) -> None:
    first, second = bytes(range(245)) * 2, b"\x80" * 490
    path = archive(
        tmp_path / "a.zip", "b.bin,12,11\na.bin,12,0\n", {"a.bin": second, "b.bin": first}
    )
    maps, labels = kws_data.read_accuracy_set(path)
    assert (maps.shape, maps.dtype) == ((2, 1, 49, 10), np.int8)
    assert labels.tolist() == [11, 0]
    assert maps[0, 0, 0].tolist() == list(range(10))
    assert maps[1].min() == maps[1].max() == -128


@pytest.mark.parametrize(
    ("labels", "maps", "message"),
    [
        ("a.bin,12,1\n", {"a.bin": b"\0" * 489}, "map a.bin found 489 bytes, expected 490"),
        ("a.bin,12,12\n", {"a.bin": b"\0" * 490}, "row 'a.bin,12,12'"),
        ("a.bin,12,-1\n", {"a.bin": b"\0" * 490}, "row 'a.bin,12,-1'"),
        ("a.bin\n", {"a.bin": b"\0" * 490}, "row 'a.bin'"),
        ("a.bin,12,1\n", {"b.bin": b"\0" * 490}, "no accuracy set of the keywords, or damaged"),
        ("", {}, "names no map"),
    ],
)
def test_sets_that_are_wrong(
    tmp_path: Path, labels: str, maps: dict[str, bytes], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        kws_data.read_accuracy_set(archive(tmp_path / "a.zip", labels, maps))


def test_files_that_are_no_sets(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="no accuracy set"):
        kws_data.read_accuracy_set(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("other.txt", "x")
    with pytest.raises(DataError, match="no accuracy set"):
        kws_data.read_accuracy_set(path)


def test_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, labels = kws_data.load_split("train")
    assert (maps.shape, maps.dtype, labels) == ((128, 1, 49, 10), np.float32, None)
    assert np.array_equal(maps, kws_data.drawn(128, seed=0))
    assert not np.array_equal(maps, kws_data.drawn(128, seed=1))
    with pytest.raises(DataError, match="no split 'tset'") as caught:
        kws_data.load_split("tset")
    assert "'test'" in caught.value.hint
    monkeypatch.delenv("EDGEDEPLOY_DATA", raising=False)
    with pytest.raises(InputError, match="not found"):
        kws_data.load_split("test")


def test_drawn_maps_are_smooth_in_time_and_as_speech_is() -> None:
    maps = kws_data.drawn(400, seed=5)
    assert -123.4 < maps.min() <= maps.max() < 25.8
    # the first coefficient is cut off at the top of the range
    np.testing.assert_allclose(maps.mean((0, 1, 2))[1:], kws_data.MEAN[1:], atol=0.25)
    np.testing.assert_allclose(maps.std((0, 1, 2)), kws_data.DEVIATION, rtol=0.08)
    centred = maps - maps.mean((0, 1, 2))
    correlation = (centred[:, :, 1:] * centred[:, :, :-1]).mean() / (centred**2).mean()
    assert correlation == pytest.approx(0.9, abs=0.03)


@pytest.mark.usefixtures("data_folder")
def test_the_accuracy_set() -> None:
    maps, labels = kws_data.load_split("test")
    assert labels is not None
    assert maps.shape == (1000, 1, 49, 10)
    counts = np.bincount(labels)
    assert (len(counts), counts.min(), counts.max()) == (12, 70, 92)
    assert (maps.min(), maps.max()) == pytest.approx((-123.37, 25.73), abs=0.01)
