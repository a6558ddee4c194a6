"""Raise an old model to the operator set a target asks for."""

import onnx
from onnx import version_converter

from edgedeploy.graph.read import is_quantized, opset_of
from edgedeploy.graph.weights import external


def raise_opset(model: onnx.ModelProto, opset: int) -> tuple[onnx.ModelProto, str | None]:
    """The model at `opset` if it was older, and what happened; never lowered.

    A model the converter cannot take stays as it is, and the note says so: the opset asked for and
    the one got are both recorded.
    """
    found = opset_of(model)
    if found >= opset:
        return model, None
    if is_quantized(model):
        return model, f"opset {found} kept: the model is already quantized"
    if external(model):
        return model, f"opset {found} kept: the weights are too large for one file"
    try:
        raised = version_converter.convert_version(model, opset)
    except Exception as err:  # the converter raises whatever C++ does
        reason = next(iter(str(err).strip().splitlines()), type(err).__name__)[:120]
        return model, f"opset {found} kept: not convertible to {opset} ({reason})"
    return raised, f"opset raised from {found} to {opset_of(raised)}"
