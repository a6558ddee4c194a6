"""TensorRT's runtimes in a process of their own, on engines of the compiler, and what they are."""

import ast
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import trt_standin
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from test_hailo_served import PYTHONS
from trt_standin import FAKES, PROGRAMS, artifact, expected, network, pictures, standing

from edgedeploy.errors import InputError, MissingError
from edgedeploy.interpreter import read_header
from edgedeploy.worker import SERVE, Worker

ROOT = PROGRAMS.parents[1]
PLAN: dict[str, Any] = {
    "idle_s": 0.0,
    "cool_down_s": 0.0,
    "warm_up_min_s": 0.0,
    "warm_up_max_s": 0.1,
    "latency_min_s": 0.05,
    "latency_max_s": 0.2,
    "latency_min_count": 20,
    "latency_count": None,
    "throughput_s": 0.1,
    "concurrency": [1, 4],
}
MODULES = sorted((PROGRAMS / "trt_common").glob("*.py"))


@pytest.fixture
def served(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """The program and Python of the parameter, in a process that finds the stand-ins."""
    name, python, major = request.param
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.setenv("TENSORRT_STANDIN_MAJOR", major)
    monkeypatch.setenv("TENSORRT_STANDIN_GPU", "{}")
    monkeypatch.setenv("CUDA_STANDIN_LAYOUT", "12")
    command = [python, str(SERVE), str(PROGRAMS / f"{name}.py")]
    with Worker(name, command, timeout_s=60) as worker:
        yield worker


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two engines for TensorRT 10."""
    monkeypatch.syspath_prepend(str(FAKES))
    made = artifact(tmp_path / "net", "trt-10"), artifact(tmp_path / "other", "trt-10", seed=5)
    trt_standin.forget()
    return made


served_by = pytest.mark.parametrize(
    "served",
    [
        pytest.param(("trt", python.values[0], "10"), id=str(python.id), marks=python.marks)
        for python in PYTHONS
    ],
    indirect=True,
)


@served_by
def test_it_measures_and_infers_beside_the_card(
    served: Worker, engines: tuple[str, str], tmp_path: Path
) -> None:
    x = pictures(5)[:, None]
    given, wanted = tmp_path / "given.npz", tmp_path / "wanted.npz"
    np.savez(given, x=x)
    prepared = served.call("measure.prepare", artifact=engines[0], options={"cuda_graph": True})
    assert prepared["tools"] == {"tensorrt": "10.3.0+standin", "cuda-python": "12.9.4+standin"}
    assert served.call("measure.infer", inputs=str(given), outputs=str(wanted))["count"] == 5
    with np.load(wanted) as found:
        for name, value in expected(x[:, 0]).items():
            assert np.allclose(found[name][:, 0], value, rtol=1e-5, atol=1e-5)
    answer = served.call("measure.profile", inputs=str(given), plan=PLAN)
    windows = {window["phase"]: window for window in answer["windows"]}
    assert windows["latency"]["count"] >= 20
    assert windows["throughput"]["count"] >= 10
    assert answer["facts"]["virtual"] is True
    assert answer["facts"]["cuda_graph"] is True
    assert answer["device_memory_bytes"]["device_activations"] == 1_000_000
    times = served.call("measure.device_times", inputs=str(given), count=20)
    assert len(times["latency_s"]) == 20
    layers = served.call("measure.layers", inputs=str(given), count=3)["layers"]
    assert [layer["name"] for layer in layers] == ["conv + relu", "mean"]
    other = {"artifact": engines[1], "inputs": str(given), "options": {}}
    both = served.call("together.measure", inputs=str(given), others=[other], seconds=0.1)
    assert all(model["count"] >= 5 for model in both["models"])


@served_by
def test_faults_keep_their_kind_and_remedy_across_the_boundary(
    served: Worker, engines: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="run option device is 3") as caught:
        served.call("load", artifact=engines[0], options={"device": 3})
    assert "nvidia-smi" in caught.value.hint
    with pytest.raises(InputError, match=r"model\.engine is not there"):
        served.call("load", artifact=str(tmp_path), options={})


@pytest.mark.parametrize("name", ["trt", "trt_rtx"])
def test_without_a_driver_the_row_says_built_not_run(
    name: str, engines: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.setenv("TENSORRT_STANDIN_GPU", "")
    command = [sys.executable, str(SERVE), str(PROGRAMS / f"{name}.py")]
    with Worker(name, command, timeout_s=60) as worker:
        for call, arguments in (
            ("probe", {}),
            ("measure.prepare", {"artifact": engines[0], "options": {}}),
        ):
            with pytest.raises(MissingError) as caught:
                worker.call(call, **arguments)
            assert caught.value.message == "built, not run: no NVIDIA driver"
            assert caught.value.hint


@pytest.mark.parametrize("kind", ["trt-10", "trt-11"])
def test_engines_of_the_compiler_are_run(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("artifact", "states"):
        (tmp_path / name).mkdir()
    onnx.save(network(), tmp_path / "net.onnx")
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.setenv("TENSORRT_STANDIN_MAJOR", kind.removeprefix("trt-"))
    monkeypatch.setenv("TENSORRT_STANDIN_GPU", "{}")
    command = [sys.executable, str(SERVE), str(ROOT / "compilers" / "trt.py")]
    with Worker("compiler", command, timeout_s=60) as worker:
        answer = worker.call(
            "compile_model",
            model=str(tmp_path / "net.onnx"),
            output=str(tmp_path / "artifact"),
            precision="fp32",
            calibration=None,
            options={},
            states=str(tmp_path / "states"),
        )
    trt = standing(kind, monkeypatch)
    loaded = trt.load(answer["path"], {"cuda_graph": True})
    assert loaded["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 3, 8, 8]}]
    x = pictures()
    assert np.allclose(trt.run({"x": x})["z"], expected(x)["z"], rtol=1e-5, atol=1e-5)
    assert sum(layer["time_s"] for layer in trt.layers({"x": x}, 2)) > 0
    assert trt.facts()["engine_compute_capability"] == ["9.0"]
    trt.close()
    trt_standin.forget()


@pytest.mark.parametrize("path", [PROGRAMS / "trt.py", *MODULES], ids=lambda path: path.stem)
def test_what_runs_beside_a_jetson_is_python_3_8(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    first = next(node for node in tree.body if isinstance(node, ast.ImportFrom))
    assert first.module == "__future__"  # annotations may be newer, as they are not evaluated
    assert "zip" not in {
        getattr(node.func, "id", "") for node in ast.walk(tree) if isinstance(node, ast.Call)
    }


@pytest.mark.parametrize("name", ["trt", "trt_rtx"])
def test_header_and_lock_name_what_an_index_has(name: str) -> None:
    header = read_header(PROGRAMS / f"{name}.py")
    wanted = {Requirement(text).name: Requirement(text) for text in header.dependencies}
    # TensorRT itself is on no index; JetPack or NVIDIA bring it
    rtx = {"tensorrt-rtx", "cuda-bindings", "onnx"} if name == "trt_rtx" else set()
    assert set(wanted) == {"numpy", *rtx}
    text = (PROGRAMS / f"{name}.lock").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    pins = [Requirement(line) for line in lines]
    for pin in pins:
        assert [part.operator for part in pin.specifier] == ["=="]
        asked = wanted.get(pin.name.replace("_", "-"))
        assert asked is None or asked.specifier.contains(next(iter(pin.specifier)).version)
    assert set(wanted) <= {pin.name.replace("_", "-") for pin in pins}
    assert SpecifierSet(header.requires_python).contains("3.11")
    assert SpecifierSet(header.requires_python).contains("3.8") is (name == "trt")


@pytest.mark.parametrize("name", ["trt", "trt_rtx"])
def test_functions_take_what_the_contract_says(name: str) -> None:
    module = trt_standin.opened(name)
    wanted = {
        "probe": [],
        "load": ["artifact", "options"],
        "run": ["inputs"],
        "bind": ["inputs"],
        "bind_async": ["inputs"],
        "beside": ["artifact", "options"],
        "bind_beside": ["place", "inputs"],
        "device_times": ["inputs", "count"],
        "layers": ["inputs", "count"],
        "memory": [],
        "facts": [],
        "close": [],
    }
    assert {each: list(signature(getattr(module, each)).parameters) for each in wanted} == wanted
    for kind in ("Missing", "Unsupported", "BadInput"):
        assert getattr(module, kind)("what", "remedy").hint == "remedy"
