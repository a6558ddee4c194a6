"""A HEF of the HailoRT stand-in that sums channels, and what tests of the stand-in share."""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FAKES = Path(__file__).parents[2] / "fakes"
SHAPE = (4, 6, 3)
WEIGHTS = np.array([[0.5, 1.0, -1.0], [2.0, 0.0, 0.25]], np.float32)
Array = NDArray[Any]


def write_hef(path: Path, name: str = "tiny", weights: Array = WEIGHTS, **changes: Any) -> str:
    """A HEF of (4, 6, 3) to the mean over the picture of two sums of its channels, and the sums."""
    nodes = [
        helper.make_node("Transpose", ["in"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "w"], ["sums"]),
        helper.make_node("GlobalAveragePool", ["sums"], ["mean"]),
        helper.make_node("Transpose", ["mean"], ["out"], perm=[0, 2, 3, 1]),
        helper.make_node("Transpose", ["sums"], ["map"], perm=[0, 2, 3, 1]),
    ]
    shapes = {"in": [1, *SHAPE], "out": [1, 1, 1, 2], "map": [1, 4, 6, 2]}
    values = {
        key: helper.make_tensor_value_info(key, TensorProto.FLOAT, shape)
        for key, shape in shapes.items()
    }
    kept = [numpy_helper.from_array(weights.reshape(2, 3, 1, 1), "w")]
    graph = helper.make_graph(nodes, name, [values["in"]], [values["out"], values["map"]], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    grid = {"dtype": "uint8", "scale": 0.5, "zero_point": 100}
    header = {
        "standin": True,
        "hef_version": 3,
        "sdk_version": "3.33.0",
        "hw_arch": "hailo8",
        "network_group": name,
        "inputs": [
            {"name": f"{name}/input_layer1", "shape": SHAPE, "dtype": "uint8", "onnx": "in"}
        ],
        "outputs": [
            {"name": f"{name}/fc1", "shape": [1, 1, 2], "onnx": "out", **grid},
            {"name": f"{name}/conv1", "shape": [4, 6, 2], "onnx": "map", **grid},
        ],
        "fps": 1000.0,
        **changes,
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hef.json", json.dumps(header))
        archive.writestr("model.onnx", model.SerializeToString())
    return str(path)


class State:
    """The made-up machine of $HAILO_STANDIN_STATE; a call says what it is like from now on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def __call__(self, **keys: Any) -> None:
        (self.folder / "state.json").write_text(json.dumps(keys), encoding="utf-8")


def forget() -> None:
    """Let the package be imported anew."""
    for name in [name for name in sys.modules if name.split(".")[0] == "hailo_platform"]:
        del sys.modules[name]
