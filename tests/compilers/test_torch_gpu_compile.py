"""A PyTorch program as an artifact: taken as it is, with its precision and its ONNX beside it."""

import hashlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny_onnx as tiny


@pytest.fixture
def compiler() -> ModuleType:
    return tiny.program("compilers", "torch_gpu")


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """What the compiler is called with, of a program that nobody loads here."""
    (tmp_path / "artifact").mkdir()
    (tmp_path / "program.pt2").write_bytes(b"a program")
    ends = [{"name": "x", "dtype": "float32", "shape": [1, 4]}]
    record = {
        "format": "exported_program",
        "inputs": ends,
        "outputs": ends,
        "tools": {"torch": "2.13.0"},
    }
    (tmp_path / "program.json").write_text(json.dumps(record))
    return {
        "model": tiny.conv_net(tmp_path / "net.onnx"),
        "output": str(tmp_path / "artifact"),
        "calibration": None,
        "options": {},
        "source": str(tmp_path / "program.pt2"),
    }


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", "float32"), ("tf32", "float32"), ("fp16", "float16"), ("bf16", "bfloat16")],
)
def test_the_program_is_taken_as_it_is(
    compiler: ModuleType, given: dict[str, Any], precision: str, dtype: str, tmp_path: Path
) -> None:
    answer = compiler.compile_model(precision=precision, **given)
    path = Path(answer["path"])
    assert path == tmp_path / "artifact" / "model.pt2"
    assert path.read_bytes() == b"a program"
    told = json.loads(path.with_name("model.json").read_text())
    assert (told["flavour"], told["precision"], told["dtype"]) == ("pytorch", precision, dtype)
    assert told["sha256"] == hashlib.sha256(b"a program").hexdigest()
    assert told["outputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 4]}]
    kept = Path(answer["kept"], "model.onnx")
    assert kept == tmp_path / "kept" / "model.onnx"
    assert kept.read_bytes() == Path(given["model"]).read_bytes()
    assert answer["tools"] == compiler.probe()["tools"]
    assert answer["notes"] == ["PyTorch's own program (exported program), made for no card"]


def test_what_is_refused(compiler: ModuleType, given: dict[str, Any]) -> None:
    with pytest.raises(compiler.Unsupported, match="precision 'int8'") as caught:
        compiler.compile_model(precision="int8", **given)
    assert caught.value.hint
    with pytest.raises(compiler.BadInput, match="option 'mode' is not known") as caught:
        compiler.compile_model(precision="fp32", **{**given, "options": {"mode": "eager"}})
    assert "run_options" in caught.value.hint
    Path(given["source"]).with_name("program.json").unlink()
    with pytest.raises(compiler.BadInput, match="are not both there"):
        compiler.compile_model(precision="fp32", **given)
