"""Instruments' programs loaded as serve.py loads them, and trees of files that look like /sys."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

PROGRAMS = Path(__file__).parents[3] / "profilers" / "instrument"


@pytest.fixture
def load() -> Callable[[str], ModuleType]:
    """A fresh copy of an instrument's program."""

    def program(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, PROGRAMS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # NamedTuple looks its module up while the class is made.
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
        finally:
            del sys.modules[spec.name]
        return module

    return program


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[dict[str, str | int]], Path]:
    """Write files under a folder that stands for /sys, and give its path."""
    root = tmp_path / "sys"

    def write(files: dict[str, str | int]) -> Path:
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n", encoding="utf-8")
        return root

    root.mkdir()
    return write
