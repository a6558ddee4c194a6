"""Representative inputs for calibration and parity, as whole inferences, with a fingerprint."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from edgedeploy.cache import Cached, build, digest_of
from edgedeploy.data import open_dataset
from edgedeploy.data.dataset import Dataset
from edgedeploy.digest import bytes_sha256, files_sha256
from edgedeploy.errors import DataError
from edgedeploy.records import Calibration, Tensor
from edgedeploy.workload import DataSpec, InputSpec, Workload

Array = npt.NDArray[Any]
DEFAULT_COUNT = 64


def resolve_inputs(workload: Workload, tensors: tuple[Tensor, ...]) -> tuple[InputSpec, ...]:
    """The workload's inputs with name, shape, dtype and layout filled in from the model's.

    Unnamed ones are matched in order. Raises `DataError` where they do not match the model.
    """
    named = {spec.name: spec for spec in workload.inputs if spec.name}
    unnamed = iter([spec for spec in workload.inputs if not spec.name])
    unknown = set(named) - {tensor.name for tensor in tensors}
    if unknown or len(workload.inputs) > len(tensors):
        found = ", ".join(tensor.name for tensor in tensors)
        asked = ", ".join(spec.name or "(unnamed)" for spec in workload.inputs)
        msg = f"the workload declares inputs {asked}; the model's are {found}"
        raise DataError(msg, hint="Use the model's names, or leave the name out.")
    resolved = []
    for tensor in tensors:
        spec = named.get(tensor.name) or next(unnamed, None) or InputSpec()
        shape = tuple(int(d) for d in tensor.shape)
        if spec.dtype is not None and np.dtype(spec.dtype) != np.dtype(tensor.dtype):
            msg = f"input {tensor.name!r} is declared {spec.dtype}; the model's is {tensor.dtype}"
            raise DataError(msg, hint="Correct dtype in [[inputs]], or leave it out.")
        resolved.append(
            msgspec.structs.replace(
                spec,
                name=tensor.name,
                shape=shape,
                dtype=tensor.dtype,
                layout=spec.layout or guess_layout(shape),
            )
        )
    return tuple(resolved)


def guess_layout(shape: tuple[int, ...]) -> Literal["NCHW", "NHWC"] | None:
    """NCHW or NHWC by which axis is 1, 3 or 4 wide; None where an image cannot be meant."""
    if len(shape) != 4:
        return None
    if shape[1] in {1, 3, 4}:
        return "NCHW"
    return "NHWC" if shape[3] in {1, 3, 4} else "NCHW"


def data_spec(workload: Workload) -> DataSpec:
    """Where inputs for parity and timing come from: calibration, else evaluation, else a seed."""
    return workload.calibration or workload.evaluation or DataSpec(layout="seeded")


def open_sample(
    spec: DataSpec, inputs: tuple[InputSpec, ...], folder: str, inferences: int
) -> Dataset:
    """A data set spread over all its classes, large enough for that many inferences."""
    count = inferences * _batch_size(inputs)
    return open_dataset(msgspec.structs.replace(spec, count=count), inputs, folder)


def fingerprint(dataset: Dataset) -> dict[str, str]:
    """Parts of a cache key: all that determines the samples, and the code that prepares them."""
    here = Path(__file__).with_name("data")
    return {
        "data files": files_sha256(dataset.files()),
        "data code": files_sha256([*sorted(here.glob("*.py")), Path(__file__)]),
        **{f"data {name}": value for name, value in dataset.fingerprint_parts().items()},
    }


def inferences(
    dataset: Dataset, inputs: tuple[InputSpec, ...]
) -> Iterator[tuple[dict[str, Array], list[Any]]]:
    """Inputs of whole inferences, shaped as the model's, and the labels of the samples in them.

    The last batch is filled by repeating its last sample; only real samples have a label.
    """
    size = _batch_size(inputs)
    pending: list[dict[str, Array]] = []
    labels: list[Any] = []
    for sample in dataset:
        pending.append(sample.arrays)
        labels.append(sample.label)
        if len(pending) == size:
            yield _stack(pending, inputs), labels
            pending, labels = [], []
    if pending:
        pending += [pending[-1]] * (size - len(pending))
        yield _stack(pending, inputs), labels


def _batch_size(inputs: tuple[InputSpec, ...]) -> int:
    sizes = {str(spec.name): (spec.shape or (1,))[0] for spec in inputs}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        msg = f"the inputs' first axes differ ({found}); it must be one batch axis for all"
        raise DataError(msg, hint="Export the model with a leading batch axis on every input.")
    return next(iter(sizes.values()))


def _stack(samples: list[dict[str, Array]], inputs: tuple[InputSpec, ...]) -> dict[str, Array]:
    names = [str(spec.name) for spec in inputs]
    return {
        spec_name: np.ascontiguousarray(
            np.stack([sample[spec_name] for sample in samples]).reshape(spec.shape or ())
        )
        for spec_name, spec in zip(names, inputs, strict=True)
    }


def collect(dataset: Dataset, inputs: tuple[InputSpec, ...], count: int) -> dict[str, Array]:
    """Inputs of the first `count` inferences: name to array of (count, *the model's shape)."""
    found: dict[str, list[Array]] = {}
    for taken, (arrays, _) in enumerate(inferences(dataset, inputs)):
        if taken == count:
            break
        for name, value in arrays.items():
            found.setdefault(name, []).append(value)
    return {name: np.stack(values) for name, values in found.items()}


def calibrate(
    workload: Workload, inputs: tuple[InputSpec, ...], *, use_cache: bool = True
) -> tuple[Calibration, Cached]:
    """The calibration set as .npz, cached by everything that determines it.

    Raises `DataError` when there are no samples or they do not fit the inputs.
    """
    spec = workload.calibration
    if spec is None:
        msg = f"workload {workload.name!r} has no calibration data, which int8 needs"
        hint = "Add [calibration] (or --calibration images/); layout 'seeded' claims no accuracy."
        raise DataError(msg, hint=hint)
    count = spec.count or DEFAULT_COUNT
    dataset = open_sample(spec, inputs, workload.folder, count)
    parts = fingerprint(dataset)

    def make(folder: Path) -> dict[str, Any]:
        arrays = collect(dataset, inputs, count)
        if not arrays:
            msg = f"calibration data {dataset.source} is empty"
            raise DataError(msg, hint="Name a folder with images, or an .npz with samples.")
        path = folder / "calibration.npz"
        save_arrays(path, arrays)
        found: dict[str, Any] = msgspec.to_builtins(
            Calibration(
                path=str(path),
                fingerprint=digest_of({n: array_sha256(a) for n, a in arrays.items()}),
                count=len(next(iter(arrays.values()))),
                source=dataset.source,
            )
        )
        return found

    cached = build("calibrate", workload.name, parts, make, use=use_cache)
    return msgspec.convert(cached.answer, Calibration), cached


def save_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write an .npz, one array a name; the names may be any text."""
    named: dict[str, Any] = dict(arrays)
    np.savez(path, allow_pickle=False, **named)


def array_sha256(array: Array) -> str:
    """The hash of an array's dtype, shape and bytes."""
    return bytes_sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes())
