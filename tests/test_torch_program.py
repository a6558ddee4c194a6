"""A workload's PyTorch model kept as data: what is in it, and what cannot be kept."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_nets as nets

from edgedeploy.errors import ExportError, UnsupportedError
from edgedeploy.export import source_program
from edgedeploy.exported_program import load_exported_program
from edgedeploy.torch_program import keep_program, require_torch
from edgedeploy.workload import InputSpec, ModelSpec, Workload

ROW = InputSpec(shape=(1, 4), value_range=(-1.0, 1.0))


def workload(
    *inputs: InputSpec, source: str = "elsewhere", folder: str = "", **model: Any
) -> Workload:
    return Workload(
        name="net",
        model=ModelSpec(source=source, **model),
        inputs=inputs or (ROW,),
        verify_samples=3,
        folder=folder,
    )


class Ends(torch.nn.Module):
    """Outputs of two types by name, an input of each."""

    def forward(self, image: torch.Tensor, index: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"b": image * 2, "a": index + 1}


def test_the_record_names_ends_in_order(tmp_path: Path) -> None:
    ends = (ROW, InputSpec(name="index", dtype="int64", shape=(1, 2)))
    program, inputs = keep_program(Ends().eval(), workload(*ends), tmp_path)
    assert [spec.name for spec in inputs] == ["image", "index"]
    assert program.pop("path") == str(tmp_path / "program.pt2")
    assert json.loads((tmp_path / "program.json").read_text()) == program
    assert program["format"] == "exported_program"
    assert program["inputs"] == [
        {"name": "image", "dtype": "float32", "shape": [1, 4]},
        {"name": "index", "dtype": "int64", "shape": [1, 2]},
    ]
    assert [(o["name"], o["dtype"], o["shape"]) for o in program["outputs"]] == [
        ("b", "float32", [1, 4]),
        ("a", "int64", [1, 2]),
    ]


def test_what_is_kept_computes_the_same_and_holds_no_code(tmp_path: Path) -> None:
    module = nets.Normalised().eval()
    shape = InputSpec(shape=(1, 3, 8, 8), value_range=(-1.0, 1.0))
    keep_program(module, workload(shape), tmp_path)
    x = torch.randn(1, 3, 8, 8)
    found = load_exported_program(tmp_path / "program.pt2").module()(x)
    np.testing.assert_allclose(found.detach(), module(x).detach(), rtol=1e-5, atol=1e-6)
    with zipfile.ZipFile(tmp_path / "program.pt2") as archive:
        texts = [archive.read(name) for name in archive.namelist() if name.endswith(".json")]
    assert texts
    assert not any(b"expr_str" in text or b"opaque_obj_" in text for text in texts)


def test_a_program_of_free_sizes_is_kept_with_those_of_the_workload(tmp_path: Path) -> None:
    axes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("time")},)
    example = (torch.zeros(2, 5, dtype=torch.int64),)
    given = torch.export.export(nets.Tokens().eval(), example, dynamic_shapes=axes)
    tokens = InputSpec(dtype="int64", shape=(1, 3), value_range=(0, 3))
    program, _ = keep_program(given, workload(tokens), tmp_path)
    assert program["inputs"][0]["shape"] == [1, 3]
    with zipfile.ZipFile(tmp_path / "program.pt2") as archive:
        texts = [archive.read(name) for name in archive.namelist() if name.endswith(".json")]
    assert not any(b"expr_str" in text for text in texts)


def test_torchscript_stays_torchscript(tmp_path: Path) -> None:
    script: Any = torch.jit.script(nets.Linear().eval())
    program, _ = keep_program(script, workload(), tmp_path)
    assert program["format"] == "torchscript"
    assert Path(program["path"]).name == "program.ts"
    loaded: Any = torch.jit.load(program["path"])
    x = torch.randn(1, 4)
    assert torch.equal(loaded(x), script(x))


def test_what_cannot_be_captured_is_unsupported_and_what_differs_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="cannot capture the model as one graph") as caught:
        keep_program(nets.Branch().eval(), workload(), tmp_path)
    assert "branches on values" in caught.value.hint
    with pytest.raises(ExportError):
        keep_program(nets.Random().eval(), workload(), tmp_path)
    with pytest.raises(UnsupportedError, match="the source is ONNX"):
        require_torch("onnx")


def test_a_module_in_memory_has_no_program_to_name() -> None:
    with pytest.raises(UnsupportedError, match="is a module in memory") as caught:
        source_program(workload(source="in memory: Linear"))
    assert "file.py:build" in caught.value.hint


def test_it_is_made_once(tmp_path: Path) -> None:
    code = "import torch\n\n\ndef build():\n    return torch.nn.Linear(4, 3)\n"
    (tmp_path / "net.py").write_text(code)
    given = workload(source="net.py:build", folder=str(tmp_path))
    first, made = source_program(given)
    assert made.event.outcome == "miss"
    assert first.name == "program.pt2"
    again, hit = source_program(given)
    assert (again, hit.event.outcome) == (first, "hit")
    assert json.loads(first.with_name("program.json").read_text())["outputs"][0]["shape"] == [1, 3]
