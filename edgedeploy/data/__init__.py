"""Data sets in their official layouts, each sample as the model takes it."""

from typing import assert_never

from edgedeploy.data.arrays import Slot, slots_of
from edgedeploy.data.dataset import Dataset, Rows, Selection
from edgedeploy.errors import DataError
from edgedeploy.workload import DataSpec, InputSpec


def open_dataset(spec: DataSpec, inputs: tuple[InputSpec, ...], folder: str) -> Dataset:
    """The samples of `spec`, in a fixed order, each array as its input wants it.

    `inputs` are resolved: name, dtype and shape (batch axis first) are set, and the layout where
    images feed the input. `folder` is the workload's own, for relative paths. Nothing but names
    and headers is read before the first sample is asked for. Raises `InputError` for a path that
    does not exist, and `DataError`, here or on reading, for data that is empty, unlabelled where
    an `EvaluationSpec` asks, damaged, or does not fit the inputs.
    """
    slots = slots_of(inputs)
    if spec.layout != "seeded" and not spec.data:
        msg = f"data of layout {spec.layout!r} names no data"
        raise DataError(msg, hint="Set data to a path, or use layout 'seeded'.")
    return Selection(_open_rows(spec, slots, folder), spec, inputs, slots)


def _open_rows(spec: DataSpec, slots: tuple[Slot, ...], folder: str) -> Rows:
    # one layout's imports are not paid for by another
    match spec.layout:
        case "images":
            from edgedeploy.data.images import open_images

            return open_images(spec, slots, folder)
        case "imagenet":
            from edgedeploy.data.imagenet import open_imagenet

            return open_imagenet(spec, slots, folder)
        case "cifar10":
            from edgedeploy.data.cifar10 import open_cifar10

            return open_cifar10(spec, slots, folder)
        case "npz":
            from edgedeploy.data.npz import open_npz

            return open_npz(spec, slots, folder)
        case "python":
            from edgedeploy.data.python import open_python

            return open_python(spec, slots, folder)
        case "seeded":
            from edgedeploy.data.seeded import open_seeded

            return open_seeded(spec, slots)
        case _:
            assert_never(spec.layout)
