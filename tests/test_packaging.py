"""The wheel: one import name, the five folders inside, and it deploys from there."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the tree as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True, cwd=folder)
    return next(folder.glob("*.whl"))


def test_one_import_name_and_the_five_folders(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"edgedeploy", "edgedeploy-0.1.0.dist-info"}
    shared = {name.split("/")[2] for name in names if name.startswith("edgedeploy/_share/")}
    assert shared == {"targets", "compilers", "profilers", "firmware"}
    for wanted in (
        "targets/host.toml",
        "compilers/ort.py",
        "compilers/espdl.operators.toml",
        "compilers/espdl/quantize.py",
        "profilers/runtime/esp_serial/esp_line.py",
        "profilers/instrument/rapl.py",
        "firmware/Makefile",
        "firmware/core/engine.h",
        "firmware/ports/qemu-xtensa/start.S",
    ):
        assert f"edgedeploy/_share/{wanted}" in names
    assert not [name for name in names if "__pycache__" in name or "_cache/" in name]
    assert "edgedeploy/workloads/digits.toml" in names
    assert "edgedeploy/zoo/weights/digits.safetensors" in names


def test_the_wheel_deploys_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site), "EDGEDEPLOY_RUNS": str(tmp_path / "runs")}
    command = [sys.executable, "-m", "edgedeploy.cli"]
    where = "import edgedeploy, edgedeploy.share; print(edgedeploy.share.share_folders('targets'))"
    found = subprocess.run(
        [sys.executable, "-c", where],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    ).stdout
    assert str(site) in found
    done = subprocess.run(
        [*command, "deploy", "digits", "-p", "int8", "--runs", "50"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert "host    int8       ok" in done.stdout
    assert "HTML report: " in done.stdout
