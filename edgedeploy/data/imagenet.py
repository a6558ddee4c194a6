"""Layout "imagenet": a folder a class, as root/split/wnid/*.JPEG or root/wnid/*.JPEG."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import PIL

from edgedeploy.data.arrays import Slot
from edgedeploy.data.dataset import Sample
from edgedeploy.data.files import ImageFiles, list_images
from edgedeploy.data.image import image_slot, prepare
from edgedeploy.errors import DataError, nearest
from edgedeploy.workload import DataSpec, find_data

CLASS_LIST = "wnids.txt"


@dataclass(frozen=True)
class ClassRows:
    """The pictures below `base` (ends in "/" or is empty); `classes` maps a folder to its label."""

    images: ImageFiles
    base: str
    names: tuple[str, ...]
    classes: dict[str, int]
    class_list: Path | None
    slot: Slot

    @property
    def source(self) -> str:
        place = f"{self.images.root}/{self.base}".rstrip("/")
        return f"{len(self.names)} images of {len(self.classes)} classes in {place}"

    def __len__(self) -> int:
        return len(self.names)

    def labels(self) -> list[int]:
        return [self.classes[self._class_of(name)] for name in self.names]

    def read(self, chosen: Sequence[int]) -> Iterator[Sample]:
        names = [self.names[index] for index in chosen]
        for name, image in zip(names, self.images.read(names), strict=True):
            array = prepare(image, self.slot)
            label = self.classes[self._class_of(name)]
            yield Sample({self.slot.name: array}, label, f"{self.images.root}/{name}")

    def files(self, choose: Callable[[], Sequence[int]]) -> list[Path]:
        paths = self.images.paths([self.names[index] for index in choose()])
        return [*paths, self.class_list] if self.class_list else paths

    def facts(self) -> dict[str, str]:
        return {"pillow": PIL.__version__, "classes": " ".join(self.classes)}

    def _class_of(self, name: str) -> str:
        return name.removeprefix(self.base).split("/")[0]


def open_imagenet(spec: DataSpec, slots: tuple[Slot, ...], folder: str) -> ClassRows:
    """The class folders of one split.

    A label is the class's line in `wnids.txt` (in the root or beside it) where that names every
    class found; else its place among the sorted folder names. Raises `DataError` for an unknown
    split, pictures outside class folders, and a class folder without pictures, which would shift
    the labels of all classes after it.
    """
    images = list_images(find_data(spec.data, folder))
    slot = image_slot(slots, f"a folder of classes ({images.root})")
    base = _base(images, spec.split)
    names = tuple(name for name in images.names if name.startswith(base))
    classes = sorted({name.removeprefix(base).split("/")[0] for name in names})
    class_list = _class_list(images.root, classes)
    if class_list is not None:
        order = _read_class_list(class_list)
        labels = {name: order.index(name) for name in classes}
        return ClassRows(images, base, names, labels, class_list, slot)
    _refuse_empty_classes(images, base, classes)
    labels = {name: label for label, name in enumerate(classes)}
    return ClassRows(images, base, names, labels, None, slot)


def _base(images: ImageFiles, split: str) -> str:
    """What stands before the class folder in every name: the split's folder, or nothing."""
    tops = sorted({name.split("/")[0] for name in images.names})
    # an archive often holds its data set in one folder of its own
    for base in (f"{split}/", f"{tops[0]}/{split}/"):
        inside = [name.removeprefix(base) for name in images.names if name.startswith(base)]
        loose = [name for name in inside if "/" not in name]
        if split and inside and len(loose) < len(inside):
            return base if not loose else _refuse_loose(images, base + loose[0])
    if split in tops or any("/" not in name for name in images.names):
        _refuse_loose(images, next(n for n in images.names if n.count("/") < 2))
    if all(name.count("/") == 1 for name in images.names):
        return ""
    msg = f"{images.root} has no split {split!r}: found {', '.join(tops)}"
    raise DataError(msg, hint=f"Set split in the workload. {nearest(split, tops)}")


def _refuse_loose(images: ImageFiles, name: str) -> NoReturn:
    msg = f"{images.root} has images outside class folders, as in {name}"
    raise DataError(msg, hint="Put each into its class's folder, or use layout 'images'.")


def _class_list(root: Path, classes: list[str]) -> Path | None:
    """The `wnids.txt` that names all of these classes, if there is one."""
    for place in (root / CLASS_LIST, root.parent / CLASS_LIST):
        if place.is_file() and set(classes) <= set(_read_class_list(place)):
            return place
    return None


def _read_class_list(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines if line.strip()]


def _refuse_empty_classes(images: ImageFiles, base: str, classes: list[str]) -> None:
    below = {name.removeprefix(base) for name in images.folders if name.startswith(base)}
    for name in sorted(below):
        if name and "/" not in name and name not in classes and not name.startswith((".", "__")):
            msg = f"class folder {base}{name} in {images.root} has no image"
            hint = "Fill or remove it: the labels of the classes after it depend on it."
            raise DataError(msg, hint=hint)
