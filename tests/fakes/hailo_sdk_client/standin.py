"""For tests: a small HEF without the way through the SDK."""

from pathlib import Path

import onnx

from hailo_sdk_client.model_translator import translator
from hailo_sdk_client.sdk_backend import archive, backend, float_graph


def write_hef(path, onnx_body, name="net", hw_arch="hailo8", **changes):
    """Write a HEF stand-in that computes an ONNX model in float; answers its record.

    `onnx_body` is a path or a model with NCHW or (1, F) ends. `changes` are fields of hef.json to
    set otherwise, such as hef_version=99 for one that is too new.
    """
    model = onnx_body if isinstance(onnx_body, onnx.ModelProto) else onnx.load(str(onnx_body))
    network = translator.translate(model, name, None, None, None)
    graph = float_graph.native(network)
    made = backend.one_frame(graph.finished(*graph.ends))
    fields = {"fps": backend.estimate(network, hw_arch)} | changes
    data = archive.hef(network, hw_arch, made, {}, fields)
    Path(path).write_bytes(data)
    return archive.hef_record(path)
