"""The PyTorch side of an export: which exporter, its call, and the outputs to hold it against."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from edgedeploy.calibrate import resolve_inputs
from edgedeploy.errors import ExportError
from edgedeploy.graph.read import opset_of, read_onnx
from edgedeploy.records import Tensor
from edgedeploy.workload import InputSpec, Workload

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

TORCHSCRIPT_MAX_OPSET = 20


def exporters(module: object, workload: Workload, opset: int) -> list[tuple[str, str]]:
    """The exporters to try in order, each with why it is the one."""
    import torch

    asked = workload.model.exporter
    if isinstance(module, torch.jit.ScriptModule):
        return [("torchscript", " (the source is TorchScript)")]
    if asked != "auto":
        return [(asked, " (as asked)")]
    if isinstance(module, torch.export.ExportedProgram):
        return [("dynamo", " (the source is an exported program)")]
    if opset > TORCHSCRIPT_MAX_OPSET:
        return [("dynamo", f" (opset {opset} is newer than TorchScript's)")]
    return [("torchscript", ""), ("dynamo", " (fallback)")]


def write_raw_onnx(
    module: "torch.nn.Module | torch.export.ExportedProgram",
    path: Path,
    *,
    example: tuple["torch.Tensor", ...],
    inputs: tuple[InputSpec, ...],
    outputs: list[str],
    opset: int,
    exporter: str,
) -> list[str]:
    """Write the ONNX file; what the exporter warned of comes back as notes."""
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    options: dict[str, Any] = {
        "input_names": [str(spec.name) for spec in inputs],
        "output_names": outputs,
        "opset_version": opset,
        "dynamo": exporter == "dynamo",
        "verbose": False,
    }
    if exporter == "dynamo":
        options["external_data"] = False
        options["optimize"] = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            torch.onnx.export(cast("Any", module), example, str(path), **options)
        except Exception as err:  # exporters raise many kinds of errors
            first = next(iter(str(err).strip().splitlines()), type(err).__name__)
            msg = f"{type(err).__name__}: {first[:300]}"
            raise ExportError(msg, log=str(err)[-2000:]) from err
    traced = [w for w in caught if issubclass(w.category, cast("Any", torch.jit).TracerWarning)]
    if traced and exporter == "torchscript":
        message = str(traced[0].message).strip().splitlines()[0]
        msg = f"tracing is not safe for this model: {message[:200]}"
        raise ExportError(msg)
    got = opset_of(read_onnx(path))
    return [] if got == opset else [f"opset {opset} asked for, {got} got from the exporter"]


def torch_inputs(
    workload: Workload, names: list[str], arrays: Arrays | None
) -> tuple[InputSpec, ...]:
    """Inputs of a module, from the workload's declaration, else from the arrays given."""
    if arrays is not None and not workload.inputs:
        tensors = [
            Tensor(name=name, dtype=value.dtype.name, shape=value.shape[1:])
            for name, value in arrays.items()
        ]
    else:
        tensors = []
        for i, spec in enumerate(workload.inputs):
            name = spec.name or (names[i] if i < len(names) else f"input_{i}")
            if spec.shape is None:
                msg = f"input {name!r} has no shape"
                hint = "Add shape = [1, 3, 224, 224] to [[inputs]], or --shape 1,3,224,224."
                raise ExportError(msg, hint=hint)
            tensors.append(Tensor(name=name, dtype=spec.dtype or "float32", shape=spec.shape))
    if not tensors:
        msg = f"workload {workload.name!r} declares no inputs, and a PyTorch model does not tell"
        hint = "Add [[inputs]] with a shape to the workload, or --shape 1,3,224,224."
        raise ExportError(msg, hint=hint)
    return resolve_inputs(workload, tuple(tensors))


def run_torch(
    module: "torch.nn.Module", arrays: Arrays, inputs: tuple[InputSpec, ...], names: tuple[str, ...]
) -> Arrays:
    """PyTorch's outputs on every sample, by name: (N, *shape)."""
    import torch

    order = [str(spec.name) for spec in inputs]
    found: dict[str, list[Array]] = {}
    for i in range(len(arrays[order[0]])):
        try:
            with torch.no_grad():
                result = module(*(torch.from_numpy(arrays[name][i]) for name in order))
        except Exception as err:  # a module may raise anything
            shapes = ", ".join(f"{name} {arrays[name].shape[1:]}" for name in order)
            first = next(iter(str(err).strip().splitlines()), "")
            msg = f"the model raised {type(err).__name__} on inputs {shapes}: {first[:300]}"
            raise ExportError(msg, hint="Check shape, dtype and layout of the inputs.") from err
        values = _flatten(result)
        given = names if len(names) == len(values) else ()
        default = ["output"] if len(values) == 1 else [f"output_{j}" for j in range(len(values))]
        for name, value in zip(given or default, values, strict=True):
            found.setdefault(name, []).append(value.numpy())
    stacked = {name: np.stack(values) for name, values in found.items()}
    if not stacked:
        msg = "the model returns no tensor"
        raise ExportError(msg, hint="Return a tensor, a tuple or a dict of tensors.")
    require_finite(stacked, "the model's output on these inputs")
    return stacked


def _flatten(result: object) -> list["torch.Tensor"]:
    import torch

    if isinstance(result, torch.Tensor):
        return [result]
    values = result.values() if isinstance(result, Mapping) else result
    if not isinstance(values, Sequence) and not isinstance(result, Mapping):
        return []
    return [tensor for value in values for tensor in _flatten(value)]  # type: ignore[attr-defined]


def parameter_count(module: "torch.nn.Module") -> int:
    """Elements of all parameters, normalisation's included, buffers not."""
    return sum(parameter.numel() for parameter in module.parameters())


def require_finite(arrays: Arrays, what: str) -> None:
    """Raise `ExportError` where an array holds NaN."""
    for name, value in arrays.items():
        if value.dtype.kind == "f" and np.isnan(value).any():
            msg = f"{what} holds NaN ({name!r})"
            raise ExportError(msg, hint="Check the weights, and mean and std of the inputs.")
