"""Bad input on the command line: what is said, the exit code, and nothing left behind."""

import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_graphs as graphs
import pytest
from onnx import TensorProto, numpy_helper
from onnx_graphs import model, node
from PIL import Image

from edgedeploy import cli

QUICK = ("--runs", "5", "--duration", "0.01")


class Said(NamedTuple):
    """What a call of the command line gave."""

    code: int
    out: str
    err: str


Shell = Callable[..., Said]


class SideEffect:
    """A pickle that makes a folder when it is loaded as an object."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("it-ran",)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models, data sets, targets and workloads, nearly all of them wrong."""
    folder = tmp_path_factory.mktemp("bench")
    for made in (models, datasets, targets, workloads, code):
        made(folder)
    return folder


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
        "job-type": "[model]\nsource = 'net.onnx'\nverify_samples = 'many'\n",
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


@pytest.fixture
def shell(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """The command line, called in this process from the folder of wrong things."""
    monkeypatch.chdir(bench)

    def called(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["edgedeploy", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        said = capsys.readouterr()
        return Said(code if isinstance(code, int) else -1, said.out, said.err)

    return called


def half_runs() -> list[Path]:
    """Run folders without a finished row."""
    root = Path(os.environ["EDGEDEPLOY_RUNS"])
    found = root.iterdir() if root.exists() else ()
    return [run for run in found if not list(run.glob("rows/*/row.json"))]


SHAPE = ("--shape", "1,3,8,8")
DEPLOY = ("deploy", "net.onnx", *QUICK)
FP32 = (*DEPLOY, "-p", "fp32")
INT8 = (*DEPLOY, "-p", "int8")

# what is typed, the exit code, and parts of what stderr says
CASES: dict[str, tuple[Sequence[str], int, Sequence[str]]] = {
    # --- model files
    "missing": (
        ("export", "nett.onnx"),
        2,
        ["error: model nett.onnx does not exist", "do: Did you mean 'net.onnx'?"],
    ),
    "a folder": (
        ("export", "folder.onnx"),
        2,
        ["model folder.onnx is a folder, not a file", "do: Name the file itself."],
    ),
    "empty": (
        ("export", "empty.onnx"),
        2,
        ["model empty.onnx is empty (0 bytes)", "do: Export or copy it again."],
    ),
    "truncated": (
        ("export", "cut.onnx"),
        2,
        ["cut.onnx is not ONNX, or is truncated (", "do: Export or copy it again."],
    ),
    "no ONNX": (("export", "page.onnx"), 2, ["page.onnx is not ONNX, or is truncated (26 bytes)"]),
    "another suffix": (
        ("export", "net.tflite"),
        2,
        ["'net.tflite' is neither a built-in workload nor a .toml file nor a model"],
    ),
    "a constant": (
        ("export", "constant.onnx"),
        2,
        ["the model has no input: it is a constant", "do: Export with the input as an argument"],
    ),
    "a dead output": (
        ("export", "dead.onnx"),
        2,
        ["output 'y' depends on no input: the export baked in a constant"],
    ),
    "a model of opset 99": (
        ("export", "future.onnx"),
        4,
        ["has opset 99; opsets up to ", "do: Export it again with opset_version=18."],
    ),
    "NaN weights": (
        ("export", "nan.onnx"),
        2,
        ["weight 'w1' holds NaN", "do: The checkpoint is broken, or training diverged."],
    ),
    "an unknown operator": (
        ("export", "unknown-operator.onnx"),
        2,
        ["the model is not valid ONNX (opset 18): ", "Frobnicate"],
    ),
    "text inputs": (("export", "text.onnx"), 2, ["input 'x': no values can be drawn for dtype"]),
    "symbolic sizes": (
        ("export", "free.onnx"),
        2,
        ["input 'x' has a symbolic dimension: (n, 3, h, w)", "do: Give it: --shape x=N,3,N,N"],
    ),
    "cut TorchScript": (
        ("export", "cut.pt", *SHAPE),
        2,
        ["cut.pt is not TorchScript, or is truncated: "],
    ),
    "a cut program": (
        ("export", "cut.pt2"),
        2,
        ["cut.pt2 is not an exported program, or is truncated: "],
    ),
    "a pickled object as model": (
        ("export", "evil.pt", *SHAPE),
        2,
        [
            "evil.pt holds a state_dict or a pickled module, not TorchScript",
            "do: For a state_dict name its architecture: [model] source = 'file.py:build'",
        ],
    ),
    # --- options
    "opset 99": (
        ("export", "net.onnx", "--opset", "99"),
        2,
        ["opset 99 is asked for; opsets up to "],
    ),
    "opset 0": (("export", "net.onnx", "--opset", "0"), 2, ["Invalid value for '--opset'"]),
    "another shape": (
        ("export", "net.onnx", "--shape", "x=1,3,9,9"),
        2,
        ["input 'x' of the model is (1, 3, 8, 8), the shape asked for (1, 3, 9, 9)"],
    ),
    "another layout": (
        ("export", "net.onnx", "--shape", "1,8,8,3"),
        2,
        ["do: The layout differs (NCHW or NHWC): give the shape in the model's own order."],
    ),
    "a shape for nobody": (
        ("export", "net.onnx", "--shape", "image=1,3,8,8"),
        2,
        ["the workload declares inputs image; the model's are x"],
    ),
    "no shape": (
        ("export", "net.onnx", "--shape", "1x3x8x8"),
        2,
        ["--shape '1x3x8x8' is not a shape", "do: Write name=1,3,224,224 with whole numbers"],
    ),
    "no mean": (
        ("export", "net.onnx", "--mean", "half"),
        2,
        ["--mean 'half' is not numbers", "do: Write --mean 0.485,0.456,0.406, one a channel."],
    ),
    "too many means": (
        ("export", "net.onnx", "--mean", "1,2"),
        2,
        ["input 'x': mean has 2 values for 3 channels", "do: Give 1 or 3."],
    ),
    "std 0": (("export", "net.onnx", "--std", "0"), 2, ["input 'x': std contains 0"]),
    "fp64": (
        (*DEPLOY, "-p", "fp64"),
        4,
        ["target host has no precision 'fp64'", "It has: fp32, int8."],
    ),
    "no samples": (("export", "net.onnx", "--samples", "0"), 2, ["Invalid value for '--samples'"]),
    "no threads": ((*FP32, "--threads", "0"), 2, ["Invalid value for '--threads'"]),
    "no runs": (("deploy", "net.onnx", "--runs", "0"), 2, ["Invalid value for '--runs'"]),
    "runs in words": (
        ("bench", "net.onnx", "--runs", "ten"),
        2,
        ["Invalid value for '--runs': Input should be a valid integer"],
    ),
    "no time": (
        (*FP32, "--timeout", "0.1"),
        1,
        ["export gave no answer to export_model within 0.1 s", "do: Raise --timeout"],
    ),
    "a metric without data": (
        (*FP32, "--metric", "top5"),
        2,
        ["--metric top5 judges an evaluation set, and workload 'net' has none"],
    ),
    "an unknown option": (("export", "net.onnx", "--sahpe", "1"), 2, ["No such option: --sahpe"]),
    "an unknown verb": (("depoly", "net.onnx"), 2, ["No such command 'depoly'"]),
    "no workload": (("export",), 2, ["Missing argument 'WORKLOAD'"]),
    "nothing to deploy": (("deploy",), 2, ["deploy takes a workload or --resume, one of the two"]),
    "too much to deploy": (
        ("deploy", "net.onnx", "--resume", "last"),
        2,
        ["deploy takes a workload or --resume, one of the two"],
    ),
    # --- data
    "NHWC data for an NCHW model": (
        ("export", "net.onnx", "--calibration", "nhwc.npz"),
        2,
        [
            "nhwc.npz[0]: input 'x' found shape (8, 8, 3), expected (3, 8, 8)",
            "do: It fits after a NHWC to NCHW transpose: array.transpose(2, 0, 1) a sample.",
        ],
    ),
    "data of another dtype": (
        ("export", "net.onnx", "--calibration", "double.npz"),
        2,
        ["input 'x' found dtype float64, expected float32", "do: Convert it: array.astype("],
    ),
    "an empty data set": (
        ("export", "net.onnx", "--calibration", "none.npz"),
        2,
        ["none.npz is empty: 0 samples"],
    ),
    "NaN in the data": (
        ("export", "net.onnx", "--calibration", "nan.npz"),
        2,
        ["nan.npz[0]: input 'x' holds NaN in 192 of 192 values"],
    ),
    "a cut .npz": (
        ("export", "net.onnx", "--calibration", "cut.npz"),
        2,
        ["cut.npz is not a sound .npz file"],
    ),
    "a folder without images": (
        ("export", "net.onnx", "--calibration", "notes"),
        2,
        ["notes holds no image: 1 files, none ending in .jpg"],
    ),
    "a folder that is not there": (
        ("export", "net.onnx", "--calibration", "imges/"),
        2,
        ["data 'imges/' not found: looked at "],
    ),
    "a damaged image": (
        ("export", "net.onnx", "--calibration", "broken"),
        2,
        ["broken/1.png is unreadable or truncated"],
    ),
    "images for two channels": (
        ("export", "two-channels.onnx", "--calibration", "broken"),
        2,
        ["input 'x' has 2 channels as NCHW: a rgb picture has 1 or 3"],
    ),
    "a file that is no data": (
        ("export", "net.onnx", "--calibration", "page.onnx"),
        2,
        ["data 'page.onnx' is neither a folder, a .zip, an .npz nor module:function"],
    ),
    "an empty class": (
        (*FP32, "--evaluation", "classes"),
        2,
        ["class folder cat in ", "labels of the classes after it depend on it"],
    ),
    "too few labels": (
        (*FP32, "--evaluation", "mislabelled.npz"),
        2,
        ["mislabelled.npz is mislabelled: 2 labels in 'labels' for 4 samples"],
    ),
    "a label that is no class": (
        (*FP32, "--evaluation", "class9.npz"),
        2,
        ["mislabelled: class 9 found, expected 0 to 4"],
    ),
    "no labels": (
        (*FP32, "--evaluation", "unlabelled.npz"),
        2,
        ["unlabelled.npz has no label, and an evaluation needs one a sample"],
    ),
    "an unknown metric": (
        (*FP32, "--evaluation", "class9.npz", "--metric", "top2"),
        2,
        ["there is no metric 'top2'", "Did you mean 'top"],
    ),
    "int8 without calibration": (
        INT8,
        2,
        ["workload 'net' has no calibration data, which int8 needs", "--calibration images/"],
    ),
    # --- targets
    "an unknown target": (
        (*DEPLOY, "-t", "hots"),
        2,
        ["target 'hots' is not known", "do: Did you mean 'host'?"],
    ),
    "no target": ((*DEPLOY, "-t", ","), 2, ["no target is named", "do: Known: host"]),
    "a target file that is not there": (
        (*DEPLOY, "-t", "wrong-typ.toml"),
        2,
        ["target file wrong-typ.toml does not exist", "do: Did you mean 'wrong-type.toml'?"],
    ),
    "a wrong type in a target": (
        (*DEPLOY, "-t", "wrong-type.toml"),
        2,
        ["target wrong-type.toml: Expected `int`, got `str` - at `$.opset`"],
    ),
    "an unknown key in a target": (
        (*DEPLOY, "-t", "unknown-key.toml"),
        2,
        ["unknown field `compilr`", "do: Did you mean 'compiler'?"],
    ),
    "a target without a board": (
        (*DEPLOY, "-t", "no-board.toml"),
        2,
        ["target no-board.toml: Object missing required field `board`"],
    ),
    "an unknown transport": (
        (*DEPLOY, "-t", "far.toml"),
        2,
        ["target far.toml: transport 'telepathy' is not known", "do: Known: local."],
    ),
    "an unknown compiler": (
        (*FP32, "-t", "no-compiler.toml"),
        2,
        ["compiler 'orrt' is not known: no compilers/orrt.py", "Did you mean 'ort'?"],
    ),
    "a target of opset 99": (
        (*FP32, "-t", "opset99.toml"),
        2,
        ["opset 99 is asked for; opsets up to "],
    ),
    "an unknown run option": (
        (*FP32, "-t", "option.toml"),
        2,
        ["option 'thread' is not known", "Did you mean 'threads'?"],
    ),
    # --- workloads
    "an unknown workload": (
        ("export", "digit"),
        2,
        ["'digit' is neither a built-in workload", "do: Did you mean 'digits'?"],
    ),
    "a workload that is not there": (
        ("export", "job-kye.toml"),
        2,
        ["workload file job-kye.toml does not exist", "do: Did you mean 'job-key.toml'?"],
    ),
    "an unknown key": (
        ("export", "job-key.toml"),
        2,
        ["unknown field `cont` - at `$.calibration`", "do: Did you mean 'count'?"],
    ),
    "a wrong type": (
        ("export", "job-type.toml"),
        2,
        ["workload job-type.toml: ", "`verify_samples`"],
    ),
    "an unknown layout": (
        ("export", "job-layout.toml"),
        2,
        ["Invalid enum value 'tfrecord' - at `$.calibration.layout`"],
    ),
    "no TOML": (
        ("export", "job-syntax.toml"),
        2,
        ["workload file job-syntax.toml is not TOML", "do: Mend the line named."],
    ),
    "nothing in it": (
        ("export", "job-empty.toml"),
        2,
        ["workload job-empty.toml: Object missing required field `model`"],
    ),
    "another dtype": (
        ("export", "job-dtype.toml"),
        2,
        ["input 'x' is declared uint8; the model's is float32"],
    ),
    "another input": (
        ("export", "job-input.toml"),
        2,
        ["the workload declares inputs image; the model's are x"],
    ),
    "an unknown quantize option": (
        ("deploy", "job-quantize.toml", "-p", "int8", *QUICK),
        2,
        ["'per_chanel' is not known", "Did you mean 'per_channel'?"],
    ),
    # --- code and weights
    "a module that raises": (
        ("export", "raises.py:build", *SHAPE),
        2,
        ["model 'raises.py:build': importing ", "raised RuntimeError: half way there"],
    ),
    "an import that fails": (
        ("export", "imports.py:build", *SHAPE),
        2,
        ["raised ModuleNotFoundError: No module named 'no_such_package'"],
    ),
    "a syntax error": (("export", "syntax.py:build", *SHAPE), 2, ["raised SyntaxError: "]),
    "no such file": (
        ("export", "cod.py:build", *SHAPE),
        2,
        ["data 'cod.py' not found: looked at "],
    ),
    "no such module": (
        ("export", "no_such.place:build", *SHAPE),
        2,
        ["model 'no_such.place:build': there is no module 'no_such.place'"],
    ),
    "no such callable": (
        ("export", "code.py:biuld", *SHAPE),
        2,
        ["has no 'biuld'", "do: Did you mean 'build'?"],
    ),
    "a callable that raises": (
        ("export", "code.py:raising", *SHAPE),
        2,
        ["code.py:raising: calling it raised ValueError: no such depth"],
    ),
    "no module": (
        ("export", "code.py:number", *SHAPE),
        2,
        ["code.py:number answered int, expected a torch.nn.Module"],
    ),
    "a shape the module does not take": (
        ("export", "code.py:build", "--shape", "1,8,8,3"),
        2,
        ["the model raised RuntimeError on inputs input (1, 8, 8, 3): ", "layout of the inputs"],
    ),
    "no shape for a module": (
        ("export", "job-shapeless.toml"),
        2,
        ["declares no inputs, and a PyTorch model does not tell", "--shape 1,3,224,224"],
    ),
    "a branch on values": (
        ("export", "code.py:Branch", *SHAPE),
        2,
        [
            "no exporter gives a sound model: torchscript: tracing is not safe for this model",
            "do: Look for Python branches on values",
        ],
    ),
    "weights beside a model's own": (
        ("export", "job-double.toml"),
        2,
        ["weights 'evil.pt' are given, but 'net.onnx' holds its own"],
    ),
    "weights that are not there": (
        ("export", "job-gone.toml"),
        2,
        ["data 'w.pt' not found: looked at "],
    ),
    "weights that do not fit": (
        ("export", "job-unfit.toml"),
        2,
        ["do not fit code.py:build: Error(s) in loading state_dict for Conv2d"],
    ),
    "weights that are a pickled object": (
        ("export", "job-evil.toml"),
        2,
        ["evil.pt do not load as data: ", "pickled objects are refused (weights_only)"],
    ),
    # --- runs
    "no run yet": (("report",), 2, ["there is no run in ", "do: Make one: edgedeploy deploy"]),
    "an unknown run": (("report", "20260101-digits"), 2, ["run '20260101-digits' is not in "]),
    "an unknown run to go on with": (
        ("deploy", "--resume", "20260101-digits"),
        2,
        ["run '20260101-digits' is not in "],
    ),
    "unknown runs to compare": (("compare", "one", "two"), 2, ["run 'one' is not in "]),
    "an unknown gate": (
        ("compare", "one", "two", "--fail-if", "quicker"),
        2,
        ["quicker", "slower"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(shell: Shell, case: str) -> None:
    arguments, code, parts = CASES[case]
    said = shell(*arguments)
    row = said.out + said.err  # what fails in a row is told in the table
    assert said.code == code, row
    told = " ".join(row.split())
    for part in parts:
        assert part in told, row
    if "error: " in said.err:
        assert "\n  do: " in said.err, "no remedy is named"
    assert half_runs() == []
    assert not Path("it-ran").exists()


def test_a_finished_run_is_named_when_another_is_asked_for(shell: Shell) -> None:
    assert shell("deploy", "net.onnx", "-p", "fp32", *QUICK).code == 0
    (run,) = Path(os.environ["EDGEDEPLOY_RUNS"]).glob("2*")
    said = shell("report", run.name[:-1] + "x")
    assert said.code == 2
    assert f"Did you mean {run.name!r}?" in said.err
    assert shell("report", run.name, "--format", "docx").code == 2


def test_the_shortest_form(shell: Shell, bench: Path) -> None:
    (bench / "images").mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(bench / "images" / f"{i}.png")
    said = shell("deploy", "net.onnx", "--target", "host", "--calibration", "images/", *QUICK)
    assert said.code == 0, said.err
    assert "int8" in said.out
    assert "HTML report: " in said.out


def test_markup_in_a_name_stays_text(shell: Shell, bench: Path) -> None:
    name = "<script>alert('x')</script><img src=x onerror=alert(1)>"
    (bench / "markup.toml").write_text(f'name = "{name}"\n[model]\nsource = "net.onnx"\n')
    said = shell("deploy", "markup.toml", "-p", "fp32", *QUICK)
    assert said.code == 0, said.err
    (page,) = Path(os.environ["EDGEDEPLOY_RUNS"]).glob("*/report.html")
    text = page.read_text()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;alert" in text


@pytest.fixture
def stranger() -> Iterator[Callable[[], None]]:
    """Makes this process another user's, who may not do everything, where it is root's."""
    root = os.geteuid() == 0

    def become() -> None:
        if root:
            os.setresgid(65534, 65534, 0)
            os.setresuid(65534, 65534, 0)

    yield become
    if root:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch, bench: Path) -> Iterator[Path]:
    """A folder that everybody may look into, with a model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(bench / "net.onnx", folder / "net.onnx")
        yield folder
        monkeypatch.undo()


def test_files_that_may_not_be_read(
    shell: Shell, common: Path, stranger: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(common)
    job = common / "job.toml"
    job.write_text("[model]\nsource = 'nett.onnx'\n")
    assert "not found" in shell("export", "job.toml").err  # all is imported now
    job.write_text("[model]\nsource = 'net.onnx'\n")
    (common / "net.onnx").chmod(0)
    stranger()
    said = shell("export", "net.onnx")
    assert said.code == 2
    assert "error: no permission to read model net.onnx\n  do: chmod +r net.onnx" in said.err
    said = shell("export", "job.toml")
    assert said.code == 2
    assert f"error: no permission to read model {common / 'net.onnx'}\n" in said.err


def test_a_workload_file_that_may_not_be_read(
    shell: Shell, common: Path, stranger: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(common)
    job = common / "job.toml"
    job.write_text("[model]\nsource = 'nett.onnx'\n")
    assert "not found" in shell("export", "job.toml").err
    job.chmod(0)
    stranger()
    said = shell("export", "job.toml")
    assert said.code == 2
    assert "error: workload file job.toml cannot be read: Permission denied" in said.err


def test_runs_that_may_not_be_written(
    shell: Shell, common: Path, stranger: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(common)
    monkeypatch.setenv("EDGEDEPLOY_RUNS", str(common / "net.onnx"))
    said = shell("deploy", "net.onnx", "-p", "fp32")
    assert said.code == 1
    assert f"error: cannot write {common / 'net.onnx'}: File exists" in said.err
    monkeypatch.setenv("EDGEDEPLOY_RUNS", str(common / "runs"))
    common.chmod(0o555)
    stranger()
    said = shell("deploy", "net.onnx", "-p", "fp32")
    assert said.code == 1
    assert f"error: cannot write {common / 'runs'}: Permission denied" in said.err
    assert (
        "do: Free space or correct the permissions; EDGEDEPLOY_CACHE and EDGEDEPLOY_RUNS"
        in said.err
    )
