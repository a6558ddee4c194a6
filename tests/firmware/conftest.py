"""What the tests of the firmware share: builds of its ports, and a small model."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from board_line import build


@pytest.fixture(scope="session")
def posix_firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The firmware as a process, with address and undefined-behaviour checks."""
    return build(tmp_path_factory.mktemp("posix"), "posix", "SANITIZE=1")


@pytest.fixture(scope="session")
def tiny_espdl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 7 KB with an input of 8 x 8 and ten outputs."""
    if importlib.util.find_spec("esp_ppq") is None:
        pytest.skip("esp-ppq is not here")
    folder = tmp_path_factory.mktemp("tiny")
    script = Path(__file__).with_name("tiny_espdl.py")
    command = [sys.executable, str(script), str(folder)]
    # without it the order of its tensors, and so the file, differs from run to run
    same = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=same)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "tiny.espdl"
