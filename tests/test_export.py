"""The export stage through its process: what makes a second one a hit, and what does not."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
import torch
import torch_nets as nets
from PIL import Image
from safetensors.torch import save_file

from edgedeploy import export as stage
from edgedeploy.cache import Cached
from edgedeploy.errors import EdgeDeployError, WorkerError
from edgedeploy.export import Exported, export
from edgedeploy.exporter import export_model
from edgedeploy.worker import Worker
from edgedeploy.workload import InputSpec, ModelSpec, Workload, load_workload

Write = Callable[..., Path]

Edit = Callable[[Path], object]


class StartedError(Exception):
    """A worker would have been started."""


def no_worker(*_: object, **__: object) -> NoReturn:
    raise StartedError


class Project:
    """A folder with a model's code, weights and calibration images, exported once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.cache = folder / "cache"
        self.folder.mkdir()
        (self.folder / "layers.py").write_text("WIDTH = 3\n")
        (self.folder / "classes.txt").write_text("cat dog eel")
        (self.folder / "net.py").write_text(
            "from pathlib import Path\n"
            "import torch\n"
            "from layers import WIDTH\n"
            "class Net(torch.nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        classes = Path(__file__).with_name('classes.txt').read_text().split()\n"
            "        self.conv = torch.nn.Conv2d(WIDTH, len(classes), 3)\n"
            "    def forward(self, image):\n"
            "        return self.conv(image).mean((2, 3))\n"
        )
        save_file({"conv.weight": torch.ones(3, 3, 3, 3), "conv.bias": torch.zeros(3)},
                  self.folder / "w.safetensors")  # fmt: skip
        (self.folder / "images").mkdir()
        for i in range(4):
            pixels = np.full((8, 8, 3), 40 * i, np.uint8)
            Image.fromarray(pixels).save(self.folder / "images" / f"{i}.png")
        (self.folder / "job.toml").write_text(
            "verify_samples = 4\n[model]\nsource = 'net.py:Net'\nweights = 'w.safetensors'\n"
            "[[inputs]]\nshape = [1, 3, 8, 8]\nmean = [0.5]\nstd = [0.5]\n"
            "[calibration]\nlayout = 'images'\ndata = 'images'\n"
        )

    def workload(self, **changes: Any) -> Workload:
        return load_workload(self.folder / "job.toml", **changes)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Exported, Cached]:
    project = Project(tmp_path_factory.mktemp("export"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEDEPLOY_CACHE", str(project.cache))
        made, cached = export(project.workload(), 18)
    return project, made, cached


@pytest.fixture
def project(
    exported: tuple[Project, Exported, Cached], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """The project as it was when exported; from now on a worker started is an error."""
    made = exported[0]
    monkeypatch.setenv("EDGEDEPLOY_CACHE", str(made.cache))
    monkeypatch.setattr(stage, "Worker", no_worker)
    before = {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()}
    yield made
    for path in made.folder.rglob("*"):
        if path.is_file() and path not in before:
            path.unlink()
    for path, content in before.items():
        path.write_bytes(content)


def image(path: Path, shade: int) -> None:
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(path)


def test_the_first_is_a_miss_and_says_so(exported: tuple[Project, Exported, Cached]) -> None:
    project, made, cached = exported
    assert (cached.event.outcome, cached.event.why) == ("miss", "nothing was kept for it yet")
    folder = Path(cached.folder)
    assert Path(made.model.path) == folder / "model.onnx"
    assert folder.is_relative_to(project.cache)
    assert sorted(path.name for path in folder.iterdir()) == [
        "entry.json",
        "model.onnx",
        "raw.onnx",
        "reference.npz",
    ]
    assert made.inputs[0].mean == (0.5,)
    assert made.inputs[0].layout == "NCHW"
    with np.load(made.model.reference) as kept:
        shades = [(40 * i / 255 - 0.5) / 0.5 for i in range(4)]
        assert kept["inputs/image"][:, 0, 0, 0, 0] == pytest.approx(shades)
        assert kept["outputs/output"][:, 0, 0] == pytest.approx([27 * s for s in shades], rel=1e-5)


def test_the_second_is_a_hit_without_a_process(
    project: Project, exported: tuple[Project, Exported, Cached]
) -> None:
    made, cached = export(project.workload(), 18)
    assert cached.event.outcome == "hit"
    assert made == exported[1]


@pytest.mark.parametrize(
    "edit",
    [
        lambda f: (f / "notes.txt").write_text("not the model's"),
        lambda f: (f / "other.py").write_text("WIDTH = 5"),
        lambda f: os.utime(f / "net.py"),
        lambda f: (f / "layers.py").write_bytes((f / "layers.py").read_bytes()),
        lambda f: (f / "images" / "readme.md").write_text("four grays"),
    ],
    ids=["new file", "unused code", "touched", "written again", "no image"],
)
def test_what_the_model_does_not_depend_on_keeps_the_hit(project: Project, edit: Edit) -> None:
    edit(project.folder)
    assert export(project.workload(), 18)[1].event.outcome == "hit"


@pytest.mark.parametrize(
    "edit",
    [
        lambda f: (f / "net.py").write_text((f / "net.py").read_text() + "# changed\n"),
        lambda f: (f / "layers.py").write_text("WIDTH = 1 + 2\n"),
        lambda f: (f / "classes.txt").write_text("cat dog elk"),
        lambda f: save_file(
            {"conv.weight": torch.ones(3, 3, 3, 3), "conv.bias": torch.ones(3)}, f / "w.safetensors"
        ),
        lambda f: image(f / "images" / "2.png", 81),
        lambda f: image(f / "images" / "5.png", 80),
        lambda f: (f / "images" / "3.png").unlink(),
        lambda f: (f / "layers.py").unlink(),
    ],
    ids=["code", "imported", "opened", "weights", "image", "image more", "image less", "gone"],
)
def test_what_the_model_depends_on_makes_a_miss(project: Project, edit: Edit) -> None:
    edit(project.folder)
    with pytest.raises(StartedError):
        export(project.workload(), 18)


@pytest.mark.parametrize(
    "inputs",
    [
        {"mean": (0.4,)},
        {"std": (0.25,)},
        {"shape": (1, 3, 9, 9)},
        {"color": "bgr"},
        {"name": "picture"},
        {"value_range": (0.0, 255.0)},
    ],
)
def test_how_an_input_is_prepared_makes_a_miss(project: Project, inputs: dict[str, Any]) -> None:
    workload = project.workload()
    changed = msgspec.structs.replace(workload.inputs[0], **inputs)
    with pytest.raises(StartedError):
        export(project.workload(inputs=(changed,)), 18)


def test_opset_samples_and_model_options_make_a_miss(project: Project) -> None:
    other = msgspec.structs.replace(project.workload().model, exporter="dynamo")
    for workload, opset in (
        (project.workload(), 17),
        (project.workload(verify_samples=3), 18),
        (project.workload(model=other), 18),
        (project.workload(calibration=None), 18),
    ):
        with pytest.raises(StartedError):
            export(workload, opset)
    assert export(project.workload(), 18)[1].event.outcome == "hit"


def test_how_many_samples_calibrate_is_not_the_models_matter(project: Project) -> None:
    spec = project.workload().calibration
    assert spec is not None
    fewer = project.workload(calibration=msgspec.structs.replace(spec, count=2))
    assert export(fewer, 18)[1].event.outcome == "hit"


@pytest.mark.parametrize("package", ["torch", "onnxsim", "safetensors", "pillow"])
def test_other_versions_make_a_miss(
    project: Project, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata,
        "version",
        lambda name: "0.0" if name.lower() == package else real(name),
    )
    with pytest.raises(StartedError):
        export(project.workload(), 18)


def test_another_import_path_makes_a_miss(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    with pytest.raises(StartedError):
        export(project.workload(), 18)


def test_other_data_under_the_same_name_makes_a_miss(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first place a file is looked for may come to hold one."""
    weights = project.folder / "w.safetensors"
    (tmp_path / "w.safetensors").write_bytes(weights.read_bytes())
    monkeypatch.setenv("EDGEDEPLOY_DATA", str(tmp_path))
    assert export(project.workload(), 18)[1].event.outcome == "hit"
    weights.unlink()
    with pytest.raises(StartedError):
        export(project.workload(), 18)


def test_the_cache_can_be_switched_off(project: Project) -> None:
    with pytest.raises(StartedError):
        export(project.workload(), 18, use_cache=False)


def test_files_read_past_python_are_noted(tmp_path: Path) -> None:
    """Libraries in C++ and Rust open these: no audit hook hears of it."""
    two = (torch.ones(1, 4), torch.ones(1, 4))
    torch.jit.trace(nets.Two().eval(), two).save(str(tmp_path / "m.pt"))
    torch.export.save(torch.export.export(nets.Two().eval(), two), str(tmp_path / "m.pt2"))
    weight = {"w": graphs.draw(50, 50)}
    made = graphs.model(
        [graphs.node("MatMul", ["x", "w"], ["y"])], {"x": (1, 50)}, {"y": (1, 50)}, weight
    )
    onnx.save(made, str(tmp_path / "m.onnx"), save_as_external_data=True, location="w.bin")
    row = InputSpec(shape=(1, 4))
    for name, inputs, files in (
        ("m.pt", (row, row), {"m.pt"}),
        ("m.pt2", (), {"m.pt2"}),
        ("m.onnx", (), {"m.onnx", "w.bin"}),
    ):
        model = ModelSpec(source=name)
        spec = Workload(name="net", model=model, inputs=inputs, folder=str(tmp_path))
        with tempfile.TemporaryDirectory() as scratch:
            seen = export_model(msgspec.to_builtins(spec), 18, scratch)["seen"]["files"]
        assert {str(tmp_path / file) for file in files} <= set(seen), name
        assert not [file for file in seen if file.startswith(scratch)]


def onnx_workload(path: Path, **fields: Any) -> Workload:
    model = ModelSpec(source=path.name)
    return Workload(name="net", model=model, folder=str(path.parent), verify_samples=2, **fields)


def test_a_changed_model_is_made_anew_and_then_kept(tmp_path: Path) -> None:
    path = graphs.saved(graphs.classifier(seed=1), tmp_path / "m.onnx")
    first, _ = export(onnx_workload(path), 18)
    graphs.saved(graphs.classifier(seed=2), path)
    second, cached = export(onnx_workload(path), 18)
    assert cached.event.outcome == "miss"
    assert f"file {path}: " in cached.event.why
    assert first.model.sha256 != second.model.sha256
    assert export(onnx_workload(path), 18)[1].event.outcome == "hit"
    graphs.saved(graphs.classifier(seed=1), path)
    third, cached = export(onnx_workload(path), 18)
    assert cached.event.outcome == "hit"
    assert third.model.sha256 == first.model.sha256


def test_a_file_that_changes_meanwhile_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = graphs.saved(graphs.relu(), tmp_path / "m.onnx")

    class Meddling(Worker):
        def call(self, *arguments: Any, **options: Any) -> dict[str, Any]:
            answer = super().call(*arguments, **options)
            graphs.saved(graphs.classifier(), path)
            return answer

    with monkeypatch.context() as patch:
        patch.setattr(stage, "Worker", Meddling)
        made, cached = export(onnx_workload(path), 18)
    assert made.model.macs == 0
    assert cached.event.outcome == "miss"
    again, cached = export(onnx_workload(path), 18)
    assert cached.event.outcome == "miss"
    assert again.model.macs == 10398


@pytest.mark.parametrize(
    ("code", "exit_code", "message"),
    [
        ("import torch.nosuch", 2, "raised ModuleNotFoundError: No module named 'torch.nosuch'"),
        ("raise RuntimeError('half way')", 2, "raised RuntimeError: half way"),
        ("def build(): return 1", 2, "net.py:build answered int, expected a torch.nn.Module"),
        ("import os; os._exit(7)", 1, "export ended with exit code 7 during export_model"),
        ("import os; os.abort()", 1, "export was killed by SIGABRT during export_model"),
    ],
)
def test_what_goes_wrong_in_the_users_code(
    write: Write, tmp_path: Path, code: str, exit_code: int, message: str
) -> None:
    write("net.py", code)
    inputs = (InputSpec(shape=(1, 4)),)
    model = ModelSpec(source="net.py:build")
    workload = Workload(name="net", model=model, inputs=inputs, folder=str(tmp_path))
    with pytest.raises(EdgeDeployError) as caught:
        export(workload, 18)
    assert caught.value.exit_code == exit_code
    assert message in caught.value.message
    assert caught.value.hint


def test_an_export_that_takes_too_long(write: Write, tmp_path: Path) -> None:
    write("net.py", "import time; time.sleep(60)")
    inputs = (InputSpec(shape=(1, 4)),)
    model = ModelSpec(source="net.py:build")
    workload = Workload(name="net", model=model, inputs=inputs, folder=str(tmp_path))
    with pytest.raises(WorkerError, match="gave no answer to export_model within"):
        export(workload, 18, timeout_s=0.5)


def test_a_hit_loads_neither_torch_nor_onnx(project: Project) -> None:
    program = (
        "import sys, json\n"
        "from edgedeploy.export import export\n"
        "from edgedeploy.workload import load_workload\n"
        f"made, cached = export(load_workload({str(project.folder / 'job.toml')!r}), 18)\n"
        "slow = {'torch', 'onnx', 'onnxruntime', 'onnxsim'} & set(sys.modules)\n"
        "print(json.dumps([cached.event.outcome, sorted(slow)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == ["hit", []]
