"""A folder of models, data sets, targets and workloads, nearly all of them wrong."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphs as graphs
from onnx import TensorProto, numpy_helper
from onnx_graphs import model, node
from PIL import Image


class SideEffect:
    """A pickle that makes a folder when it is loaded as an object."""

    def __init__(self, path: str | Path = "it-ran") -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def write_all(folder: Path) -> None:
    for made in (models, datasets, targets, workloads, code):
        made(folder)


def models(folder: Path) -> None:
    whole = graphs.saved(graphs.classifier(), folder / "net.onnx").read_bytes()
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (folder / "page.onnx").write_text("<html>404 Not Found</html>")
    (folder / "folder.onnx").mkdir()
    ones = numpy_helper.from_array(np.ones((1, 3), np.float32))
    constant = node("Constant", [], ["y"], value=ones)
    graphs.saved(model([constant], {}, {"y": (1, 3)}), folder / "constant.onnx")
    graphs.saved(model([constant], {"x": (1, 3)}, {"y": (1, 3)}), folder / "dead.onnx")
    graphs.saved(graphs.relu(opset=99), folder / "future.onnx")
    graphs.saved(graphs.relu(("n", 3, "h", "w")), folder / "free.onnx")
    graphs.saved(graphs.relu((1, 2, 8, 8)), folder / "two-channels.onnx")
    made = graphs.classifier()
    weight = numpy_helper.to_array(made.graph.initializer[0]).copy()
    weight[0, 0, 0, 0] = np.nan
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w1"))
    graphs.saved(made, folder / "nan.onnx")
    made = model([node("Frobnicate", ["x"], ["y"])], {"x": (1, 3)}, {"y": (1, 3)})
    graphs.saved(made, folder / "unknown-operator.onnx")
    text = graphs.relu((1, 3))
    for value in (text.graph.input[0], text.graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.STRING
    text.graph.node[0].op_type = "Identity"
    graphs.saved(text, folder / "text.onnx")
    (folder / "cut.pt").write_bytes(b"PK\x03\x04 cut off")
    (folder / "cut.pt2").write_bytes(b"PK\x03\x04 cut off")
    (folder / "evil.pt").write_bytes(pickle.dumps(SideEffect()))


def datasets(folder: Path) -> None:
    images = np.zeros((4, 3, 8, 8), np.float32)
    np.savez(folder / "nhwc.npz", x=images.transpose(0, 2, 3, 1))
    np.savez(folder / "double.npz", x=images.astype(np.float64))
    np.savez(folder / "none.npz", x=images[:0])
    np.savez(folder / "nan.npz", x=np.full_like(images, np.nan))
    np.savez(folder / "mislabelled.npz", x=images, labels=[0, 1])
    np.savez(folder / "class9.npz", x=images, labels=[0, 1, 2, 9])
    np.savez(folder / "unlabelled.npz", x=images)
    (folder / "cut.npz").write_bytes((folder / "nhwc.npz").read_bytes()[:100])
    (folder / "notes").mkdir()
    (folder / "notes" / "readme.txt").write_text("no image")
    for name in ("cat", "dog"):
        (folder / "classes" / name).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "classes" / "dog" / "1.png")
    (folder / "broken").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "broken" / "1.png")
    whole = (folder / "broken" / "1.png").read_bytes()
    (folder / "broken" / "1.png").write_bytes(whole[:40])


def targets(folder: Path) -> None:
    usual = {
        "board": '"a board"',
        "transport": '"local"',
        "compiler": '"ort"',
        "profiler": '"ort"',
        "opset": "18",
    }
    for name, changes in {
        "wrong-type": {"opset": '"eighteen"'},
        "unknown-key": {"compilr": '"ort"'},
        "no-board": {"board": None},
        "no-compiler": {"compiler": '"orrt"'},
        "far": {"transport": '"telepathy"'},
        "opset99": {"opset": "99"},
        "option": {"run_options": "{ thread = 2 }"},
    }.items():
        lines = [f"{k} = {v}\n" for k, v in {**usual, **changes}.items() if v is not None]
        (folder / f"{name}.toml").write_text("".join(lines))


def workloads(folder: Path) -> None:
    inputs = "[[inputs]]\nshape = [1, 3, 8, 8]\n"
    for name, text in {
        "job-key": "[model]\nsource = 'net.onnx'\n[calibration]\nlayout = 'seeded'\ncont = 3\n",
        "job-type": "verify_samples = 'many'\n[model]\nsource = 'net.onnx'\n",
        "job-layout": "[model]\nsource = 'net.onnx'\n[calibration]\nlayout = 'tfrecord'\n",
        "job-syntax": "[model\nsource = 'net.onnx'\n",
        "job-empty": "",
        "job-dtype": "[model]\nsource = 'net.onnx'\n[[inputs]]\ndtype = 'uint8'\n",
        "job-input": "[model]\nsource = 'net.onnx'\n[[inputs]]\nname = 'image'\n",
        "job-double": "[model]\nsource = 'net.onnx'\nweights = 'evil.pt'\n",
        "job-evil": f"[model]\nsource = 'code.py:build'\nweights = 'evil.pt'\n{inputs}",
        "job-unfit": f"[model]\nsource = 'code.py:build'\nweights = 'w.safetensors'\n{inputs}",
        "job-gone": f"[model]\nsource = 'code.py:build'\nweights = 'w.pt'\n{inputs}",
        "job-shapeless": "[model]\nsource = 'code.py:build'\n",
        "job-quantize": "quantize_options = { per_chanel = true }\n[model]\nsource = 'net.onnx'\n"
        "[calibration]\nlayout = 'seeded'\n",
    }.items():
        (folder / f"{name}.toml").write_text(text)


def code(folder: Path) -> None:
    (folder / "code.py").write_text(
        "import torch\n"
        "def build():\n    return torch.nn.Conv2d(3, 2, 3)\n"
        "def number():\n    return 7\n"
        "def raising():\n    raise ValueError('no such depth')\n"
        "class Branch(torch.nn.Module):\n"
        "    def forward(self, x):\n        return x * 2 if x.sum() > 0 else x - 1\n"
    )
    (folder / "raises.py").write_text("raise RuntimeError('half way there')\n")
    (folder / "imports.py").write_text("import no_such_package\n")
    (folder / "syntax.py").write_text("def build(:\n")
    header = b'{"other":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    content = len(header).to_bytes(8, "little") + header + b"\0\0\0\0"
    (folder / "w.safetensors").write_bytes(content)
