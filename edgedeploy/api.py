"""The calls of a notebook or script: deploy a module in memory or a workload, and compare runs."""

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgedeploy import __version__
from edgedeploy._inproc.host import host_facts
from edgedeploy.cache import digest_of
from edgedeploy.calibrate import array_sha256, save_arrays
from edgedeploy.data.arrays import LABEL_KEYS
from edgedeploy.deployment import Session
from edgedeploy.errors import DataError, EdgeDeployError, InputError
from edgedeploy.evaluate import run_arrays
from edgedeploy.export import Exported
from edgedeploy.pipeline import Pipeline
from edgedeploy.records import Accuracy, Calibration, Plan, Report, Target
from edgedeploy.report.collect import report_of
from edgedeploy.report.files import write_report
from edgedeploy.row import Hooks
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
    `calibration` is one batch or yields batches: a tensor or array (N, …), a tuple or dict of them
    for several inputs, or a pair (inputs, labels) whose labels are left aside; its first sample
    gives the shapes. `evaluate` is called with `predict`, which takes an array of samples (or one
    an input) and returns the deployed artifact's output (a tuple where there are several), and
    answers the accuracy. The module is left as it was found.

    Raises `InputError` and its kinds for what is wrong with the arguments; a target that fails is a
    row of the report.
    """
    targets = tuple(load_targets(target if isinstance(target, str) else list(target)))
    asked = precision.split(",") if isinstance(precision, str) else precision or ()
    job = Job(
        workload=_workload(model, name),
        targets=targets,
        precisions=tuple(part.strip() for part in asked if part.strip()) or None,
        plan=plan or Plan(),
        host=host_facts(),
    )
    if calibration is not None and isinstance(model, Workload | str | Path):
        msg = "calibration= is for a module in memory; a workload names its own data"
        raise InputError(msg, hint="Give the module itself, or [calibration] in the workload.")
    run = create_run(job, __version__)
    try:
        hooks = Hooks()
        if not isinstance(model, Workload | str | Path):
            hooks = _in_memory(model, run, calibration)
        if evaluate is not None:
            hooks.accuracy = _accuracy_of(evaluate, metric, job.targets)
        return execute(run, hooks)
    except EdgeDeployError:
        run.discard_if_empty()
        raise


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
    from edgedeploy.torch_model import on_host, torch_inputs

    if calibration is None:
        msg = "a module in memory needs calibration data: its shapes and value ranges come from it"
        raise InputError(msg, hint="Pass calibration=loader, any iterable of batches.")
    arrays = _samples(calibration, input_names(module, required=True), CALIBRATION_COUNT)
    specs = tuple(
        InputSpec(name=name, shape=tuple(value.shape[1:]), dtype=value.dtype.name)
        for name, value in arrays.items()
    )
    workload = msgspec.structs.replace(run.state.job.workload, inputs=specs)
    inputs = torch_inputs(module, workload, None)
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
        folder.mkdir(exist_ok=True)
        few = {name: value[:VERIFY_COUNT] for name, value in arrays.items()}
        with on_host(module) as still:
            model = export_module(still, workload, opset, folder, few)
        return Exported(model=model, inputs=inputs)

    return Hooks(exported=exported, calibration=data)


def _samples(batches: object, names: list[str], count: int) -> dict[str, Array]:
    """The first samples of a loader, as inferences of batch 1: name to (N, 1, …)."""
    taken: dict[str, list[Array]] = {}
    total = 0
    if isinstance(batches, Mapping) or hasattr(batches, "ndim"):
        batches = [batches]
    if not isinstance(batches, Iterable):
        msg = f"calibration is a {type(batches).__name__}, expected batches or an iterable of them"
        raise InputError(msg, hint="Pass calibration=loader, any iterable of batches.")
    for batch in batches:
        arrays = _named(batch, names)
        sizes = {name: len(value) for name, value in arrays.items()}
        if len(set(sizes.values())) > 1 or (taken and taken.keys() != arrays.keys()):
            msg = f"calibration yielded inputs that do not go together: {sizes}"
            raise DataError(msg, hint="Yield as many samples of each input, all in every batch.")
        for name, value in arrays.items():
            taken.setdefault(name, []).append(value[: count - total])
        total += min(count - total, *sizes.values())
        if total >= count:
            break
    if total == 0:
        msg = "the calibration data is empty: it yielded no sample"
        raise DataError(msg, hint="A generator can be used once: pass a fresh one, or a list.")
    try:
        return {name: np.concatenate(values)[:, None] for name, values in taken.items()}
    except ValueError as err:
        shapes = sorted({value.shape[1:] for values in taken.values() for value in values})
        msg = f"calibration yielded samples of unlike shapes: {shapes}"
        raise DataError(msg, hint="Resize them to one shape: it becomes the model's.") from err


def _named(batch: object, names: list[str]) -> dict[str, Array]:
    """One batch as arrays by input name; the labels of an (inputs, labels) pair are left out."""
    if isinstance(batch, Mapping):
        taken = [k for k in batch if k in names or k not in LABEL_KEYS]
        return {str(name): _array(batch[name]) for name in taken}
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        if len(batch) == 2 and isinstance(batch[0], Mapping | Sequence):
            return _named(batch[0], names)
        parts = list(batch[: max(1, len(names))])
        known = names[: len(parts)] or ["input"]
        return {name: _array(part) for name, part in zip(known, parts, strict=True)}
    return {names[0] if names else "input": _array(batch)}


def _array(value: object) -> Array:
    array: Array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.ndim == 0 or array.dtype.kind not in "fiub":
        msg = f"expected a tensor or array of samples, found {type(value).__name__}"
        raise DataError(msg, hint="Give batches (N, …), or (inputs, labels) pairs.")
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
            merged = tuple(
                value[:, 0] if value.ndim > 1 and value.shape[1] == 1 else value
                for value in outputs.values()
            )
            return merged[0] if len(merged) == 1 else merged

        try:
            value = float(evaluate(predict))
        except EdgeDeployError:
            raise
        except Exception as err:
            msg = f"evaluate raised {type(err).__name__}: {err}"
            hint = "Mend that function; it is to answer a number."
            raise InputError(msg, hint=hint, log=traceback.format_exc()) from err
        return Accuracy(
            metric=metric,
            value=value,
            unit="1",
            count=seen,
            source=source,
            data="evaluate() of the caller",
        )

    return accuracy
