"""A workload's model into checked, static, simplified ONNX, with reference outputs on real inputs.

`export_model` is served as a program in a process of its own, so that the command line never loads
PyTorch and a model that crashes takes nothing down; `export_module` does the same here, for a
module that is already in memory.
"""

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx

from edgedeploy.calibrate import collect, data_spec, open_sample, resolve_inputs, save_arrays
from edgedeploy.digest import file_sha256
from edgedeploy.errors import ExportError
from edgedeploy.graph.check import check_graph
from edgedeploy.graph.count import macs, parameters
from edgedeploy.graph.opset import raise_opset
from edgedeploy.graph.read import is_quantized, opset_of, read_onnx, real_inputs, write_onnx
from edgedeploy.graph.shapes import dimensions, fix_shapes
from edgedeploy.graph.simplify import simplify
from edgedeploy.records import Model, Tensor
from edgedeploy.source import format_of, input_names, load_torch, model_file
from edgedeploy.torch_model import (
    exporters,
    require_finite,
    run_torch,
    torch_inputs,
    write_raw_onnx,
)
from edgedeploy.torch_model import parameter_count as torch_parameters
from edgedeploy.workload import InputSpec, Workload

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

# Relative to the largest reference output: float32 exports stay three orders below.
PARITY_LIMIT = 1e-3


def export_model(workload: dict[str, Any], opset: int, folder: str) -> dict[str, Any]:
    """Export a workload's model into `folder`: the `Model` record, and the files it came from."""
    from edgedeploy.trace import file_reads

    spec = msgspec.convert(workload, Workload)
    with file_reads(Path(folder)) as reads:
        if format_of(spec.model) == "onnx":
            model = _from_onnx(spec, opset, Path(folder))
        else:
            module = load_torch(spec.model, spec.folder)
            model = export_module(module, spec, opset, Path(folder))
    return {
        "model": msgspec.to_builtins(model),
        "inputs": msgspec.to_builtins(resolve_inputs(spec, model.inputs)),
        "files": [str(path) for path in reads.files()],
    }


def export_module(
    module: "torch.nn.Module | torch.export.ExportedProgram",
    workload: Workload,
    opset: int,
    folder: Path,
    arrays: Arrays | None = None,
) -> Model:
    """Export a PyTorch model in evaluation mode.

    `arrays` are real inputs, name to (N, *shape); without them they come from the workload's data.
    The TorchScript exporter is tried first where its trace is proven right on those inputs: it
    takes a fifth of the time of the exported-program one, which serves whatever it cannot (data
    dependent control flow, newer opsets, exported programs). `Model.exporter` says which was used
    and why. Raises `ExportError` where no exporter gives a model that agrees with PyTorch.
    """
    import torch

    start = time.perf_counter()
    names = input_names(module)
    inputs = torch_inputs(workload, names, arrays)
    if arrays is None:
        dataset = open_sample(data_spec(workload), inputs, workload.folder, workload.verify_samples)
        arrays = collect(dataset, inputs, workload.verify_samples)
    require_finite(arrays, "the input data")
    example = tuple(torch.from_numpy(arrays[str(spec.name)][0]) for spec in inputs)
    callable_module: Any = (
        module.module() if isinstance(module, torch.export.ExportedProgram) else module
    )
    reference = run_torch(callable_module, arrays, inputs, workload.model.outputs)
    failures: list[str] = []
    for exporter, reason in exporters(module, workload, opset):
        raw = folder / "raw.onnx"
        try:
            notes = write_raw_onnx(
                module,
                raw,
                example=example,
                inputs=inputs,
                outputs=list(reference),
                opset=opset,
                exporter=exporter,
            )
            model, more = _prepare(read_onnx(raw), {}, opset)
            check_graph(model)
            path = folder / "model.onnx"
            write_onnx(model, path)
            error = _parity(path, arrays, reference)
        except ExportError as err:
            failures.append(f"{exporter}: {err.message}")
            continue
        return _record(
            model,
            path=path,
            raw=raw,
            requested_opset=opset,
            exporter=exporter + reason,
            arrays=arrays,
            reference=reference,
            reference_source="torch",
            max_abs_error=error,
            notes=[*failures, *notes, *more],
            parameter_count=torch_parameters(callable_module),
            specs=inputs,
            start=start,
        )
    msg = f"no exporter gives a sound model: {'; '.join(failures)}"
    hint = "Look for Python branches on values, .item() or in-place edits in forward."
    raise ExportError(msg, hint=hint)


def _from_onnx(workload: Workload, opset: int, folder: Path) -> Model:
    start = time.perf_counter()
    source = model_file(workload.model, workload.folder)
    given = read_onnx(source)
    names = [value.name for value in real_inputs(given)]
    shapes = {
        spec.name or names[i]: spec.shape
        for i, spec in enumerate(workload.inputs)
        if spec.shape and (spec.name or i < len(names))
    }
    fixed, notes = fix_shapes(given, shapes)
    check_graph(fixed)
    raw, path = folder / "raw.onnx", folder / "model.onnx"
    write_onnx(fixed, raw)
    model, more = _prepare(fixed, shapes, opset)
    check_graph(model)
    write_onnx(model, path)
    specs = resolve_inputs(workload, _tensors(real_inputs(model)))
    dataset = open_sample(data_spec(workload), specs, workload.folder, workload.verify_samples)
    arrays = collect(dataset, specs, workload.verify_samples)
    require_finite(arrays, "the input data")
    reference = _run_onnx(raw, arrays)
    require_finite(reference, "the model's output on these inputs")
    error = _parity(path, arrays, reference)
    return _record(
        model,
        path=path,
        raw=raw,
        requested_opset=opset,
        exporter="as given",
        arrays=arrays,
        reference=reference,
        reference_source="onnx",
        max_abs_error=error,
        notes=[*notes, *more],
        parameter_count=parameters(model),
        specs=specs,
        start=start,
    )


def _prepare(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], opset: int
) -> tuple[onnx.ModelProto, list[str]]:
    fixed, notes = fix_shapes(model, shapes)
    raised, raised_note = raise_opset(fixed, opset)
    simplified, simplified_note = simplify(raised)
    return simplified, [*notes, *(n for n in (raised_note, simplified_note) if n)]


def _record(
    model: onnx.ModelProto,
    *,
    path: Path,
    raw: Path,
    requested_opset: int,
    exporter: str,
    arrays: Arrays,
    reference: Arrays,
    reference_source: str,
    max_abs_error: float,
    notes: list[str],
    parameter_count: int,
    specs: tuple[InputSpec, ...],
    start: float,
) -> Model:
    kept = path.with_name("reference.npz")
    save_arrays(
        kept,
        {f"inputs/{name}": value for name, value in arrays.items()}
        | {f"outputs/{name}": value for name, value in reference.items()},
    )
    counted, reason = macs(model)
    by_name = {spec.name: spec for spec in specs}
    inputs = tuple(
        msgspec.structs.replace(t, layout=by_name[t.name].layout)
        for t in _tensors(real_inputs(model))
    )
    tools = {name: version(name) for name in ("onnx", "onnxsim", "onnxruntime")}
    if reference_source == "torch":
        tools["torch"] = version("torch")
    return Model(
        path=str(path),
        raw_path=str(raw),
        sha256=file_sha256(path, memo=False),
        inputs=inputs,
        outputs=_tensors(model.graph.output),
        opset=opset_of(model),
        requested_opset=requested_opset,
        exporter=exporter,
        parameters=parameter_count,
        macs=counted,
        macs_reason=reason,
        quantized=is_quantized(model),
        reference=str(kept),
        reference_source=reference_source,
        max_abs_error=max_abs_error,
        notes=tuple(notes),
        tools=tools,
        duration_s=time.perf_counter() - start,
    )


def _tensors(values: Sequence[onnx.ValueInfoProto]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(
            name=value.name,
            dtype=onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            shape=dimensions(value),
        )
        for value in values
    )


def _run_onnx(path: Path, arrays: Arrays) -> Arrays:
    """The model's outputs on every sample, without graph optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        count = len(next(iter(arrays.values())))
        rows = [session.run(names, {n: a[i] for n, a in arrays.items()}) for i in range(count)]
    except Exception as err:  # the runtime raises classes of its own for each status
        first = next(iter(str(err).strip().splitlines()), type(err).__name__)
        msg = f"the model does not run on ONNX Runtime: {first[:400]}"
        raise ExportError(msg, hint="Export it again with a lower opset, or check it.") from err
    return {name: np.stack([row[i] for row in rows]) for i, name in enumerate(names)}


def _parity(path: Path, arrays: Arrays, reference: Arrays) -> float:
    """The largest absolute error against `reference`; `ExportError` beyond the limit."""
    found = _run_onnx(path, arrays)
    worst = 0.0
    for (name, expected), actual in zip(reference.items(), found.values(), strict=True):
        if expected.shape != actual.shape:
            msg = f"output {name!r} has shape {actual.shape[1:]}, expected {expected.shape[1:]}"
            raise ExportError(msg)
        if expected.size == 0:
            continue
        a, b = expected.astype(np.float64), actual.astype(np.float64)
        error = float(np.max(np.abs(a - b)))
        scale = float(np.max(np.abs(a)))
        if not np.isfinite(error) or error > PARITY_LIMIT * scale + 1e-6:
            msg = f"output {name!r} differs by {error:.3g} (values to {scale:.3g}) after export"
            raise ExportError(msg)
        worst = max(worst, error)
    return worst
