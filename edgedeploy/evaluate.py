"""Accuracy over a whole evaluation set, through the process and artifact that were timed."""

import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgedeploy.calibrate import inferences, save_arrays
from edgedeploy.data import open_dataset
from edgedeploy.data.dataset import Dataset
from edgedeploy.deployment import Session
from edgedeploy.errors import DataError, EdgeDeployError
from edgedeploy.metrics import make_metric
from edgedeploy.records import Accuracy, Source
from edgedeploy.workload import InputSpec, Workload

Array = npt.NDArray[Any]
T = TypeVar("T")
SHARD_BYTES = 64_000_000


def evaluate(
    workload: Workload,
    inputs: tuple[InputSpec, ...],
    session: Session,
    *,
    source: Source,
    progress: Callable[[str, float], None] = lambda _stage, _share: None,
) -> Accuracy | None:
    """The workload's metric on its evaluation set; None where it declares none.

    The set crosses in shards, so it never lies in memory whole. Raises `DataError` for labels that
    do not fit the outputs, and for whatever a metric of the user's own raises.
    """
    spec = workload.evaluation
    if spec is None:
        return None
    dataset = open_dataset(spec, inputs, workload.folder)
    metric = make_metric(spec.metric, spec.output, workload.folder)
    total = len(dataset)
    for arrays, labels in _shards(dataset, inputs):
        outputs = run_arrays(session, arrays)
        merged = merge_batches(outputs, (inputs[0].shape or (1,))[0], len(labels))
        _asked(spec.metric, metric.update, merged, labels)
        progress("accuracy", metric.count / max(1, total))
    return Accuracy(
        metric=spec.metric,
        value=float(_asked(spec.metric, metric.value)),
        unit=metric.unit,
        count=metric.count,
        source=source,
        data=dataset.source,
    )


def check_evaluation(workload: Workload, inputs: tuple[InputSpec, ...]) -> None:
    """Raise before anything is measured what a wrong metric or data set would raise after it."""
    spec = workload.evaluation
    if spec is not None:
        make_metric(spec.metric, spec.output, workload.folder)
        open_dataset(spec, inputs, workload.folder)


def _asked(name: str, function: Callable[..., T], *arguments: object) -> T:
    """Call a metric, which may be the user's own: what it raises is theirs to mend."""
    try:
        return function(*arguments)
    except EdgeDeployError:
        raise
    except Exception as err:
        msg = f"metric {name!r} raised {type(err).__name__}: {err}"
        raise DataError(msg, hint="Mend that code.", log=traceback.format_exc()) from err


def run_arrays(session: Session, arrays: dict[str, Array]) -> dict[str, Array]:
    """Outputs of whole inferences, name to (N, *shape), for inputs of the same form."""
    with tempfile.TemporaryDirectory(prefix="edgedeploy-shard-") as scratch:
        given, got = Path(scratch, "inputs.npz"), Path(scratch, "outputs.npz")
        save_arrays(given, arrays)
        session.infer(given, got)
        with np.load(got, allow_pickle=False) as outputs:
            return {name: outputs[name] for name in outputs.files}


def merge_batches(outputs: dict[str, Array], batch: int, count: int) -> dict[str, Array]:
    """(N, batch, …) to (count, …): samples of all inferences in a row, padding cut off.

    An output without a batch axis (as some quantized exports of batch 1 have) stays (N, …).
    """
    merged = {}
    for name, value in outputs.items():
        batched = value.ndim > 1 and value.shape[1] == batch and (batch > 1 or value.ndim > 2)
        flat = value.reshape(-1, *value.shape[2:]) if batched else value
        merged[name] = flat[:count]
    return merged


def _shards(
    dataset: Dataset, inputs: tuple[InputSpec, ...]
) -> Iterator[tuple[dict[str, Array], list[Any]]]:
    pending: dict[str, list[Array]] = {}
    labels: list[Any] = []
    size = 0
    for arrays, found in inferences(dataset, inputs):
        for name, value in arrays.items():
            pending.setdefault(name, []).append(value)
            size += value.nbytes
        labels += found
        if size >= SHARD_BYTES:
            yield {name: np.stack(values) for name, values in pending.items()}, labels
            pending, labels, size = {}, [], 0
    if labels:
        yield {name: np.stack(values) for name, values in pending.items()}, labels
