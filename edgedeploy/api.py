"""The calls of a notebook or script: deploy a module in memory or a workload, and compare runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgedeploy import __version__
from edgedeploy._inproc.measure import host_facts
from edgedeploy.cache import digest_of
from edgedeploy.calibrate import array_sha256, save_arrays
from edgedeploy.deployment import Session
from edgedeploy.errors import DataError, InputError
from edgedeploy.evaluate import run_arrays
from edgedeploy.export import Exported
from edgedeploy.pipeline import Hooks, Pipeline
from edgedeploy.records import Accuracy, Calibration, Plan, Report, Target
from edgedeploy.report.collect import report_of
from edgedeploy.report.files import write_report
from edgedeploy.store import Job, Run, create_run, open_run
from edgedeploy.target import load_targets
from edgedeploy.workload import InputSpec, ModelSpec, Workload, load_workload

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
Predict = Callable[..., Any]

CALIBRATION_COUNT = 64
VERIFY_COUNT = 16


def deploy(
    model: "torch.nn.Module | Workload | str | Path",
    target: str | Sequence[str] = "host",
    *,
    precision: str | Sequence[str] | None = None,
    calibration: Iterable[Any] | None = None,
    evaluate: Callable[[Predict], float] | None = None,
    plan: Plan | None = None,
    name: str | None = None,
    metric: str = "evaluate",
) -> Report:
    """Export, compile, deploy and measure a model on targets; the report shows itself in notebooks.

    `model` is a module, a `Workload`, or what `edgedeploy deploy` takes. For a module,
    `calibration` yields batches: a tensor or array (N, …), a tuple or dict of them for several
    inputs, or a pair (inputs, labels) whose labels are left aside; its first sample gives the
    shapes. `evaluate` is called with `predict`, which takes an array of samples (or one an input)
    and returns the deployed artifact's output (a tuple where there are several), and answers the
    accuracy.

    Raises `InputError` and its kinds for what is wrong with the arguments; a target that fails is a
    row of the report.
    """
    targets = tuple(load_targets(target if isinstance(target, str) else list(target)))
    precisions = tuple(precision.split(",")) if isinstance(precision, str) else precision
    job = Job(
        workload=_workload(model, name),
        targets=targets,
        precisions=tuple(precisions) if precisions else None,
        plan=plan or Plan(),
        host=host_facts(),
    )
    run = create_run(job, __version__)
    hooks = Hooks()
    if not isinstance(model, Workload | str | Path):
        hooks = _in_memory(model, run, calibration)
    if evaluate is not None:
        hooks.accuracy = _accuracy_of(evaluate, metric, job.targets)
    return execute(run, hooks)


def execute(run: Run, hooks: Hooks | None = None) -> Report:
    """Do what is left of a run, write its reports beside it, and answer the report."""
    Pipeline(run, hooks).execute()
    report = report_of(run)
    write_report(report, run)
    return report


def load_report(run: str = "last") -> Report:
    """The report of a run: its id, its folder, or `last`."""
    return report_of(open_run(run))


def _workload(model: object, name: str | None) -> Workload:
    if isinstance(model, Workload):
        return model
    if isinstance(model, str | Path):
        return load_workload(model)
    kind = type(model).__name__
    if not hasattr(model, "forward"):
        msg = f"the model is a {kind}, expected a torch.nn.Module, a Workload or a path"
        raise InputError(msg, hint="Call edgedeploy.deploy(module, …) or give a workload's name.")
    return Workload(name=name or kind, model=ModelSpec(source=f"in memory: {kind}"))


def _in_memory(module: "torch.nn.Module", run: Run, calibration: Iterable[Any] | None) -> Hooks:
    """Hooks that export a module that lives in this process, on its calibration samples."""
    from edgedeploy.exporter import export_module
    from edgedeploy.source import input_names

    if calibration is None:
        msg = "a module in memory needs calibration data: its shapes and value ranges come from it"
        raise InputError(msg, hint="Pass calibration=loader, any iterable of batches.")
    arrays = _samples(calibration, input_names(module), CALIBRATION_COUNT)
    inputs = tuple(
        InputSpec(name=name, shape=tuple(value.shape[1:]), dtype=value.dtype.name)
        for name, value in arrays.items()
    )
    workload = msgspec.structs.replace(run.state.job.workload, inputs=inputs)
    run.update(job=msgspec.structs.replace(run.state.job, workload=workload))
    path = run.folder / "calibration.npz"
    save_arrays(path, arrays)
    count = len(next(iter(arrays.values())))
    data = Calibration(
        path=str(path),
        fingerprint=digest_of({name: array_sha256(value) for name, value in arrays.items()}),
        count=count,
        source="samples given in memory",
    )

    def exported(opset: int) -> Exported:
        folder = run.folder / f"model-{opset}"
        folder.mkdir()
        few = {name: value[:VERIFY_COUNT] for name, value in arrays.items()}
        was_training = module.training
        model = export_module(module.eval(), workload, opset, folder, few)
        module.train(was_training)
        return Exported(model=model, inputs=inputs)

    return Hooks(exported=exported, calibration=data)


def _samples(batches: Iterable[Any], names: list[str], count: int) -> dict[str, Array]:
    """The first samples of a loader, as inferences of batch 1: name to (N, 1, …)."""
    taken: dict[str, list[Array]] = {}
    total = 0
    for batch in batches:
        arrays = _named(batch, names)
        size = min(len(value) for value in arrays.values())
        for name, value in arrays.items():
            taken.setdefault(name, []).append(value[: max(0, count - total)])
        total += size
        if total >= count:
            break
    if total == 0:
        msg = "the calibration data is empty: it yielded no batch"
        raise DataError(msg, hint="A generator can be used once: pass a fresh one, or a list.")
    return {name: np.concatenate(values)[:, None] for name, values in taken.items()}


def _named(batch: object, names: list[str]) -> dict[str, Array]:
    """One batch as arrays by input name; the labels of an (inputs, labels) pair are left out."""
    if isinstance(batch, Mapping):
        return {str(name): _array(value) for name, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        wanted = max(1, len(names))
        parts = list(batch[:wanted])
        if len(batch) == 2 and isinstance(batch[0], Mapping | Sequence):
            return _named(batch[0], names)
        known = names[: len(parts)] or [f"input_{i}" for i in range(len(parts))]
        return {name: _array(part) for name, part in zip(known, parts, strict=True)}
    return {names[0] if names else "input": _array(batch)}


def _array(value: object) -> Array:
    array: Array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.ndim == 0 or array.dtype.kind not in "fiub":
        msg = f"calibration yielded {type(value).__name__}, expected a tensor or array of samples"
        raise DataError(msg, hint="Yield batches (N, …), or (inputs, labels) pairs.")
    return np.ascontiguousarray(array)


def _accuracy_of(
    evaluate: Callable[[Predict], float], metric: str, targets: tuple[Target, ...]
) -> Callable[[Session], Accuracy]:
    source = targets[0].source

    def accuracy(session: Session) -> Accuracy:
        seen = 0

        def predict(*samples: object) -> Array | tuple[Array, ...]:
            """The deployed artifact's output for samples (N, …) of each input."""
            nonlocal seen
            arrays = [_array(value) for value in samples]
            inputs = session.inputs
            if len(arrays) != len(inputs):
                msg = f"predict got {len(arrays)} arrays; the model has {len(inputs)} inputs"
                raise DataError(msg, hint=f"Pass one array for each of: {', '.join(inputs)}.")
            seen += len(arrays[0])
            given = {name: value[:, None] for name, value in zip(inputs, arrays, strict=True)}
            outputs = run_arrays(session, given)
            merged = tuple(value[:, 0] if value.ndim > 2 else value for value in outputs.values())
            return merged[0] if len(merged) == 1 else merged

        value = float(evaluate(predict))
        return Accuracy(
            metric=metric,
            value=value,
            unit="1",
            count=seen,
            source=source,
            data="evaluate() of the caller",
        )

    return accuracy
