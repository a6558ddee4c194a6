"""ONNX to an engine through the stand-ins of TensorRT 10 and 11: precisions, files, cache."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import tiny_onnx as tiny
import trt_nets as nets
from onnx import TensorProto

from edgedeploy.interpreter import read_header

Table = dict[str, Any]
Compile = Callable[..., Table]
MAKERS: dict[str, Callable[[Path], str]] = {
    "fp32": nets.float_net,
    "tf32": nets.float_net,
    "fp16": lambda path: nets.typed_net(path, TensorProto.FLOAT16),
    "bf16": lambda path: nets.typed_net(path, TensorProto.BFLOAT16),
    "int8": nets.quantized_net,
    "fp8": lambda path: nets.quantized_net(path, TensorProto.FLOAT8E4M3FN),
}


@pytest.fixture(params=["10", "11"])
def major(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    nets.place(monkeypatch, request.param, nets.H200)
    yield request.param
    nets.forget()


@pytest.fixture
def compile_it(tmp_path: Path) -> Compile:
    """Compile a model, with states that stay."""

    def compiled(model: str, precision: str = "fp32", **options: object) -> Table:
        (tmp_path / "artifact").mkdir(exist_ok=True)
        (tmp_path / "states").mkdir(exist_ok=True)
        made: Table = nets.program().compile_model(
            model,
            str(tmp_path / "artifact"),
            precision,
            None,
            options,
            states=str(tmp_path / "states"),
        )
        return made

    return compiled


def header_of(answer: Table) -> Table:
    """What the stand-in noted in the engine's file."""
    file = nets.standin().engine_file
    header, model = file.read(Path(answer["path"]).read_bytes())
    assert model
    found: Table = header
    return found


def test_it_keeps_the_contract_of_compilers() -> None:
    trt = nets.program()
    given = ["model", "output", "precision", "calibration", "options", "inputs"]
    wanted = {"probe": [], "compile_model": [*given, "states"], "prepare_model": given}
    assert {name: list(signature(getattr(trt, name)).parameters) for name in wanted} == wanted
    header = read_header(nets.PROGRAM)
    assert (header.requires_python, header.dependencies) == (">=3.8", ("numpy>=1.17",))


def test_the_card_is_part_of_what_the_cache_goes_by(major: str) -> None:
    tools = {"tensorrt": nets.VERSIONS[major], "card": "NVIDIA H200 (stand-in) (9.0)"}
    assert nets.program().probe() == {"tools": tools}


@pytest.mark.parametrize("precision", list(MAKERS))
def test_each_precision_is_built_strongly_typed(
    major: str, compile_it: Compile, tmp_path: Path, precision: str
) -> None:
    model = MAKERS[precision](tmp_path / "net.onnx")
    given = Path(model).read_bytes()
    answer = compile_it(model, precision)
    assert (answer["format"], answer["virtual"]) == ("tensorrt-engine", True)
    assert answer["warnings"] == []
    header = header_of(answer)
    assert header["strongly_typed"]
    assert header["flags"] == (["TF32"] if precision == "tf32" else [])
    assert header["profiling_verbosity"] == "DETAILED"
    described = json.loads((tmp_path / "artifact" / "model.json").read_text("utf-8"))
    assert described == {
        "format": 1,
        "flavour": "tensorrt",
        "version": nets.VERSIONS[major],
        "compute_capability": ["9.0"],
        "precision": precision,
        "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 3, 8, 8], "profile": None}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [1, 4, 6, 6]}],
        "version_compatible": False,
        "hardware_compatible": "none",
    }
    assert (tmp_path / "kept" / "model.onnx").read_bytes() == given
    assert Path(model).read_bytes() == given


def test_what_people_read_lies_beside_the_artifact(
    major: str, compile_it: Compile, tmp_path: Path
) -> None:
    answer = compile_it(tiny.conv_net(tmp_path / "net.onnx"))
    assert Path(answer["kept"]) == tmp_path / "kept"
    names = {path.name for path in (tmp_path / "kept").iterdir()}
    assert names == {"model.onnx", "build.log", "build.json", "layers.json", "inspector.json"}
    log = (tmp_path / "kept" / "build.log").read_text("utf-8")
    assert "[I] Detected 1 inputs and 1 output network tensors." in log
    findings = json.loads((tmp_path / "kept" / "build.json").read_text("utf-8"))
    assert findings["network_layers"] == 9
    assert findings["engine_layers"] == findings["inspected_layers"] == 6
    assert findings["weight_bytes"] > 0
    assert findings["device_memory_bytes"] >= 0
    told = json.loads((tmp_path / "kept" / "inspector.json").read_text("utf-8"))
    layers = told["Layers"]
    assert layers[0]["Name"] == "first + relu"
    assert layers[0]["Metadata"] == "[ONNX Layer: first][ONNX Layer: relu]"
    assert "9 layers of the network, 6 of the engine" in answer["notes"][0]
    assert "engine for NVIDIA H200 (stand-in) (9.0)" in answer["notes"][0]
    assert "not read back" not in answer["notes"][0]


def test_the_options_reach_the_builder(major: str, compile_it: Compile, tmp_path: Path) -> None:
    model = nets.float_net(tmp_path / "net.onnx", batch="N")
    answer = compile_it(
        model,
        workspace_bytes=1 << 30,
        optimization_level=5,
        version_compatible=True,
        hardware_compatible="ampere_plus",
        max_batch=8,
    )
    header = header_of(answer)
    assert header["flags"] == ["VERSION_COMPATIBLE"]
    assert (header["workspace_bytes"], header["optimization_level"]) == (1 << 30, 5)
    assert header["hardware_compatibility"] == "AMPERE_PLUS"
    profile = {"min": [1, 3, 8, 8], "opt": [8, 3, 8, 8], "max": [8, 3, 8, 8]}
    assert header["profiles"] == [{"x": profile}]
    described = json.loads((tmp_path / "artifact" / "model.json").read_text("utf-8"))
    assert described["inputs"][0]["profile"] == profile
    assert (described["version_compatible"], described["hardware_compatible"]) == (
        True,
        "ampere_plus",
    )
    assert answer["script"].split(" \\\n  ") == [
        "trtexec",
        "--onnx=model.onnx",
        "--saveEngine=model.engine",
        "--memPoolSize=workspace:1024M",
        "--builderOptimizationLevel=5",
        "--minShapes=x:1x3x8x8",
        "--optShapes=x:8x3x8x8",
        "--maxShapes=x:8x3x8x8",
        "--stronglyTyped",
        "--profilingVerbosity=detailed",
        "--exportLayerInfo=layers.json",
        "--noTF32",
        "--versionCompatible",
        "--hardwareCompatibilityLevel=ampere+",
        "--timingCacheFile=timing.cache",
        "--skipInference\n",
    ]


def test_sparse_kernels_are_allowed_where_the_weights_have_them(
    major: str, compile_it: Compile, tmp_path: Path
) -> None:
    answer = compile_it(nets.sparse_net(tmp_path / "net.onnx"))
    assert header_of(answer)["flags"] == ["SPARSE_WEIGHTS"]
    assert "2:4 sparse weights in 1 of 3 layers (33 %): sparse kernels allowed" in answer["notes"]
    assert answer["options"]["sparsity"] is True
    answer = compile_it(nets.sparse_net(tmp_path / "net.onnx"), sparsity=False)
    assert header_of(answer)["flags"] == []
    assert (
        "2:4 sparse weights in 1 of 3 layers (33 %), not made use of: sparsity = false"
        in (answer["notes"])
    )
    answer = compile_it(tiny.conv_net(tmp_path / "dense.onnx"), sparsity=True)
    assert header_of(answer)["flags"] == []
    assert answer["warnings"] == ["sparsity: no layer has 2:4 sparse weights, so it is left out"]


def test_timings_are_kept_by_card_and_version(
    major: str, compile_it: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nets.float_net(tmp_path / "net.onnx")
    first = compile_it(model)
    stem = f"sm9.0-tensorrt-{nets.VERSIONS[major]}.cache"
    assert [path.name for path in (tmp_path / "states").iterdir()] == [
        f"timing-nvidia-h200-stand-in-{stem}"
    ]
    size = next((tmp_path / "states").iterdir()).stat().st_size
    assert f"timing cache: 0 bytes from earlier builds, {size} now" in first["notes"]
    second = compile_it(model)
    assert f"timing cache: {size} bytes from earlier builds, {size} now" in second["notes"]
    nets.place(monkeypatch, major, nets.H200 | {"name": "NVIDIA H100 (stand-in)"})
    compile_it(model)
    assert len(list((tmp_path / "states").iterdir())) == 2
    nets.place(monkeypatch, major, nets.H200 | {"name": "NVIDIA H20 (stand-in)"})
    answer = compile_it(model, timing_cache=False)
    assert len(list((tmp_path / "states").iterdir())) == 2
    assert not any("timing" in note for note in answer["notes"])


def test_a_cache_that_cannot_be_used_is_told_and_replaced(
    major: str, compile_it: Compile, tmp_path: Path
) -> None:
    model = nets.float_net(tmp_path / "net.onnx")
    compile_it(model)
    path = next((tmp_path / "states").iterdir())
    whole = path.read_bytes()
    path.write_bytes(b"of another make")
    answer = compile_it(model)
    assert any("Failed to deserialize timing cache" in text for text in answer["warnings"])
    assert path.read_bytes() == whole
    path.write_bytes(whole.replace(b"H200", b"L400"))
    answer = compile_it(model)
    assert any("of another card or version: timed anew" in text for text in answer["warnings"])
    assert path.read_bytes() == whole


def test_the_same_model_gives_the_same_artifact(
    major: str, compile_it: Compile, tmp_path: Path
) -> None:
    model = nets.quantized_net(tmp_path / "net.onnx")
    made = []
    for _ in range(2):
        compile_it(model, "int8")
        made.append([path.read_bytes() for path in sorted((tmp_path / "artifact").iterdir())])
    assert made[0] == made[1]
    assert len(made[0]) == 2


def test_external_weights_are_read_and_kept(
    major: str, compile_it: Compile, tmp_path: Path
) -> None:
    answer = compile_it(nets.sparse_net(tmp_path / "net.onnx", external=True))
    assert "2:4 sparse weights in 1 of 3 layers (33 %): sparse kernels allowed" in answer["notes"]
    header = header_of(answer)
    assert header["weights_bytes"] > 1000


@pytest.mark.parametrize("name", ["3.8", "3.10"])
def test_it_is_python_of_its_header(name: str) -> None:
    files = [nets.PROGRAM, *(tiny.ROOT / "compilers" / "trt").glob("*.py")]
    files += (tiny.ROOT / "compilers" / "trt_common").glob("*.py")
    versions = Path.home() / ".pyenv" / "versions"
    found = sorted(versions.glob(f"{name}.*/bin/python"))
    if not found:
        pytest.skip(f"no Python {name} here")
    command = [
        str(found[-1]),
        "-c",
        "import ast,sys\nfor f in sys.argv[1:]: ast.parse(open(f).read())",
    ]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sys.version_info >= (3, 11)
