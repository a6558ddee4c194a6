"""Fold constants and shape arithmetic, so that vendors' parsers see only operators."""

import onnx

from edgedeploy.graph.read import PROTOBUF_LIMIT_BYTES, is_quantized


def simplify(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str | None]:
    """The simplified model, and why it was left as it was where that happened.

    Quantized graphs are left: folding would turn their integer weights back into floats. A
    simplifier that fails must not cost a model that works.
    """
    if is_quantized(model):
        return _with_shapes(model), "not simplified: the model is already quantized"
    if model.ByteSize() > PROTOBUF_LIMIT_BYTES:
        return model, "not simplified: over 2 GB"
    import onnxsim

    try:
        simplified, same = onnxsim.simplify(model)
    except Exception as err:  # whatever a simplifier raises, the model itself may be sound
        reason = str(err).strip().splitlines()[:1]
        return _with_shapes(model), f"not simplified: onnxsim raised {type(err).__name__} {reason}"
    if not same:
        return _with_shapes(model), "not simplified: onnxsim changed the outputs"
    return _with_shapes(simplified), None


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(model, data_prop=True)
