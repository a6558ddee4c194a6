"""A workload's model from where it is kept: a callable, an ONNX or PyTorch file, or weights."""

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgedeploy.callables import load_callable
from edgedeploy.errors import ExportError, InputError, nearest
from edgedeploy.workload import ModelFormat, ModelSpec, find_data, require_file

if TYPE_CHECKING:
    import torch

SUFFIX_FORMATS: dict[str, ModelFormat] = {
    ".onnx": "onnx",
    ".pt2": "exported_program",
    ".pt": "torchscript",
    ".pth": "torchscript",
    ".ts": "torchscript",
}


def format_of(spec: ModelSpec) -> ModelFormat:
    """The kind of source: as named, else from the suffix, else a Python callable.

    Raises `InputError` where the source is neither.
    """
    if spec.format:
        return spec.format
    suffix = Path(spec.source).suffix
    if suffix in SUFFIX_FORMATS:
        return SUFFIX_FORMATS[suffix]
    if ":" in spec.source:
        return "state_dict" if spec.weights else "python"
    msg = f"model source {spec.source!r} is neither module:callable nor a known file"
    raise InputError(msg, hint=f"Known suffixes: {', '.join(SUFFIX_FORMATS)}.")


def model_file(spec: ModelSpec, folder: str) -> Path:
    """The path of a model that is a file."""
    return require_file(find_data(spec.source, folder), "model")


def load_torch(spec: ModelSpec, folder: str) -> "torch.nn.Module | torch.export.ExportedProgram":
    """The model as PyTorch holds it, in evaluation mode.

    Weights load as data only. Raises `ExportError` when the callable raises or answers something
    that is no module, when a file is of another kind, or weights do not fit.
    """
    import torch

    kind = format_of(spec)
    if kind == "exported_program":
        path = model_file(spec, folder)
        try:
            return torch.export.load(str(path))
        except Exception as err:  # torch raises many kinds for a damaged archive
            msg = f"{path} is not an exported program, or is truncated: {_first_line(err)}"
            raise ExportError(msg, hint="Write it with torch.export.save.") from err
    if kind == "torchscript":
        path = model_file(spec, folder)
        try:
            script: torch.nn.Module = cast("Any", torch.jit).load(str(path), map_location="cpu")
        except Exception as err:  # torch raises many kinds for a damaged archive
            msg = f"{path} is not TorchScript, or is truncated: {_first_line(err)}"
            hint = (
                "For a state_dict name its architecture: [model] source = 'file.py:build' and"
                f" weights = '{path.name}'."
            )
            raise ExportError(msg, hint=hint) from err
        return script.eval()
    module = _call(load_callable(spec.source, folder, "model"), spec)
    if spec.weights:
        load_weights(module, spec, folder)
    return module.eval()


def load_weights(module: "torch.nn.Module", spec: ModelSpec, folder: str) -> None:
    """Load `spec.weights` into the module; every key must fit."""
    import torch

    assert spec.weights is not None
    path = require_file(find_data(spec.weights, folder), "weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # torch and safetensors raise many kinds for a damaged file
        msg = f"weights {path} do not load as data: {_first_line(err)}"
        hint = "Save a plain state_dict of tensors; pickled objects are refused (weights_only)."
        raise ExportError(msg, hint=hint) from err
    if spec.weights_key:
        if not isinstance(state, dict) or spec.weights_key not in state:
            known = [str(k) for k in state] if isinstance(state, dict) else []
            msg = f"weights {path} have no key {spec.weights_key!r}"
            raise ExportError(msg, hint=nearest(spec.weights_key, known[:20]))
        state = state[spec.weights_key]
    prefix = spec.weights_prefix
    try:
        state = {key.removeprefix(prefix): value for key, value in state.items()}
        module.load_state_dict(state)
    except (AttributeError, RuntimeError, TypeError) as err:
        msg = f"weights {path} do not fit {spec.source}: {str(err).strip()[:400]}"
        hint = "Check weights_key, weights_prefix and the arguments of the architecture."
        raise ExportError(msg, hint=hint) from err


def input_names(module: object) -> list[str]:
    """The names of forward's positional arguments, in order; empty where they are not told."""
    forward = getattr(module, "forward", None)
    if forward is None:
        return []
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds]


def _call(function: Callable[..., Any], spec: ModelSpec) -> "torch.nn.Module":
    import torch

    torch.manual_seed(0)
    if isinstance(function, torch.nn.Module):
        return function
    try:
        module = function(**spec.arguments)
    except Exception as err:
        msg = f"{spec.source}: calling it raised {type(err).__name__}: {_first_line(err)}"
        trace = "".join(traceback.format_exception(err))
        raise ExportError(msg, hint="The traceback is in the log.", log=trace[-2000:]) from err
    if not isinstance(module, torch.nn.Module):
        msg = f"{spec.source} answered {type(module).__name__}, expected a torch.nn.Module"
        raise ExportError(msg, hint="Return the module itself.")
    return module


def _first_line(err: BaseException) -> str:
    lines = str(err).strip().splitlines()
    return lines[0][:300] if lines else type(err).__name__
