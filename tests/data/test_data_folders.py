"""Folders and archives of pictures: order, labels, subsets, damage, paths that escape."""

import io
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgedeploy.data import open_dataset
from edgedeploy.data.dataset import Dataset
from edgedeploy.errors import DataError, InputError
from edgedeploy.workload import DataLayout, DataSpec, EvaluationSpec, InputSpec

INPUTS = (
    InputSpec(
        name="x", shape=(1, 1, 2, 2), dtype="float32", layout="NCHW", value_range=(0.0, 255.0)
    ),
)


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((2, 2), level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def folder(root: Path, names: dict[str, int]) -> Path:
    for name, level in names.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(level))
    return root


def archive(path: Path, names: dict[str, int]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, level in names.items():
            file.writestr(name, png(level))
    return path


def spec(layout: DataLayout, path: Path, **more: Any) -> DataSpec:
    return DataSpec(layout=layout, data=str(path), **more)


def levels(dataset: Dataset) -> list[float]:
    return [float(sample.arrays["x"][0, 0, 0]) for sample in dataset]


def test_images_come_sorted_recursive_and_without_hidden_ones(tmp_path: Path) -> None:
    names = {"b.png": 2, "a.PNG": 1, "sub/c.png": 3, ".hidden.png": 9, ".cache/d.png": 9}
    root = folder(tmp_path, names)
    (root / "notes.txt").write_text("no image")
    dataset = open_dataset(spec("images", root), INPUTS, "")
    assert levels(dataset) == [1, 2, 3]
    assert levels(dataset) == [1, 2, 3]
    assert dataset.files() == [root / "a.PNG", root / "b.png", root / "sub/c.png"]
    assert [sample.label for sample in dataset] == [None] * 3


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.png": 1, "b.png": 2})
    (root / "b.png").write_bytes(b"damaged")
    dataset = open_dataset(spec("images", root), INPUTS, "")
    assert len(dataset) == 2
    samples = iter(dataset)
    assert next(samples).arrays["x"].tolist() == [[[1.0, 1.0], [1.0, 1.0]]]
    with pytest.raises(DataError, match=r"b\.png is unreadable or truncated"):
        next(samples)


def test_count_spreads_over_the_folder_and_names_only_those_files(tmp_path: Path) -> None:
    root = folder(tmp_path, {f"{i:02}.png": i for i in range(12)})
    dataset = open_dataset(spec("images", root, count=4), INPUTS, "")
    assert len(dataset) == 4
    assert levels(dataset) == [1, 4, 7, 10]
    assert [path.name for path in dataset.files()] == ["01.png", "04.png", "07.png", "10.png"]


def test_a_zip_is_read_in_place(tmp_path: Path) -> None:
    path = archive(tmp_path / "set.zip", {"b.png": 2, "in/a.png": 1, "__MACOSX/b.png": 9})
    dataset = open_dataset(spec("images", path), INPUTS, "")
    assert levels(dataset) == [2, 1]
    assert dataset.files() == [path]
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.zip"]


@pytest.mark.parametrize(
    "name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "..\\evil.png", "C:\\evil.png"]
)
@pytest.mark.parametrize("layout", ["images", "imagenet"])
def test_paths_that_leave_the_archive_are_refused(
    tmp_path: Path, name: str, layout: DataLayout
) -> None:
    path = archive(tmp_path / "evil.zip", {"good/a.png": 1, name: 2})
    with pytest.raises(DataError, match="points outside the archive"):
        open_dataset(spec(layout, path), INPUTS, "")


def test_a_file_that_is_no_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK, or so it says")
    with pytest.raises(DataError, match="neither a folder nor a"):
        open_dataset(spec("images", path), INPUTS, "")


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "set.zip", {"a.png": 1})
    data = bytearray(path.read_bytes())
    place = data.index(b"IDAT")
    data[place + 6] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"set\.zip/a\.png"):
        list(open_dataset(spec("images", path), INPUTS, ""))


def test_calibration_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=r"holds no image: 1 files, none ending in \.jpg") as caught:
        open_dataset(spec("images", tmp_path), INPUTS, "")
    assert "Name the folder" in caught.value.hint


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        open_dataset(spec("images", tmp_path / "nowhere"), INPUTS, "")


def test_no_path_at_all() -> None:
    with pytest.raises(DataError, match="names no data"):
        open_dataset(DataSpec(layout="images"), INPUTS, "")


def test_unlabelled_pictures_cannot_be_an_evaluation_set(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a.png": 1})
    with pytest.raises(DataError, match="has no label") as caught:
        open_dataset(EvaluationSpec(layout="images", data=str(root)), INPUTS, "")
    assert "imagenet" in caught.value.hint


CLASSES = {"n02/a.png": 20, "n02/b.png": 21, "n01/a.JPEG": 10, "n01/deep/b.png": 11}


def labelled(dataset: Dataset) -> list[tuple[float, int]]:
    return [(float(s.arrays["x"][0, 0, 0]), s.label) for s in dataset]


EXPECTED = [(10, 0), (11, 0), (20, 1), (21, 1)]


def test_classes_are_labelled_in_sorted_order_below_the_split(tmp_path: Path) -> None:
    root = folder(tmp_path, {f"val/{k}": v for k, v in CLASSES.items()} | {"train/n00/z.png": 9})
    dataset = open_dataset(spec("imagenet", root, split="val"), INPUTS, "")
    assert labelled(dataset) == EXPECTED


def test_classes_directly_in_the_root(tmp_path: Path) -> None:
    names = {k: v for k, v in CLASSES.items() if "deep" not in k}
    dataset = open_dataset(spec("imagenet", folder(tmp_path, names)), INPUTS, "")
    assert labelled(dataset) == [(10, 0), (20, 1), (21, 1)]


@pytest.mark.parametrize("top", ["", "imagenette/"])
def test_classes_in_a_zip_with_or_without_a_folder_of_its_own(tmp_path: Path, top: str) -> None:
    path = archive(tmp_path / "a.zip", {f"{top}val/{k}": v for k, v in CLASSES.items()})
    dataset = open_dataset(spec("imagenet", path, split="val"), INPUTS, "")
    assert labelled(dataset) == EXPECTED


@pytest.mark.parametrize("beside", [False, True])
def test_a_class_list_gives_the_labels(tmp_path: Path, beside: bool) -> None:
    root = folder(tmp_path / "set", {f"val/{k}": v for k, v in CLASSES.items()})
    place = tmp_path / "wnids.txt" if beside else root / "wnids.txt"
    place.write_text("n05 fish\nn02 bird\n\nn01 cat\n")
    dataset = open_dataset(spec("imagenet", root, split="val"), INPUTS, "")
    assert [sample.label for sample in dataset] == [2, 2, 1, 1]
    assert place in dataset.files()


def test_a_class_list_that_lacks_a_class_is_left_aside(tmp_path: Path) -> None:
    root = folder(tmp_path, {f"val/{k}": v for k, v in CLASSES.items()})
    (root / "wnids.txt").write_text("n01\nn07\n")
    dataset = open_dataset(spec("imagenet", root, split="val"), INPUTS, "")
    assert labelled(dataset) == EXPECTED
    assert root / "wnids.txt" not in dataset.files()


def test_a_subset_has_its_share_of_each_class(tmp_path: Path) -> None:
    root = folder(tmp_path, {f"train/c{i // 10}/{i:02}.png": i for i in range(40)})
    dataset = open_dataset(spec("imagenet", root, count=8), INPUTS, "")
    assert Counter(label for _, label in labelled(dataset)) == {0: 2, 1: 2, 2: 2, 3: 2}


def test_unknown_split_names_those_found(tmp_path: Path) -> None:
    root = folder(tmp_path, {f"{s}/{k}": v for s in ("train", "val") for k, v in CLASSES.items()})
    with pytest.raises(DataError, match="no split 'vall': found train, val") as caught:
        open_dataset(spec("imagenet", root, split="vall"), INPUTS, "")
    assert "'val'" in caught.value.hint


@pytest.mark.parametrize(
    "names",
    [
        {"a.png": 1},
        {"a.png": 1, "n01/b.png": 2},
        {"val/a.png": 1},
        {"val/a.png": 1, "val/n01/b.png": 1},
    ],
)
def test_pictures_outside_class_folders(tmp_path: Path, names: dict[str, int]) -> None:
    with pytest.raises(DataError, match=r"outside class folders, as in \S*a\.png"):
        open_dataset(spec("imagenet", folder(tmp_path, names), split="val"), INPUTS, "")


def test_an_empty_class_folder_would_shift_the_labels(tmp_path: Path) -> None:
    root = folder(tmp_path, {f"val/{k}": v for k, v in CLASSES.items()})
    (root / "val" / "n00").mkdir()
    with pytest.raises(DataError, match=r"class folder val/n00 in .* has no image"):
        open_dataset(spec("imagenet", root, split="val"), INPUTS, "")


def test_linked_class_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    store = folder(tmp_path / "store", {"a.png": 7})
    root = folder(tmp_path / "set", {"val/n01/a.png": 1})
    (root / "val" / "n02").symlink_to(store)
    (root / "val" / "n01" / "again").symlink_to(root)
    dataset = open_dataset(spec("imagenet", root, split="val"), INPUTS, "")
    assert labelled(dataset) == [(1, 0), (7, 1)]


def test_fingerprint_tells_choice_preprocessing_and_classes(tmp_path: Path) -> None:
    root = folder(tmp_path, {f"val/{k}": v for k, v in CLASSES.items()})
    parts = open_dataset(spec("imagenet", root, split="val"), INPUTS, "").fingerprint_parts()
    assert parts["classes"] == "n01 n02"
    fewer = open_dataset(spec("imagenet", root, split="val", count=1), INPUTS, "")
    assert fewer.fingerprint_parts()["spec"] != parts["spec"]
    bgr = (InputSpec(name="x", shape=(1, 3, 2, 2), dtype="float32", layout="NCHW", color="bgr"),)
    other = open_dataset(spec("imagenet", root, split="val"), bgr, "").fingerprint_parts()
    assert other["inputs"] != parts["inputs"]
