"""Fold constants and shape arithmetic, so that vendors' parsers see only operators."""

import onnx

from edgedeploy.graph.read import is_quantized
from edgedeploy.graph.shapes import with_shapes
from edgedeploy.graph.weights import external


def simplify(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str | None]:
    """The simplified model, and why it was left as it was where that happened.

    Quantized graphs are left: folding would turn their integer weights back into floats. A
    simplifier that fails must not cost a model that works.
    """
    if is_quantized(model):
        return with_shapes(model), "not simplified: the model is already quantized"
    if external(model):
        return with_shapes(model), "not simplified: its weights are too large for one file"
    import onnxsim

    try:
        simplified, same = onnxsim.simplify(model)
    except Exception as err:  # whatever a simplifier raises, the model itself may be sound
        reason = str(err).strip().splitlines()[:1]
        return with_shapes(model), f"not simplified: onnxsim raised {type(err).__name__} {reason}"
    if not same:
        return with_shapes(model), "not simplified: onnxsim changed the outputs"
    return with_shapes(simplified), None
