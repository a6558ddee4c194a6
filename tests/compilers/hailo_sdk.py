"""The stand-in for the Hailo SDK as tests take it up: a small net, its pictures, its truth."""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tiny_onnx as tiny
from numpy.typing import NDArray
from onnx import helper

FAKES = Path(__file__).parents[1] / "fakes"
Array = NDArray[Any]
Runner = Any


def stand_in(*names: str) -> list[Any]:
    """Modules of the stand-in; nothing of it stays for other tests to find."""
    sys.path.insert(0, str(FAKES))
    try:
        return [importlib.import_module(f"hailo_sdk_client{name}") for name in names]
    finally:
        sys.path.remove(str(FAKES))
        for name in [name for name in sys.modules if name.split(".")[0] == "hailo_sdk_client"]:
            del sys.modules[name]


sdk, definitions, standin, reports = stand_in(
    "", ".exposed_definitions", ".standin", ".tools.profiler.react_report_generator"
)
ClientRunner, InferenceContext = sdk.ClientRunner, sdk.InferenceContext
States = definitions.States
NORMALIZED = "normalization1 = normalization([10.0, 20.0, 30.0], [50.0, 60.0, 70.0])\n"
LOW = "model_optimization_flavor(optimization_level=0)\n"


def pictures(count: int, seed: int = 0) -> Array:
    """Raw pictures (N, H, W, C) of the tiny net, 0 to 255."""
    values = np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3))
    return values.astype(np.float32)


def truth(model: str, data: Array) -> Array:
    """What ONNX Runtime gives for (N, H, W, C) data, one by one."""
    session = onnxruntime.InferenceSession(model)
    rows = [session.run(None, {"x": row[None].transpose(0, 3, 1, 2)})[0] for row in data]
    return np.concatenate(rows)


def parse(model: str) -> Runner:
    """A runner that has parsed a model, as network `net`."""
    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(model, net_name="net")
    return runner


def infer(runner: Runner, kind: Any, data: Array) -> Any:
    with runner.infer_context(kind) as context:
        return runner.infer(context, data, batch_size=4)


def snr_db(exact: Array, other: Array) -> float:
    signal = float(np.square(exact.astype(np.float64)).sum())
    return 10 * np.log10(signal / float(np.square(exact.astype(np.float64) - other).sum()))


def refused(name: str, call: Any, *args: Any, **named: Any) -> str:
    """The message of the exception of this class that a call ends with."""
    with pytest.raises(Exception, match=r"\S") as caught:
        call(*args, **named)
    assert type(caught.value).__name__ == name
    return str(caught.value)


def branches(folder: Path) -> str:
    """A net of two convolutions behind a common one, with a part that no device runs."""
    rng = np.random.default_rng(3)
    weights = {f"w{i}": rng.normal(0, 0.3, (4, 3 if i == 0 else 4, 3, 3)) for i in range(3)}
    weights = {name: array.astype(np.float32) for name, array in weights.items()}
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "stem", **pads),
        helper.make_node("Sigmoid", ["a"], ["s"], "gate"),
        helper.make_node("Mul", ["a", "s"], ["b"], "swish"),
        helper.make_node("Conv", ["b", "w1"], ["c"], "left", **pads),
        helper.make_node("Conv", ["b", "w2"], ["d"], "right", **pads),
        helper.make_node("Transpose", ["c"], ["e"], "turned", perm=[0, 2, 3, 1]),
        helper.make_node("TopK", ["e", "k"], ["y", "i"], "best"),
    ]
    weights["k"] = np.array([2], np.int64)
    outputs = [tiny.value("y", [1, 8, 8, 2]), tiny.value("d", [1, 4, 8, 8])]
    path = folder / "branches.onnx"
    return tiny.write(path, nodes, [tiny.value("x", [1, 3, 8, 8])], outputs, weights)
