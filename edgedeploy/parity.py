"""Outputs of an exported model on real inputs, held against the reference ones."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedeploy.errors import ExportError

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is imported: this project sends nothing

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

# Relative to the largest reference output: float32 exports stay three orders below.
PARITY_LIMIT = 1e-3


def run_onnx(path: Path, arrays: Arrays) -> Arrays:
    """The model's outputs on every sample, without graph optimisations: name to (N, *shape)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
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
    return {name: stack(name, [row[i] for row in rows]) for i, name in enumerate(names)}


def stack(name: str, values: Sequence[Any]) -> Array:
    """One output on all samples; `ExportError` where it is no tensor of numbers of one shape."""
    found = [np.asarray(value) for value in values]
    shapes = {value.shape for value in found}
    if len(shapes) > 1:
        shown = " and ".join(str(shape) for shape in sorted(shapes)[:2])
        msg = f"the shape of output {name!r} depends on values: {shown} on different inputs"
        hint = (
            "Static shapes are needed: cut the model before it, as before non-maximum suppression."
        )
        raise ExportError(msg, hint=hint)
    if found[0].dtype.kind not in "fiub":
        msg = f"output {name!r} is of {found[0].dtype}, no tensor of real numbers"
        raise ExportError(msg, hint="Return tensors of numbers alone.")
    return np.stack(found)


def require_finite(arrays: Arrays, what: str) -> None:
    """Raise `ExportError` where an array holds NaN."""
    for name, value in arrays.items():
        if value.dtype.kind == "f" and np.isnan(value).any():
            msg = f"{what} holds NaN ({name!r})"
            raise ExportError(msg, hint="Check the weights, and mean and std of the inputs.")


def require_parity(found: Arrays, reference: Arrays) -> float:
    """The largest absolute error of outputs, matched in order.

    Raises `ExportError` for other shapes, and for an error over 1e-3 of an output's largest finite
    value (plus 1e-6). Infinities must be the same.
    """
    worst = 0.0
    for (name, expected), actual in zip(reference.items(), found.values(), strict=True):
        if expected.shape != actual.shape:
            msg = f"output {name!r} has shape {actual.shape[1:]}, expected {expected.shape[1:]}"
            raise ExportError(msg, hint="Look for Python branches on shapes or values in forward.")
        error = float(differences(expected, actual).max(initial=0.0))
        finite = np.abs(expected[np.isfinite(expected)].astype(np.float64))
        scale = float(finite.max(initial=0.0))
        if not error <= PARITY_LIMIT * scale + 1e-6:
            msg = f"output {name!r} differs by {error:.3g} (values to {scale:.3g}) after export"
            raise ExportError(msg, hint="Try the other exporter: exporter in [model].")
        worst = max(worst, error)
    return worst


def differences(expected: Array, actual: Array) -> npt.NDArray[np.float64]:
    """|actual - expected|, 0 where both are the same infinity; NaN where one is NaN."""
    a, b = expected.astype(np.float64), actual.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0.0, np.abs(b - a))
