"""The PyTorch side of an export: which exporter, its call, and the outputs to hold it against."""

import copy
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy.typing as npt
import onnx

from edgedeploy.calibrate import match_inputs, resolve_inputs
from edgedeploy.errors import ExportError
from edgedeploy.graph import read
from edgedeploy.graph.read import opset_of
from edgedeploy.parity import require_finite, stack
from edgedeploy.records import Tensor
from edgedeploy.source import input_names
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
    if _is_large(module):
        return [("dynamo", " (weights too large for one file)"), ("torchscript", " (fallback)")]
    return [("torchscript", ""), ("dynamo", " (fallback)")]


@contextmanager
def on_host(module: "torch.nn.Module") -> Iterator["torch.nn.Module"]:
    """The module in evaluation mode, as it was again afterwards; a copy if it is not on the CPU."""
    state = [*module.parameters(), *module.buffers()]
    if any(tensor.device.type != "cpu" for tensor in state):
        yield copy.deepcopy(module).cpu().eval()
        return
    training = {name for name, part in module.named_modules() if part.training}
    module.eval()
    try:
        yield module
    finally:
        for name, part in module.named_modules():
            part.training = name in training


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
        options["external_data"] = _is_large(module)
        options["optimize"] = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            torch.onnx.export(cast("Any", module), example, str(path), **options)
        except Exception as err:  # exporters raise many kinds of errors
            raise ExportError(_reason(err), log=str(err)[-2000:]) from err
    traced = [w for w in caught if issubclass(w.category, cast("Any", torch.jit).TracerWarning)]
    if traced and exporter == "torchscript":
        first = str(traced[0].message).strip().split(". ")[0].split("\n")[0]
        msg = f"tracing is not safe for this model: {first}"
        raise ExportError(msg)
    got = opset_of(onnx.load(str(path), load_external_data=False))
    return [] if got == opset else [f"opset {opset} asked for, {got} got from the exporter"]


def _is_large(module: object) -> bool:
    """Whether a module's tensors are more than one protobuf holds."""
    state = cast("Any", module).state_dict
    tensors = (state() if callable(state) else state).values()
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return bool(size > read.PROTOBUF_LIMIT_BYTES)


def _reason(err: BaseException) -> str:
    """What an exporter failed on: the first line of the first cause."""
    while err.__cause__ is not None:
        err = err.__cause__
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(err)).strip().splitlines()
    return f"{type(err).__name__}: {lines[0][:300]}" if lines else type(err).__name__


def torch_inputs(
    module: object, workload: Workload, arrays: Arrays | None
) -> tuple[InputSpec, ...]:
    """The inputs of a module, in the order of its forward.

    They are the workload's, else an exported program's own, else those of the arrays given. Names
    may be forward's, in any order, or other ones, which then are in forward's order. Raises
    `ExportError` where a shape is lacking, or an input before a declared one is.
    """
    names = input_names(module)
    own = {tensor.name: tensor for tensor in _program_inputs(module)}
    declared = {name: InputSpec() for name in own or arrays or ()}
    if workload.inputs:
        named = [spec.name for spec in workload.inputs if spec.name]
        foreign = len(workload.inputs) > len(names) or set(named) - set(names)
        pool = [s.name or f"input_{i}" for i, s in enumerate(workload.inputs)] if foreign else names
        declared = match_inputs(workload.inputs, pool)
        if own and not foreign:
            declared = {name: declared.get(name, InputSpec()) for name in own}
        elif not foreign:
            declared = _in_order(declared, names)
    tensors = []
    for name, spec in declared.items():
        dtype, shape = spec.dtype or "float32", spec.shape
        if name in own:
            dtype, shape = own[name].dtype, shape or _static_shape(own[name])
        elif shape is None and arrays is not None and name in arrays:
            dtype, shape = arrays[name].dtype.name, arrays[name].shape[1:]
        if shape is None:
            msg = f"input {name!r} has no shape"
            hint = "Add shape = [1, 3, 224, 224] to [[inputs]], or --shape 1,3,224,224."
            raise ExportError(msg, hint=hint)
        tensors.append(Tensor(name=name, dtype=dtype, shape=shape))
    if not tensors:
        msg = f"workload {workload.name!r} declares no inputs, and a PyTorch model does not tell"
        hint = "Add [[inputs]] with a shape to the workload, or --shape 1,3,224,224."
        raise ExportError(msg, hint=hint)
    specs = tuple(msgspec.structs.replace(s, name=n) for n, s in declared.items())
    return resolve_inputs(msgspec.structs.replace(workload, inputs=specs), tuple(tensors))


def _in_order(declared: dict[str, InputSpec], names: list[str]) -> dict[str, InputSpec]:
    """Inputs in the order of forward's arguments, of which they must be the first."""
    first = names[: len(declared)]
    if set(first) != set(declared):
        lacking = next(name for name in first if name not in declared)
        msg = f"the inputs are {', '.join(declared)}; forward takes {lacking!r} before the last"
        raise ExportError(msg, hint=f"Give {lacking!r} too, or wrap the module in one without it.")
    return {name: declared[name] for name in first}


def _program_inputs(module: object) -> list[Tensor]:
    """The inputs of an exported program as it was exported; a size that may vary is a name."""
    import torch

    if not isinstance(module, torch.export.ExportedProgram):
        return []
    values = {
        node.name: node.meta["val"] for node in module.graph.nodes if node.op == "placeholder"
    }
    found = [(str(name), values[str(name)]) for name in module.graph_signature.user_inputs]
    return [
        Tensor(
            name=name,
            dtype=str(value.dtype).removeprefix("torch."),
            shape=tuple(d if isinstance(d, int) else str(d) for d in value.shape),
        )
        for name, value in found
    ]


def _static_shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape with a batch of 1 where that may vary; `ExportError` where another size may."""
    sizes = [1 if i == 0 and isinstance(d, str) else d for i, d in enumerate(tensor.shape)]
    if any(isinstance(size, str) for size in sizes):
        shown = ", ".join(str(d) for d in tensor.shape)
        example = ",".join(str(d) if isinstance(d, int) else "N" for d in tensor.shape)
        msg = f"input {tensor.name!r} has a symbolic dimension: ({shown})"
        raise ExportError(msg, hint=f"Give it: --shape {tensor.name}={example}")
    return tuple(int(size) for size in sizes)


def run_torch(
    module: "torch.nn.Module", arrays: Arrays, inputs: tuple[InputSpec, ...], names: tuple[str, ...]
) -> Arrays:
    """PyTorch's outputs on every sample, by name: (N, *shape).

    `names` are the outputs' where the workload gives them; else the keys of a dict, else `output`
    or `output_0`, `output_1` and so on.
    """
    import torch

    order = [str(spec.name) for spec in inputs]
    rows: list[list[Array]] = []
    keys: list[str] = []
    for i in range(len(arrays[order[0]])):
        try:
            with torch.no_grad():
                result = module(*(torch.from_numpy(arrays[name][i]) for name in order))
            keys, values = _flatten(result)
            rows.append([value.detach().numpy() for value in values])
        except Exception as err:  # a module may raise anything
            shapes = ", ".join(f"{name} {arrays[name].shape[1:]}" for name in order)
            msg = f"the model raised {type(err).__name__} on inputs {shapes}: {_first_line(err)}"
            raise ExportError(msg, hint="Check shape, dtype and layout of the inputs.") from err
    if not keys:
        msg = "the model returns no tensor"
        raise ExportError(msg, hint="Return a tensor, a tuple or a dict of tensors.")
    if names and len(names) != len(keys):
        msg = f"the model returns {len(keys)} tensors; outputs names {len(names)}"
        raise ExportError(msg, hint="Correct outputs in [model], or leave it out.")
    chosen = names or _output_names(keys, order)
    found = {name: stack(name, [row[j] for row in rows]) for j, name in enumerate(chosen)}
    require_finite(found, "the model's output on these inputs")
    return found


def _first_line(err: BaseException) -> str:
    return next(iter(str(err).strip().splitlines()), "")[:300]


def _output_names(keys: list[str], inputs: list[str]) -> list[str]:
    """The keys of a dict where they can name outputs; numbers else."""
    if "" not in keys and len(set(keys)) == len(keys) and not set(keys) & set(inputs):
        return keys
    return ["output"] if len(keys) == 1 else [f"output_{j}" for j in range(len(keys))]


def _flatten(result: object) -> tuple[list[str], list["torch.Tensor"]]:
    """All tensors in what a module returned, with their keys in a dict; "" for those in none."""
    import torch

    if isinstance(result, torch.Tensor):
        return [""], [result]
    keys: list[str] = []
    tensors: list[torch.Tensor] = []
    if isinstance(result, Mapping):
        for key, value in result.items():
            inner, found = _flatten(value)
            keys += [str(key)] if len(found) == 1 else [f"{key}_{j}" for j in range(len(found))]
            tensors += found
    elif isinstance(result, Sequence) and not isinstance(result, str | bytes):
        for value in result:
            inner, found = _flatten(value)
            keys += inner
            tensors += found
    return keys, tensors


def parameter_count(module: "torch.nn.Module") -> int:
    """Elements of all parameters, normalisation's included, buffers not."""
    return sum(parameter.numel() for parameter in module.parameters())
