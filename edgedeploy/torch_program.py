"""A workload's PyTorch model kept as data, for compilers that start from it and not from ONNX."""

import json
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgedeploy.calibrate import collect, data_spec, open_sample
from edgedeploy.errors import UnsupportedError
from edgedeploy.exported_program import load_exported_program
from edgedeploy.parity import require_finite, require_parity
from edgedeploy.torch_model import run_torch, torch_inputs
from edgedeploy.workload import InputSpec, Workload

if TYPE_CHECKING:
    import torch


def keep_program(
    module: "torch.nn.Module | torch.export.ExportedProgram", workload: Workload, folder: Path
) -> tuple[dict[str, Any], tuple[InputSpec, ...]]:
    """Write the model into `folder` as what loads without running anybody's Python.

    That is `program.pt2`, an exported program of fixed shapes (`program.ts` where the source is
    TorchScript), and `program.json` with the names, types and shapes of its ends, in order. Answers
    the path of the program with what is in that record, and the inputs. Raises `UnsupportedError`
    where PyTorch cannot capture the model, `ExportError` where what it captured computes another
    thing.
    """
    import torch

    inputs = torch_inputs(module, workload, None)
    dataset = open_sample(data_spec(workload), inputs, workload.folder, workload.verify_samples)
    arrays = collect(dataset, inputs, workload.verify_samples)
    require_finite(arrays, "the input data")
    plain: Any = module.module() if isinstance(module, torch.export.ExportedProgram) else module
    reference = run_torch(plain, arrays, inputs, workload.model.outputs)
    if isinstance(plain, torch.jit.ScriptModule):
        kind, path = "torchscript", folder / "program.ts"
        cast("Any", torch.jit).save(plain, str(path))
        kept: Any = cast("Any", torch.jit).load(str(path), map_location="cpu")
    else:
        kind, path = "exported_program", folder / "program.pt2"
        example = tuple(torch.from_numpy(arrays[str(spec.name)][0]) for spec in inputs)
        torch.export.save(_captured(plain, example), path)
        kept = load_exported_program(path).module()
    require_parity(run_torch(kept, arrays, inputs, tuple(reference)), reference)
    record = {
        "format": kind,
        "inputs": [
            {"name": str(spec.name), "dtype": spec.dtype, "shape": list(spec.shape or ())}
            for spec in inputs
        ],
        "outputs": [
            {"name": name, "dtype": value.dtype.name, "shape": list(value.shape[1:])}
            for name, value in reference.items()
        ],
        "tools": {"torch": version("torch")},
    }
    path.with_name("program.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    return {"path": str(path), **record}, inputs


def _captured(
    module: "torch.nn.Module", example: tuple["torch.Tensor", ...]
) -> "torch.export.ExportedProgram":
    """The module as one graph of PyTorch's operators, at the shapes of `example`."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(module, example, strict=False)
        except Exception as err:  # torch raises many kinds
            first = next(iter(str(err).strip().splitlines()), type(err).__name__)
            msg = f"PyTorch cannot capture the model as one graph: {first[:300]}"
            hint = "Look for Python branches on values and .item() in forward."
            raise UnsupportedError(msg, hint=hint, log=str(err)[-2000:]) from err


def require_torch(kind: str) -> None:
    """Raise `UnsupportedError` for a source that is no PyTorch model."""
    if kind == "onnx":
        msg = "the source is ONNX: there is no PyTorch program in it to run"
        raise UnsupportedError(msg, hint="Take a target that runs ONNX.")
