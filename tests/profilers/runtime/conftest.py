"""Small ONNX models shared with the compilers' tests, and runtimes loaded with an artifact."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

# modules of a program that is more than one
sys.path.append(str(Path(__file__).parents[3] / "profilers" / "runtime" / "esp_serial"))


def _beside(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "compilers" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)
    spec.loader.exec_module(module)
    return module


_TINY = _beside("tiny_onnx")


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module tests/compilers/tiny_onnx.py."""
    return _TINY


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> ModuleType:
    """A fresh copy of the runtime that the parameter names, skipped where it is not installed."""
    package = {"ort": "onnxruntime", "openvino": "openvino"}[request.param]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the optional toolchain {package} is not installed")
    module: ModuleType = _TINY.program("profilers/runtime", request.param)
    return module
