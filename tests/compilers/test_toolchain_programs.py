"""Every compiler and runtime keeps the contract: functions, header, lock, targets."""

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

import pytest
import tiny_onnx as tiny
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from edgedeploy.interpreter import read_header
from edgedeploy.target import compiler_program, load_target, runtime_program

COMPILERS = {
    "probe": [],
    "compile_model": ["model", "output", "precision", "calibration", "options"],
}
QUANTIZERS = {
    "quantize_model": ["model", "output", "calibration", "options"],
    "layer_errors": ["model", "quantized", "inputs", "options"],
}
RUNTIMES = {
    "probe": [],
    "load": ["artifact", "options"],
    "run": ["inputs"],
    "bind": ["inputs"],
    "facts": [],
    "layers": ["inputs", "count"],
    "memory": [],
}
PROGRAMS = [
    ("compilers/ort.py", COMPILERS | QUANTIZERS),
    ("compilers/openvino.py", COMPILERS),
    ("profilers/runtime/ort.py", RUNTIMES),
    ("profilers/runtime/openvino.py", RUNTIMES),
]
every_program = pytest.mark.parametrize(
    ("path", "contract"),
    [pytest.param(tiny.ROOT / name, wanted, id=name) for name, wanted in PROGRAMS],
)


@every_program
def test_functions_take_what_the_contract_says(path: Path, contract: dict[str, list[str]]) -> None:
    module = tiny.program(str(path.parent.relative_to(tiny.ROOT)), path.stem)
    found = {name: list(signature(getattr(module, name)).parameters) for name in contract}
    assert found == contract
    assert module.BadInput("what", "remedy").hint == "remedy"


@every_program
def test_lock_pins_all_that_the_header_names(path: Path, contract: dict[str, list[str]]) -> None:
    header = read_header(path)
    assert header.requires_python
    assert header.dependencies
    lines = path.with_suffix(".lock").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines]
    assert all([s.operator for s in pin.specifier] == ["=="] for pin in pins)
    assert not any(word in line for line in lines for word in ("://", "index", "--"))
    for text in header.dependencies:
        wanted = Requirement(text)
        versions = [
            next(iter(pin.specifier)).version
            for pin in pins
            if pin.name.replace("-", "_") == wanted.name.replace("-", "_")
        ]
        assert versions
        assert all(wanted.specifier.contains(version) for version in versions)


@every_program
def test_it_is_python_of_its_header_and_does_not_import_the_host(
    path: Path, contract: dict[str, list[str]]
) -> None:
    source = path.read_text(encoding="utf-8")
    assert SpecifierSet(read_header(path).requires_python).contains("3.11")
    tree = ast.parse(source, feature_version=(3, 10))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported
    assert "edgedeploy" not in imported


@pytest.mark.parametrize(("name", "tool"), [("host", "ort"), ("host-openvino", "openvino")])
def test_host_targets_name_programs_that_exist(name: str, tool: str) -> None:
    target = load_target(name)
    assert target.precisions == ("fp32", "int8")
    assert target.run_options["threads"] == 1
    assert target.source == "measured"
    assert compiler_program(target.compiler) == tiny.ROOT / "compilers" / f"{tool}.py"
    assert runtime_program(target.profiler) == tiny.ROOT / "profilers/runtime" / f"{tool}.py"
    assert target.quantizer == "ort"
    runtime = tiny.program("profilers/runtime", target.profiler)
    assert runtime.checked(target.run_options)["threads"] == 1


@every_program
def test_use_is_not_reported_and_home_stays_empty(
    path: Path, contract: dict[str, list[str]], tmp_path: Path
) -> None:
    if path.stem == "openvino" and find_spec("openvino") is None:
        pytest.skip("the optional toolchain OpenVINO is not installed")
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('program', sys.argv[1])\n"
        "program = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(program)\n"
        "print(sorted(program.probe()['tools']))\n"
        "print([name for name in sys.modules if 'telemetry' in name])\n"
    )
    left = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {k: v for k, v in os.environ.items() if k not in left} | {"HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    tools, modules = done.stdout.splitlines()
    assert tools in {"['onnx', 'onnxruntime']", "['onnxruntime']", "['openvino']"}
    assert modules == "[]"
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("folder", ["compilers", "profilers/runtime"])
def test_an_absent_openvino_is_missing_with_the_remedy(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tiny.program(folder, "openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(module.Missing, match="cannot be imported") as caught:
        module.probe()
    assert type(caught.value).__name__ == "Missing"
    (wanted,) = (
        d for d in read_header(tiny.ROOT / folder / "openvino.py").dependencies if "vino" in d
    )
    assert wanted in caught.value.hint
