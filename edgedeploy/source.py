"""A workload's model from where it is kept: a callable, an ONNX or PyTorch file, or weights."""

import inspect
import re
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgedeploy.callables import load_callable, source_file
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

    Raises `InputError` where the source is neither, and where weights are given to a model that
    holds its own, or are lacking where they are all there is.
    """
    found = spec.format or SUFFIX_FORMATS.get(Path(spec.source).suffix)
    if found is None and ":" in spec.source:
        found = "state_dict" if spec.weights else "python"
    if found is None:
        msg = f"model source {spec.source!r} is neither module:callable nor a known file"
        raise InputError(msg, hint=f"Known suffixes: {', '.join(SUFFIX_FORMATS)}.")
    if spec.weights and found not in {"python", "state_dict"}:
        msg = f"weights {spec.weights!r} are given, but {spec.source!r} holds its own"
        raise InputError(msg, hint="Leave weights out, or name the architecture as source.")
    if found == "state_dict" and not spec.weights:
        msg = f"model {spec.source!r} of format state_dict names no weights"
        hint = "Set weights to the file, and source to its architecture as in 'file.py:build'."
        raise InputError(msg, hint=hint)
    return found


def model_file(spec: ModelSpec, folder: str) -> Path:
    """The path of a model that is a file."""
    return require_file(find_data(spec.source, folder), "model")


def source_files(spec: ModelSpec, folder: str) -> list[Path]:
    """The files a model is named by, told without loading it: its own or its code, its weights.

    A module on the import path is left out: finding it could run the user's code.
    """
    files = []
    if format_of(spec) not in {"python", "state_dict"}:
        files.append(model_file(spec, folder))
    elif spec.source.rpartition(":")[0].endswith(".py"):
        file = source_file(spec.source, folder, "model")
        files += [file] if file else []
    if spec.weights:
        files.append(require_file(find_data(spec.weights, folder), "weights"))
    return files


def load_torch(spec: ModelSpec, folder: str) -> "torch.nn.Module | torch.export.ExportedProgram":
    """The model as PyTorch holds it, in evaluation mode.

    Weights load as data only. Raises `ExportError` when the callable raises or answers something
    that is no module, when a file is of another kind, or weights do not fit.
    """
    kind = format_of(spec)
    if kind == "exported_program":
        from edgedeploy.exported_program import load_exported_program

        return load_exported_program(model_file(spec, folder))
    if kind == "torchscript":
        return _load_torchscript(model_file(spec, folder))
    module = _call(load_callable(spec.source, folder, "model"), spec)
    if spec.weights:
        load_weights(module, spec, folder)
    return module.eval()


def _load_torchscript(path: Path) -> "torch.nn.Module":
    import torch

    hint = (
        "For a state_dict name its architecture: [model] source = 'file.py:build' and"
        f" weights = '{path.name}'."
    )
    if _is_pickle(path):
        msg = f"{path} holds a state_dict or a pickled module, not TorchScript"
        raise ExportError(msg, hint=hint)
    try:
        script: torch.nn.Module = cast("Any", torch.jit).load(str(path), map_location="cpu")
    except Exception as err:  # torch raises many kinds for a damaged archive
        msg = f"{path} is not TorchScript, or is truncated: {_first_line(err)}"
        raise ExportError(msg, hint=hint) from err
    return script.eval()


def _is_pickle(path: Path) -> bool:
    """Whether a file is what torch.save writes: the code that TorchScript has is not there."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()[:1] == b"\x80"
    with zipfile.ZipFile(path) as archive:
        parts = {part for name in archive.namelist() for part in Path(name).parts}
    return "data.pkl" in parts and "constants.pkl" not in parts


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
        reason = _refusal(err)
        msg = f"weights {path} do not load as data: {reason}"
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


def input_names(module: object, *, required: bool = False) -> list[str]:
    """The names of forward's positional arguments, in order; empty where they are not told.

    With `required` only those that have no default.
    """
    if hasattr(module, "graph_signature"):
        return list(module.graph_signature.user_inputs)
    schema = getattr(getattr(module, "forward", None), "schema", None)
    if schema is not None:  # TorchScript
        return [a.name for a in schema.arguments[1:] if not (required and a.has_default_value())]
    try:
        parameters = inspect.signature(getattr(module, "forward", None)).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [p for p in parameters if p.kind in kinds]
    return [p.name for p in found if not required or p.default is inspect.Parameter.empty]


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


def _refusal(err: BaseException) -> str:
    """Why weights do not load; torch's own text would have the reader switch protection off."""
    if "Weights only load failed" not in str(err):
        return _first_line(err)
    asked = re.search(r"GLOBAL (\S+)", str(err))
    return f"they ask for {asked[1]}" if asked else "they hold more than tensors"


def _first_line(err: BaseException) -> str:
    lines = str(err).strip().splitlines()
    # torch goes on about its archive reader
    return lines[0].split(". This is an internal")[0][:300] if lines else type(err).__name__
