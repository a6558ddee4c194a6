"""ONNX files in and out, with what is wrong with a file said plainly."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from edgedeploy.errors import ExportError, UnsupportedError
from edgedeploy.graph.weights import embed_weights, place_weights, weight_files
from edgedeploy.workload import require_file

PROTOBUF_LIMIT_BYTES = 2_000_000_000
QUANTIZED_OPS = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
    }
)


def read_onnx(path: Path, folder: Path | None = None) -> onnx.ModelProto:
    """The model in `path`, its weights within where one protobuf can hold them.

    Larger ones stay in files, which are brought under `folder` (the model's own where it is None):
    what is written there as ONNX finds them. Raises `ExportError` for a missing, empty, truncated
    or non-ONNX file, `UnsupportedError` for an opset newer than the onnx package knows.
    """
    require_file(path, "model")
    try:
        model = onnx.load(str(path), load_external_data=False)
        files = weight_files(model, path.parent)
        large = path.stat().st_size + sum(f.stat().st_size for f in files) > PROTOBUF_LIMIT_BYTES
        embed_weights(model, path.parent, all_of_them=not large)
        if large:
            place_weights(model, path.parent, folder or path.parent)
    except DecodeError as err:
        msg = f"model {path} is not ONNX, or is truncated ({path.stat().st_size} bytes): {err}"
        raise ExportError(msg, hint="Export or copy it again.") from err
    except (OSError, ValueError, onnx.checker.ValidationError) as err:
        msg = f"model {path} cannot be read: {err}"
        raise ExportError(msg, hint="Export or copy it again, with its external data.") from err
    if not model.graph.node and not model.graph.output:
        msg = f"model {path} holds no graph ({path.stat().st_size} bytes): not an ONNX model"
        raise ExportError(msg, hint="Export or copy it again.")
    newest = newest_opset()
    if opset_of(model) > newest:
        msg = f"model {path} has opset {opset_of(model)}; opsets up to {newest} are supported"
        raise UnsupportedError(msg, hint=f"Export it again with opset_version={min(newest, 18)}.")
    return model


def write_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Save a model; weights that it keeps in files must lie in the folder of `path` already."""
    onnx.save(model, str(path))


def newest_opset() -> int:
    """The newest default operator set that the onnx package knows."""
    return int(onnx.defs.onnx_opset_version())


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the default operator set the model imports; 0 where it names none."""
    versions = [o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}]
    return max(versions, default=0)


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the graph is already quantized: QDQ, QLinear, dynamic or integer."""
    return any(node.op_type in QUANTIZED_OPS for node in model.graph.node)


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Graph inputs that are not weights (old exporters list initializers as inputs)."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]
