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
import numpy.typing as npt
import onnx

from edgedeploy.calibrate import (
    collect,
    data_spec,
    match_inputs,
    open_sample,
    resolve_inputs,
    save_arrays,
)
from edgedeploy.digest import file_sha256
from edgedeploy.errors import ExportError, InputError
from edgedeploy.graph.check import check_graph, reached_inputs
from edgedeploy.graph.count import macs, parameters
from edgedeploy.graph.opset import raise_opset
from edgedeploy.graph.read import (
    is_quantized,
    newest_opset,
    opset_of,
    read_onnx,
    real_inputs,
    write_onnx,
)
from edgedeploy.graph.shapes import dimensions, fix_shapes, set_dimensions
from edgedeploy.graph.simplify import simplify
from edgedeploy.parity import require_finite, require_parity, run_onnx
from edgedeploy.records import Model, Tensor
from edgedeploy.source import format_of, load_torch, model_file, source_files
from edgedeploy.torch_model import (
    exporters,
    parameter_count,
    run_torch,
    torch_inputs,
    write_raw_onnx,
)
from edgedeploy.workload import InputSpec, Workload

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
Arrays = dict[str, Array]


def export_model(workload: dict[str, Any], opset: int, folder: str) -> dict[str, Any]:
    """Export a workload's model into `folder`: the `Model` record, and what it was made from."""
    from edgedeploy.trace import file_reads

    spec = msgspec.convert(workload, Workload)
    if opset > newest_opset():
        msg = f"opset {opset} is asked for; opsets up to {newest_opset()} are known"
        raise InputError(msg, hint="Take 18, or what the target's toolchain reads.")
    with file_reads(Path(folder)) as reads:
        reads.add(*source_files(spec.model, spec.folder))
        if format_of(spec.model) == "onnx":
            model = _from_onnx(spec, opset, Path(folder))
        else:
            module = load_torch(spec.model, spec.folder)
            import torch

            # Toolchains import beside this process; threads that wait for a core cost more than
            # they bring, and one thread adds up in one order.
            torch.set_num_threads(1)
            model = export_module(module, spec, opset, Path(folder))
    return {
        "model": msgspec.to_builtins(model),
        "inputs": msgspec.to_builtins(resolve_inputs(spec, model.inputs)),
        "seen": msgspec.to_builtins(reads.seen()),
    }


def export_source(workload: dict[str, Any], folder: str) -> dict[str, Any]:
    """Keep a workload's PyTorch model in `folder`: its program's record, and what it was made from.

    Raises `UnsupportedError` where the source is none, or PyTorch cannot capture it.
    """
    from edgedeploy.torch_program import keep_program, require_torch
    from edgedeploy.trace import file_reads

    spec = msgspec.convert(workload, Workload)
    require_torch(format_of(spec.model))
    with file_reads(Path(folder)) as reads:
        reads.add(*source_files(spec.model, spec.folder))
        program, inputs = keep_program(load_torch(spec.model, spec.folder), spec, Path(folder))
    return {
        "program": program,
        "inputs": msgspec.to_builtins(inputs),
        "seen": msgspec.to_builtins(reads.seen()),
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
    inputs = torch_inputs(module, workload, arrays)
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
            given = read_onnx(raw)
            kept = {value.name for value in real_inputs(given)}
            shapes = {str(spec.name): spec.shape or () for spec in inputs if spec.name in kept}
            model, more = _prepare(given, shapes, opset)
            path, simplified, error = _write_checked(model, folder, arrays, reference)
            rungs = {"onnx": run_onnx(raw, arrays), "simplified": simplified}
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
            rungs=rungs,
            max_abs_error=error,
            notes=[*failures, *notes, *more],
            parameter_count=parameter_count(callable_module),
            specs=inputs,
            start=start,
        )
    msg = f"no exporter gives a sound model: {'; '.join(failures)}"
    hint = "Look for Python branches on values, .item() or in-place edits in forward."
    raise ExportError(msg, hint=hint)


def _from_onnx(workload: Workload, opset: int, folder: Path) -> Model:
    start = time.perf_counter()
    given = read_onnx(model_file(workload.model, workload.folder), folder)
    names = [value.name for value in real_inputs(given)]
    declared = match_inputs(workload.inputs, names)
    shapes = {name: spec.shape for name, spec in declared.items() if spec.shape}
    fixed, notes = fix_shapes(given, shapes)
    check_graph(fixed, folder)
    raw = folder / "raw.onnx"
    write_onnx(fixed, raw)
    specs = resolve_inputs(workload, _tensors(real_inputs(fixed)))
    dataset = open_sample(data_spec(workload), specs, workload.folder, workload.verify_samples)
    arrays = collect(dataset, specs, workload.verify_samples)
    require_finite(arrays, "the input data")
    reference = run_onnx(raw, arrays)
    require_finite(reference, "the model's output on these inputs")
    try:
        model, more = _prepare(fixed, shapes, opset)
        path, simplified, error = _write_checked(model, folder, arrays, reference)
    except ExportError as err:  # raising the opset broke what works as it is
        if opset_of(fixed) >= opset:
            raise
        model, more = _prepare(fixed, shapes, opset_of(fixed))
        path, simplified, error = _write_checked(model, folder, arrays, reference)
        more.append(f"opset {opset_of(fixed)} kept: at {opset}, {err.message}")
    return _record(
        model,
        path=path,
        raw=raw,
        requested_opset=opset,
        exporter="as given",
        arrays=arrays,
        reference=reference,
        reference_source="onnx",
        rungs={"simplified": simplified},
        max_abs_error=error,
        notes=[*notes, *more],
        parameter_count=parameters(fixed),
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


def _write_checked(
    model: onnx.ModelProto, folder: Path, arrays: Arrays, reference: Arrays
) -> tuple[Path, Arrays, float]:
    """Write `model.onnx` after all checks, and answer its outputs and their largest error.

    A shape of an output that cannot be inferred is what it is on real inputs.
    """
    check_graph(model, folder)
    if dropped := arrays.keys() - {value.name for value in real_inputs(model)}:
        msg = f"the exporter dropped input {min(dropped)!r}, on which nothing depends"
        raise ExportError(msg, hint="Take that argument out of forward.")
    path = folder / "model.onnx"
    write_onnx(model, path)
    found = run_onnx(path, arrays)
    error = require_parity(found, reference)
    for value in model.graph.output:
        if any(isinstance(d, str) for d in dimensions(value)):
            set_dimensions(value, found[value.name].shape[1:])
    write_onnx(model, path)
    return path, found, error


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
    rungs: dict[str, Arrays],
    max_abs_error: float,
    notes: list[str],
    parameter_count: int,
    specs: tuple[InputSpec, ...],
    start: float,
) -> Model:
    kept = path.with_name("reference.npz")
    groups = {"inputs": arrays, "outputs": reference, **rungs}
    save_arrays(
        kept, {f"{group}/{name}": v for group, held in groups.items() for name, v in held.items()}
    )
    reached = [reached_inputs(model, output.name) for output in model.graph.output]
    unused = [name for name in arrays if not any(name in inputs for inputs in reached)]
    notes += [f"input {name!r} changes no output" for name in unused]
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
