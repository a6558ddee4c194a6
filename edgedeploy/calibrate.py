"""Representative inputs for calibration and parity, as whole inferences, with a fingerprint."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from edgedeploy.cache import Cached, build, digest_of, lookup
from edgedeploy.data import open_dataset
from edgedeploy.data.dataset import Dataset
from edgedeploy.digest import bytes_sha256, files_sha256
from edgedeploy.errors import DataError, nearest
from edgedeploy.records import Calibration, Tensor
from edgedeploy.trace import file_reads, recall, remember
from edgedeploy.workload import DataSpec, InputSpec, Workload

Array = npt.NDArray[Any]
DEFAULT_COUNT = 64
# A number of samples that nobody asked for is held under this.
DEFAULT_BYTES = 1 << 30


def match_inputs(specs: tuple[InputSpec, ...], names: list[str]) -> dict[str, InputSpec]:
    """The declared inputs by the model's names: the named ones by name, the others in order.

    Raises `DataError` for a name that the model does not have or that is given twice, and for more
    inputs than it has.
    """
    named = [spec.name for spec in specs if spec.name]
    if set(named) - set(names) or len(specs) > len(names) or len(set(named)) < len(named):
        found = ", ".join(names)
        asked = ", ".join(spec.name or "(unnamed)" for spec in specs)
        msg = f"the workload declares inputs {asked}; the model's are {found}"
        raise DataError(msg, hint="Use the model's names once each, or leave the name out.")
    rest = iter([name for name in names if name not in named])
    return {spec.name or next(rest): spec for spec in specs}


def resolve_inputs(workload: Workload, tensors: tuple[Tensor, ...]) -> tuple[InputSpec, ...]:
    """The workload's inputs with name, shape, dtype and layout filled in from the model's.

    Raises `DataError` where they do not match the model.
    """
    declared = match_inputs(workload.inputs, [tensor.name for tensor in tensors])
    resolved = []
    for tensor in tensors:
        spec = declared.get(tensor.name, InputSpec())
        shape = tuple(int(d) for d in tensor.shape)
        if spec.dtype is not None and _dtype(spec.dtype, tensor.name) != np.dtype(tensor.dtype):
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


def declared_inputs(workload: Workload) -> tuple[InputSpec, ...]:
    """The inputs as they will be resolved, where the workload alone tells all of them; else none.

    So their data can be read while the model is still being exported.
    """
    if not all(spec.name and spec.shape and spec.dtype for spec in workload.inputs):
        return ()
    tensors = [
        Tensor(name=spec.name or "", dtype=spec.dtype or "", shape=spec.shape or ())
        for spec in workload.inputs
    ]
    return resolve_inputs(workload, tuple(tensors))


def _dtype(text: str, name: str) -> np.dtype[Any]:
    try:
        return np.dtype(text)
    except TypeError as err:
        msg = f"input {name!r}: there is no dtype {text!r}"
        known = ["float32", "float64", "float16", "int64", "int32", "int8", "uint8", "bool"]
        raise DataError(msg, hint=nearest(text, known)) from err


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


def sample_count(
    spec: DataSpec, inputs: tuple[InputSpec, ...], by_default: int | None = None
) -> int:
    """How many inferences to calibrate with: what the data's own `count` says, else `by_default` of
    the target, held to 1 GiB of inputs.
    """
    if spec.count:
        return spec.count
    one = sum(_size_bytes(each) for each in inputs)
    return max(1, min(by_default or DEFAULT_COUNT, DEFAULT_BYTES // max(1, one)))


def _size_bytes(spec: InputSpec) -> int:
    return math.prod(spec.shape or (1,)) * np.dtype(spec.dtype or "float32").itemsize


def calibrate(
    workload: Workload,
    inputs: tuple[InputSpec, ...],
    *,
    by_default: int | None = None,
    use_cache: bool = True,
) -> tuple[Calibration, Cached]:
    """The calibration set as .npz, cached by everything that determines it.

    `by_default` is the number of samples where the workload names none (see `sample_count`). What a
    Python loader reads and imports is noted while it runs, and counts from then on. Raises
    `DataError` when there are no samples or they do not fit the inputs.
    """
    spec = workload.calibration
    if spec is None:
        msg = f"workload {workload.name!r} has no calibration data, which int8 needs"
        hint = "Add [calibration] (or --calibration images/); layout 'seeded' claims no accuracy."
        raise DataError(msg, hint=hint)
    count = sample_count(spec, inputs, by_default)
    dataset = open_sample(spec, inputs, workload.folder, count)
    parts = fingerprint(dataset)
    arrays: dict[str, Array] = {}
    if spec.layout == "python":
        known = recall("calibrate", parts) if use_cache else None
        if known and (hit := lookup("calibrate", workload.name, known[0])):
            return msgspec.convert(hit.answer, Calibration), hit
        with file_reads(package=False) as reads:
            arrays = collect(dataset, inputs, count)
        remember("calibrate", parts, reads.seen())
        known = recall("calibrate", parts)
        parts = known[0] if known else parts

    def make(folder: Path) -> dict[str, Any]:
        found = arrays or collect(dataset, inputs, count)
        path = folder / "calibration.npz"
        save_arrays(path, found)
        made: dict[str, Any] = msgspec.to_builtins(
            Calibration(
                path=str(path),
                fingerprint=digest_of({n: array_sha256(a) for n, a in found.items()}),
                count=len(next(iter(found.values()))),
                source=dataset.source,
            )
        )
        return made

    cached = build("calibrate", workload.name, parts, make, use=use_cache)
    return msgspec.convert(cached.answer, Calibration), cached


def save_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write an .npz, one array a name.

    numpy.savez would refuse names that are its own arguments' (`file`).
    """
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def array_sha256(array: Array) -> str:
    """The hash of an array's dtype, shape and bytes."""
    return bytes_sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes())
