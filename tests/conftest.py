"""What every test gets: runs and cache of its own, and none of the user's settings."""

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `runs` and `cache`, named to edgedeploy and to what a test starts."""
    folder = tmp_path_factory.mktemp("edgedeploy")
    for name in list(os.environ):
        if name.startswith("EDGEDEPLOY_") and name != "EDGEDEPLOY_DATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("EDGEDEPLOY_RUNS", str(folder / "runs"))
    monkeypatch.setenv("EDGEDEPLOY_CACHE", str(folder / "cache"))
    monkeypatch.setenv("EDGEDEPLOY_DEVICES", os.devnull)
    return folder


@pytest.fixture
def shared_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, own_folders: Path
) -> Path:
    """One cache for all tests that ask for it: what they compile is not what they test."""
    base = tmp_path_factory.getbasetemp()
    # each of several test processes has a folder of its own below the common one
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-cache"
    monkeypatch.setenv("EDGEDEPLOY_CACHE", str(folder))
    return folder


@pytest.fixture
def data_folder() -> Path:
    """The folder with the published models and data sets, where this machine has it."""
    named = os.environ.get("EDGEDEPLOY_DATA")
    if not named:
        pytest.skip("EDGEDEPLOY_DATA names no folder with the models and CIFAR-10")
    return Path(named)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a text file, dedented, below the test's folder."""

    def written(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
        return path

    return written
