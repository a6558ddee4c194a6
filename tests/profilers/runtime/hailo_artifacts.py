"""HEFs of the stand-in with their model.json around small ONNX models, and its chips."""

import fcntl
import importlib.util
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]
ROOT = Path(__file__).parents[3]
FAKES = ROOT / "tests" / "fakes"
RUNTIME = ROOT / "profilers" / "runtime"
# the modules of the program
sys.path.append(str(RUNTIME / "hailo"))
SIZE = 8
# raw 0..255 = value * STD + MEAN
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def program(name: str) -> ModuleType:
    """A fresh copy of a runtime program; its folder's modules are shared between copies."""
    spec = importlib.util.spec_from_file_location(f"fresh_{name}", RUNTIME / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def body(seed: int, x: str, y: str, z: str) -> tuple[list[Any], list[Any]]:
    """Nodes and weights from `x` (1, 3, S, S) to `y` (1, 4, S, S) and `z` (1, 5)."""
    rng = np.random.default_rng(seed)
    weights = {
        "w": rng.normal(0, 0.3, (4, 3, 3, 3)),
        "b": rng.normal(0, 0.1, 4),
        "v": rng.normal(0, 0.5, (4, 5)),
    }
    nodes = [
        helper.make_node("Conv", [x, "w", "b"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], [y]),
        helper.make_node("GlobalAveragePool", [y], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "v"], [z]),
    ]
    kept = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items()]
    return nodes, kept


def constant(name: str, value: Any, dtype: type = np.float32) -> Any:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def model_of(nodes: list[Any], kept: list[Any], inputs: Any, outputs: Any) -> ModelProto:
    def values(shapes: dict[str, list[int]]) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        ]

    graph = helper.make_graph(nodes, "net", values(inputs), values(outputs), kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def plain_model(seed: int = 0) -> ModelProto:
    """The model itself: `x` (1, 3, S, S) normalized to `y` (1, 4, S, S) and `z` (1, 5)."""
    nodes, kept = body(seed, "x", "y", "z")
    outputs = {"y": [1, 4, SIZE, SIZE], "z": [1, 5]}
    return model_of(nodes, kept, {"x": [1, 3, SIZE, SIZE]}, outputs)


def chip_model(seed: int = 0) -> ModelProto:
    """The same for the chip: raw NHWC in, normalization inside, outputs (1, H, W, C)."""
    nodes, kept = body(seed, "inner", "y/nchw", "z/flat")
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["inner"], perm=[0, 3, 1, 2]),
        *nodes,
        helper.make_node("Transpose", ["y/nchw"], ["y"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["z/flat", "z/shape"], ["z"]),
    ]
    kept = [*kept, constant("mean", MEAN), constant("std", STD)]
    kept.append(constant("z/shape", [1, 1, 1, 5], np.int64))
    outputs = {"y": [1, SIZE, SIZE, 4], "z": [1, 1, 1, 5]}
    return model_of(nodes, kept, {"x": [1, SIZE, SIZE, 3]}, outputs)


def manifest(network: str = "net", **changed: Any) -> dict[str, Any]:
    """What model.json says of these models."""
    return {
        "format": 1,
        "compiler": "3.33.0",
        "runtime": "4.23.0",
        "hw_arch": "hailo8",
        "network": network,
        "batch_size": 1,
        "inputs": [
            {
                "name": "x",
                "layer": f"{network}/input_layer1",
                "dtype": "float32",
                "shape": [1, 3, SIZE, SIZE],
                "layout": "NCHW",
                "wire_shape": [SIZE, SIZE, 3],
                "wire_dtype": "uint8",
                "scale": STD,
                "offset": MEAN,
                "reverse_channels": False,
            }
        ],
        "outputs": [
            {
                "name": "y",
                "layer": f"{network}/conv1",
                "dtype": "float32",
                "shape": [1, 4, SIZE, SIZE],
                "layout": "NCHW",
                "wire_shape": [SIZE, SIZE, 4],
            },
            {
                "name": "z",
                "layer": f"{network}/fc1",
                "dtype": "float32",
                "shape": [1, 5],
                "layout": None,
                "wire_shape": [5],
            },
        ],
        **changed,
    }


def hef_header(said: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """What hef.json of the stand-in says of them."""
    first = said["inputs"][0]
    shapes = {"y": [SIZE, SIZE, 4], "z": [1, 1, 5]}
    return {
        "standin": True,
        "hef_version": 3,
        "sdk_version": said["compiler"],
        "hw_arch": said["hw_arch"],
        "network_group": said["network"],
        "inputs": [
            {"name": first["layer"], "shape": first["wire_shape"], "dtype": "uint8", "onnx": "x"}
        ],
        "outputs": [
            {
                "name": each["layer"],
                "shape": shapes[each["name"]],
                "dtype": "uint8",
                "onnx": each["name"],
            }
            for each in said["outputs"]
        ],
        "fps": 1000.0,
        **changed,
    }


def artifact(
    folder: Path, network: str = "net", seed: int = 0, header: Any = None, **changed: Any
) -> str:
    """model.hef and model.json in a folder, which is answered; `changed` are entries of the latter.

    The HEF is for the chip that model.json says, unless `header` (entries of hef.json) differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    said = manifest(network, **changed)
    (folder / "model.json").write_text(json.dumps(said), encoding="utf-8")
    with zipfile.ZipFile(folder / "model.hef", "w") as archive:
        archive.writestr("hef.json", json.dumps(hef_header(said, **(header or {}))))
        archive.writestr("model.onnx", chip_model(seed).SerializeToString())
    return str(folder)


def pictures(count: int, seed: int = 1) -> tuple[Array, Array]:
    """Raw pictures (N, S, S, 3) uint8, and as the model takes them: (N, 1, 3, S, S) float32."""
    raw = np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    scaled = (raw.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    return raw, np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)[:, None])


def expected(x: Array, seed: int = 0) -> dict[str, Array]:
    """What the model gives for (N, 1, 3, S, S), by ONNX Runtime."""
    session = onnxruntime.InferenceSession(plain_model(seed).SerializeToString())
    found = [session.run(["y", "z"], {"x": each}) for each in x]
    return {name: np.stack([each[i] for each in found]) for i, name in enumerate(("y", "z"))}


def chips(folder: Path, **said: Any) -> None:
    """What the stand-in's chips are from now on; `folder` is its state's."""
    (folder / "state.json").write_text(json.dumps(said), encoding="utf-8")


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stand-in's state; its package is the one found, no tool on the PATH."""
    folder = tmp_path / "board"
    folder.mkdir()
    monkeypatch.setenv("HAILO_STANDIN_STATE", str(folder))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(FAKES))
    return folder


@pytest.fixture
def hailo(board: Path) -> Iterator[ModuleType]:
    """A fresh copy of the program, closed at the end."""
    module = program("hailo")
    yield module
    module.close()


def free(folder: Path) -> bool:
    """Whether nobody holds the first chip."""
    with (folder / "0000-01-00.0.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
