"""Models, data and calls for the tests of the Hailo compiler's program, on its stand-in."""

import io
import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tiny_onnx as tiny
from onnx import helper

sys.path.append(str(tiny.ROOT / "compilers" / "hailo"))
import dfc_faults
import dfc_log
import dfc_network
import dfc_options
import dfc_script
import dfc_states
import dfc_steps
import dfc_wire

__all__ = [
    "dfc_faults",
    "dfc_log",
    "dfc_network",
    "dfc_options",
    "dfc_script",
    "dfc_states",
    "dfc_steps",
]
FAKES = tiny.ROOT / "tests" / "fakes"
PROGRAM = tiny.ROOT / "compilers" / "hailo.py"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
Table = dict[str, Any]
node = helper.make_node


def program() -> ModuleType:
    """The program; its folder comes onto the path with it."""
    return tiny.program("compilers", "hailo")


def declared(shape: Sequence[int] = (1, 3, 16, 16), **changes: object) -> Table:
    """An input as a workload declares it: a picture with ImageNet's mean and std."""
    found: Table = {
        "name": "x",
        "dtype": "float32",
        "shape": list(shape),
        "layout": "NCHW",
        "color": "rgb",
        "value_range": [0.0, 1.0],
        "mean": MEAN,
        "std": STD,
    }
    return found | changes


def pictures(count: int = 16, shape: Sequence[int] = (1, 3, 16, 16), seed: int = 0) -> tiny.Array:
    """Raw values of 0 to 255, (count, *shape)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.float32)


def prepared(raw: tiny.Array, spec: Table) -> tiny.Array:
    """What the workload makes of raw values, channels on the axis that the layout says."""
    axes = [1] * raw.ndim
    axes[2 if spec["layout"] == "NCHW" else -1] = -1
    low, high = spec["value_range"]
    mean = np.reshape(spec["mean"] or [0.0], axes)
    std = np.reshape(spec["std"] or [1.0], axes)
    return (((raw / 255) * (high - low) + low - mean) / std).astype(np.float32)


def data(path: Path, spec: Table | None = None, count: int = 16) -> str:
    """An .npz of calibration samples for an input as declared; its path."""
    spec = spec or declared()
    return tiny.samples(path, **{spec["name"]: prepared(pictures(count, spec["shape"]), spec)})


def ending_in(path: Path, last: Any, *, shape: Sequence[int], kind: int = 1) -> str:
    """A convolution and a Relu (its value is r), then a node of another kind that makes y."""
    weights = {"w": tiny.images(1)[0, :, :, :3, :3].repeat(4, axis=0)}
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="first", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"], name="relu"),
        last,
    ]
    outputs = [tiny.value("y", shape, kind)]
    return tiny.write(path, nodes, [tiny.value("x", (1, 3, 16, 16))], outputs, weights)


def heads(path: Path) -> str:
    """x -> Conv Relu -> two heads: Conv Sigmoid of 2 channels, and Conv of 5 of another size."""
    draw = np.random.default_rng(5)
    weights = {
        "w1": draw.standard_normal((8, 3, 3, 3)).astype(np.float32) / 4,
        "w2": draw.standard_normal((2, 8, 1, 1)).astype(np.float32),
        "w3": draw.standard_normal((5, 8, 3, 3)).astype(np.float32) / 8,
    }
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], name="", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], name=""),
        node("Conv", ["r1", "w2"], ["c2"], name="score"),
        node("Sigmoid", ["c2"], ["scores"], name="sigmoid"),
        node("Conv", ["r1", "w3"], ["boxes"], name="box", strides=[2, 2], pads=[1, 1, 1, 1]),
    ]
    outputs = [tiny.value("boxes", (1, 5, 8, 8)), tiny.value("scores", (1, 2, 16, 16))]
    return tiny.write(path, nodes, [tiny.value("x", (1, 3, 16, 16))], outputs, weights)


def fault(kind: str, text: str) -> Exception:
    """An exception of a class of that name, as the SDK's are known."""
    found: Exception = type(kind, (Exception,), {})(text)
    return found


def run_hef(path: Path, sent: dict[str, tiny.Array]) -> dict[str, tiny.Array]:
    """The outputs of a stand-in's HEF, (N, H, W, C) by layer, for frames as sent over the wire."""
    with zipfile.ZipFile(path) as archive:
        record = json.loads(archive.read("hef.json"))
        model = archive.read("model.onnx")
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    graph = onnx.load(io.BytesIO(model)).graph
    names = [value.name for value in graph.input]
    layers = [each["name"] for each in record["inputs"]]
    found: dict[str, list[tiny.Array]] = {}
    for place in range(len(next(iter(sent.values())))):
        feed = {
            name: sent[layer][place].astype(np.float32).reshape(1, *shape)
            for name, layer, shape in zip(
                names, layers, [each["shape"] for each in record["inputs"]], strict=True
            )
        }
        results = session.run(None, feed)
        for each, value in zip(record["outputs"], results, strict=True):
            found.setdefault(each["name"], []).append(value[0])
    return {name: np.stack(values) for name, values in found.items()}


def deployed(artifact: Path, samples: dict[str, tiny.Array]) -> dict[str, tiny.Array]:
    """The outputs of an artifact by the model's names, inputs and outputs as model.json says."""
    sidecar = json.loads(artifact.with_suffix(".json").read_text(encoding="utf-8"))
    sent = {
        each["layer"]: dfc_wire.as_sent(dfc_wire.to_wire(samples[each["name"]], each), each)
        for each in sidecar["inputs"]
    }
    results = run_hef(artifact, sent)
    return {
        each["name"]: dfc_wire.to_model(results[each["layer"]], each) for each in sidecar["outputs"]
    }
