"""Engines of the stand-ins for TensorRT, and what its runtimes' tests share."""

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

FAKES = Path(__file__).parents[2] / "fakes"
PROGRAMS = Path(__file__).parents[3] / "profilers" / "runtime"
sys.path.append(str(PROGRAMS / "trt_common"))
STANDINS = ("tensorrt", "tensorrt_rtx", "cuda")
Array = NDArray[Any]
faults = importlib.import_module("trt_run_faults")
VERSIONS = {"trt-10": "10.3.0+standin", "trt-11": "11.4.0+standin", "rtx": "1.7.1.116+standin"}


def network(batch: int | str = 1, seed: int = 0) -> ModelProto:
    """A picture (batch, 3, 8, 8) to `y`, a convolution's (batch, 4, 8, 8), and `z` (batch, 4)."""
    weights = np.random.default_rng(seed).normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"], name="relu"),
        helper.make_node("ReduceMean", ["y"], ["z"], name="mean", axes=[2, 3], keepdims=0),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [
            value("y", TensorProto.FLOAT, [batch, 4, 8, 8]),
            value("z", TensorProto.FLOAT, [batch, 4]),
        ],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def expected(x: Array, seed: int = 0) -> dict[str, Array]:
    """What ONNX Runtime computes."""
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(network("n", seed).SerializeToString(), settings)
    y, z = session.run(["y", "z"], {"x": x})
    return {"y": y, "z": z}


def pictures(count: int = 1, seed: int = 3) -> Array:
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


def artifact(folder: Path, kind: str, *, seed: int = 0, batch: int = 1, **changes: Any) -> str:
    """An engine's folder for a kind of `VERSIONS`; `changes` are fields of the engine's header.

    `batch` over 1 makes it dynamic, from 1 to that; `told` are fields of model.json alone.
    """
    from tensorrt import engine_file  # the stand-in's, where the fixture has put it on the path

    told = changes.pop("told", {})
    free = -1 if batch > 1 else 1
    profile = {"min": [1, 3, 8, 8], "opt": [2, 3, 8, 8], "max": [batch, 3, 8, 8]}
    names = [["conv", "relu"], ["mean"]]
    header = {
        "standin": True,
        "version": VERSIONS[kind],
        "gpu": "NVIDIA H200 (stand-in)",
        "compute_capability": "9.0",
        "hardware_compatibility": "NONE",
        "version_compatible": False,
        "strongly_typed": True,
        "name": "net",
        "flags": [],
        "workspace_bytes": 0,
        "optimization_level": 3,
        "profiling_verbosity": "DETAILED",
        "inputs": [{"name": "x", "dtype": "FLOAT", "shape": [free, 3, 8, 8]}],
        "outputs": [
            {"name": "y", "dtype": "FLOAT", "shape": [free, 4, 8, 8]},
            {"name": "z", "dtype": "FLOAT", "shape": [free, 4]},
        ],
        "profiles": [{"x": profile if batch > 1 else {k: [1, 3, 8, 8] for k in profile}}],
        "layers": [
            {"Name": " + ".join(each), "LayerType": kind, "nodes": each}
            for each, kind in zip(names, ("CaskConvolution", "Reduce"), strict=True)
        ],
        "device_memory_bytes": 1_000_000,
        "weights_bytes": 50_000,
        **changes,
    }
    listed = header["compute_capability"]
    description = {
        "format": 1,
        "flavour": "tensorrt_rtx" if kind == "rtx" else "tensorrt",
        "version": header["version"],
        "compute_capability": [listed] if isinstance(listed, str) else listed,
        "precision": "fp32",
        "version_compatible": header["version_compatible"],
        "inputs": [
            {"name": i["name"], "dtype": "float32", "shape": i["shape"], "profile": None}
            for i in header["inputs"]
        ],
        "outputs": [
            {"name": o["name"], "dtype": "float32", "shape": o["shape"]} for o in header["outputs"]
        ],
        **told,
    }
    folder.mkdir()
    model = network("n" if batch > 1 else 1, seed).SerializeToString()
    (folder / "model.engine").write_bytes(engine_file.write(header, model))
    (folder / "model.json").write_text(json.dumps(description), encoding="utf-8")
    return str(folder)


def gpu(**keys: Any) -> None:
    """Say what the machine's GPU is from now on."""
    os.environ["TENSORRT_STANDIN_GPU"] = json.dumps(keys or {"name": "NVIDIA H200 (stand-in)"})


def calls(name: str = "") -> list[tuple[Any, ...]]:
    """What was called of the stand-ins, all or one function's."""
    found: list[tuple[Any, ...]] = machine().calls
    return [each for each in found if not name or each[0] == name]


def machine() -> Any:
    """The stand-in's machine."""
    return importlib.import_module("cuda.standin.machine").machine


def forget() -> None:
    """Let the stand-ins be imported anew."""
    for name in [name for name in sys.modules if name.partition(".")[0] in STANDINS]:
        del sys.modules[name]


def opened(name: str) -> ModuleType:
    """A fresh copy of profilers/runtime/<name>.py."""
    spec = importlib.util.spec_from_file_location(f"runtime_{name}", PROGRAMS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def standing(kind: str, monkeypatch: pytest.MonkeyPatch, layout: str = "13") -> ModuleType:
    """The program for a kind of `VERSIONS`, on a machine of the stand-ins with one GPU."""
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setenv("TENSORRT_STANDIN_MAJOR", "11" if kind == "trt-11" else "10")
    monkeypatch.setenv("CUDA_STANDIN_LAYOUT", layout)
    monkeypatch.setenv("TENSORRT_STANDIN_GPU", "{}")
    forget()
    return opened("trt_rtx" if kind == "rtx" else "trt")


def stood(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, ModuleType]]:
    """The kind that the parameter names and its program; all is closed and forgotten after."""
    kind = request.param
    program = standing(kind, monkeypatch, {"trt-10": "12", "trt-11": "13", "rtx": "13"}[kind])
    yield kind, program
    program.close()
    forget()


runner = pytest.fixture(stood)
every_kind = pytest.mark.parametrize("runner", list(VERSIONS), indirect=True)
Runner = tuple[str, ModuleType]
Bound = Callable[[], object]
