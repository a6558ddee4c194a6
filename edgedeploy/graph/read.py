"""ONNX files in and out, with what is wrong with a file said plainly."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from edgedeploy.errors import ExportError, UnsupportedError
from edgedeploy.workload import require_file

PROTOBUF_LIMIT_BYTES = 2_000_000_000
QUANTIZED_OPS = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul"})


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model in `path` with its external data.

    Raises `ExportError` for a missing, empty, truncated or non-ONNX file, `UnsupportedError` for
    an opset newer than the onnx package knows.
    """
    require_file(path, "model")
    try:
        model = onnx.load(str(path))
    except DecodeError as err:
        msg = f"model {path} is not ONNX, or is truncated ({path.stat().st_size} bytes): {err}"
        raise ExportError(msg, hint="Export or copy it again.") from err
    except (OSError, ValueError, onnx.checker.ValidationError) as err:
        msg = f"model {path} cannot be read: {err}"
        hint = "Its external data must lie beside it, in the place it was exported to."
        raise ExportError(msg, hint=hint) from err
    if not model.graph.node and not model.graph.output:
        msg = f"model {path} holds no graph ({path.stat().st_size} bytes): not an ONNX model"
        raise ExportError(msg, hint="Export or copy it again.")
    newest = onnx.defs.onnx_opset_version()
    if opset_of(model) > newest:
        msg = f"model {path} has opset {opset_of(model)}; opsets up to {newest} are supported"
        raise UnsupportedError(msg, hint=f"Export it again with opset_version={min(newest, 18)}.")
    return model


def write_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Save a model; weights go to a file beside it where one protobuf cannot hold them."""
    large = model.ByteSize() > PROTOBUF_LIMIT_BYTES
    onnx.save(
        model,
        str(path),
        save_as_external_data=large,
        location=f"{path.name}.data" if large else None,
    )


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the default operator set the model imports; 0 where it names none."""
    versions = [o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}]
    return max(versions, default=0)


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the graph is already QDQ or QLinear."""
    return any(node.op_type in QUANTIZED_OPS for node in model.graph.node)


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Graph inputs that are not weights (old exporters list initializers as inputs)."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]
