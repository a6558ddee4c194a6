"""What the command line and the Python call change in a workload: data, shapes, metric, options."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgedeploy.errors import InputError
from edgedeploy.workload import (
    DataLayout,
    DataSpec,
    EvaluationSpec,
    InputSpec,
    Workload,
    find_data,
    load_workload,
)

CIFAR_FILES = ("test_batch", "data_batch_1", "batches.meta")


def configured(
    source: str,
    *,
    calibration: str | None = None,
    evaluation: str | None = None,
    metric: str | None = None,
    shapes: Sequence[str] = (),
    mean: str | None = None,
    std: str | None = None,
    samples: int | None = None,
    threads: int | None = None,
) -> Workload:
    """The workload `source` names, with what the options say in place of its own.

    `calibration` and `evaluation` are a path (its layout is told from what lies there),
    `module:function`, or "seeded"; `shapes` are "name=1,3,224,224" or "1,3,224,224". `mean` and
    `std` are of the first input, and hold for arrays too. A file named here lies where the user is,
    not where the workload does. Raises `InputError` for any that does not hold.
    """
    workload = load_workload(source)
    inputs = _shaped(workload.inputs, shapes)
    if mean or std:
        first = inputs[0] if inputs else InputSpec()
        changed = msgspec.structs.replace(
            first,
            mean=_numbers(mean, "--mean") or first.mean,
            std=_numbers(std, "--std") or first.std,
            normalize_arrays=True,
        )
        inputs = (changed, *inputs[1:])
    changes: dict[str, Any] = {"inputs": inputs}
    if calibration:
        layout = layout_of(calibration, workload.folder, labelled=False)
        changes["calibration"] = DataSpec(
            layout=layout, data=_absolute(calibration, layout), count=samples
        )
    elif samples and workload.calibration:
        changes["calibration"] = msgspec.structs.replace(workload.calibration, count=samples)
    if evaluation:
        layout = layout_of(evaluation, workload.folder, labelled=True)
        split: Literal["test", "val"] = "val" if layout == "imagenet" else "test"
        changes["evaluation"] = EvaluationSpec(
            layout=layout,
            data=_absolute(evaluation, layout),
            split=split,
            metric=_absolute(metric or "top1"),
        )
    elif metric and workload.evaluation:
        changes["evaluation"] = msgspec.structs.replace(
            workload.evaluation, metric=_absolute(metric)
        )
    elif metric:
        msg = f"--metric {metric} judges an evaluation set, and workload {workload.name!r} has none"
        raise InputError(msg, hint="Give --evaluation too.")
    if threads is not None:
        changes["run_options"] = {**workload.run_options, "threads": threads}
    return msgspec.structs.replace(workload, **changes)


def layout_of(data: str, folder: str, *, labelled: bool) -> DataLayout:
    """The layout of what lies at a path, or of a function's name."""
    if data == "seeded":
        return "seeded"
    path = Path(data)
    if not path.exists() and ":" in data:
        return "python"
    path = path.resolve() if path.exists() else find_data(data, folder)
    if path.suffix == ".npz":
        return "npz"
    if path.is_dir() and any((path / name).exists() for name in CIFAR_FILES):
        return "cifar10"
    if path.is_dir() or path.suffix == ".zip":
        return "imagenet" if labelled else "images"
    msg = f"data {data!r} is neither a folder, a .zip, an .npz nor module:function"
    raise InputError(msg, hint="Name a folder of images, or an .npz with one array an input.")


def _absolute(data: str, layout: DataLayout = "python") -> str:
    """A path, or the file of `file.py:function`, as seen from here, not from the workload."""
    if layout == "seeded":
        return ""
    if Path(data).exists():
        return str(Path(data).resolve())
    file, colon, function = data.rpartition(":")
    return f"{Path(file).resolve()}:{function}" if colon and Path(file).is_file() else data


def _shaped(inputs: tuple[InputSpec, ...], shapes: Sequence[str]) -> tuple[InputSpec, ...]:
    found = list(inputs)
    for position, text in enumerate(shapes):
        before, equals, sizes = text.rpartition("=")
        name, shape = before.strip(), _sizes(sizes, text)
        index = next((i for i, spec in enumerate(found) if equals and spec.name == name), None)
        if index is None and not equals and position < len(found):
            index = position
        if index is None:
            found.append(InputSpec(name=name if equals else None, shape=shape))
        else:
            found[index] = msgspec.structs.replace(found[index], shape=shape)
    return tuple(found)


def _sizes(text: str, whole: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        msg = f"--shape {whole!r} is not a shape"
        raise InputError(msg, hint="Write name=1,3,224,224 with whole numbers from 1.")
    return sizes


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        msg = f"{option} {text!r} is not numbers"
        raise InputError(msg, hint=f"Write {option} 0.485,0.456,0.406, one a channel.")
    return numbers
