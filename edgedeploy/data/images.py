"""Layout "images": a folder or .zip of pictures without labels, in the order of their names."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL

from edgedeploy.data.arrays import Slot
from edgedeploy.data.dataset import Sample, unlabelled
from edgedeploy.data.files import ImageFiles, list_images
from edgedeploy.data.image import image_slot, prepare
from edgedeploy.workload import DataSpec, EvaluationSpec, find_data


@dataclass(frozen=True)
class ImageRows:
    """The pictures of a folder; without labels."""

    images: ImageFiles
    slot: Slot

    @property
    def source(self) -> str:
        return f"{len(self.images.names)} images in {self.images.root}"

    def __len__(self) -> int:
        return len(self.images.names)

    def labels(self) -> None:
        return None

    def read(self, chosen: Sequence[int]) -> Iterator[Sample]:
        names = [self.images.names[index] for index in chosen]
        for name, image in zip(names, self.images.read(names), strict=True):
            where = f"{self.images.root}/{name}"
            yield Sample({self.slot.name: prepare(image, self.slot)}, None, where)

    def files(self, choose: Callable[[], Sequence[int]]) -> list[Path]:
        return self.images.paths([self.images.names[index] for index in choose()])

    def facts(self) -> dict[str, str]:
        return {"pillow": PIL.__version__}


def open_images(spec: DataSpec, slots: tuple[Slot, ...], folder: str) -> ImageRows:
    """All pictures below `spec.data`; `DataError` where there are none, or labels are needed."""
    images = list_images(find_data(spec.data, folder))
    if isinstance(spec, EvaluationSpec):
        raise unlabelled(str(images.root))
    return ImageRows(images, image_slot(slots, f"a folder of images ({images.root})"))
