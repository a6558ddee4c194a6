"""A short run of both fuzzers from their seeds, with address and undefined-behaviour checks."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from board_line import FIRMWARE, needs
from fuzz_seeds import write

# with a fixed beginning, so that it takes the same way each time
RUNS = ("-seed=1", "-timeout=20", "-rss_limit_mb=1024")


@pytest.fixture(scope="session")
def fuzzers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs("clang")
    folder = tmp_path_factory.mktemp("fuzz")
    command = ["make", "-C", str(FIRMWARE), "fuzz", f"BUILD={folder}", "-j2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "libFuzzer is not here" in done.stderr:
        pytest.skip("clang's libFuzzer is not here (Debian: libclang-rt-dev)")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def seeds(tiny_espdl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    write(tiny_espdl, folder)
    return folder


@pytest.mark.parametrize(
    ("name", "limits", "covered"),
    [
        ("protocol", ("-runs=15000", "-max_len=2500"), 1000),
        ("model", ("-runs=30000", "-max_len=8192"), 600),
    ],
)
def test_no_input_breaks_it(
    fuzzers: Path, seeds: Path, name: str, limits: tuple[str, str], covered: int
) -> None:
    command = [str(fuzzers / f"fuzz-{name}"), *RUNS, *limits, str(seeds / name)]
    environment = os.environ | {"EDGEDEPLOY_FUZZ_MODEL": str(seeds / "model" / "tiny")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=fuzzers
    )
    assert done.returncode == 0, done.stderr[-4000:]
    reached = max(int(count) for count in re.findall(r"cov: (\d+)", done.stderr))
    assert reached > covered, "the seeds no longer reach what is to be tried"
