"""ONNX Runtime behind the emulators, without optimisations: what is written is what is computed."""

import onnx
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

# the samples of one run hold about this many input values together
VALUES = 1 << 22


def open_session(model):
    """A session of a model in memory."""
    settings = SessionOptions()
    settings.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    data = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    return InferenceSession(data, settings, providers=["CPUExecutionProvider"])


def batches(arrays, limit):
    """Slices of arrays (N, …) by name, of `limit` samples at most."""
    count = len(next(iter(arrays.values())))
    size = max(1, min(limit, VALUES // max(1, sum(a[0].size for a in arrays.values()))))
    for begin in range(0, count, size):
        yield {name: array[begin : begin + size] for name, array in arrays.items()}
