"""Bad input on the command line: what is said, the exit code, and nothing left behind."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import bad_calls
import bad_inputs
import bad_settings
import numpy as np
import pytest
from bad_calls import QUICK
from PIL import Image

from edgedeploy import cli

CASES = {**bad_calls.CASES, **bad_settings.CASES}


class Said(NamedTuple):
    """What a call of the command line gave."""

    code: int
    out: str
    err: str


Shell = Callable[..., Said]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models, data sets, targets and workloads, nearly all of them wrong."""
    folder = tmp_path_factory.mktemp("bench")
    bad_inputs.write_all(folder)
    return folder


@pytest.fixture
def shell(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """The command line, called in this process from the folder of wrong things."""
    monkeypatch.chdir(bench)

    def called(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["edgedeploy", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        said = capsys.readouterr()
        return Said(code if isinstance(code, int) else -1, said.out, said.err)

    return called


def half_runs() -> list[Path]:
    """Run folders without a finished row."""
    root = Path(os.environ["EDGEDEPLOY_RUNS"])
    found = root.iterdir() if root.exists() else ()
    return [run for run in found if not list(run.glob("rows/*/row.json"))]


@pytest.mark.parametrize("case", CASES)
def test_bad_input(shell: Shell, case: str) -> None:
    arguments, code, parts = CASES[case]
    said = shell(*arguments)
    row = said.out + said.err  # what fails in a row is told in the table
    assert said.code == code, row
    told = " ".join(row.split())
    for part in parts:
        assert part in told, row
    if "error: " in said.err:
        assert "\n  do: " in said.err, "no remedy is named"
    assert half_runs() == []
    assert not Path("it-ran").exists()


def test_a_finished_run_is_named_when_another_is_asked_for(shell: Shell) -> None:
    assert shell("deploy", "net.onnx", "-p", "fp32", *QUICK).code == 0
    (run,) = Path(os.environ["EDGEDEPLOY_RUNS"]).glob("2*")
    said = shell("report", run.name[:-1] + "x")
    assert said.code == 2
    assert f"Did you mean {run.name!r}?" in said.err
    assert shell("report", run.name, "--format", "docx").code == 2


def test_the_shortest_form(shell: Shell, bench: Path) -> None:
    (bench / "images").mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(bench / "images" / f"{i}.png")
    said = shell("deploy", "net.onnx", "--target", "host", "--calibration", "images/", *QUICK)
    assert said.code == 0, said.err
    assert "int8" in said.out
    assert "HTML report: " in said.out


def test_markup_in_a_name_stays_text(shell: Shell, bench: Path) -> None:
    name = "<script>alert('x')</script><img src=x onerror=alert(1)>"
    (bench / "markup.toml").write_text(f'name = "{name}"\n[model]\nsource = "net.onnx"\n')
    said = shell("deploy", "markup.toml", "-p", "fp32", *QUICK)
    assert said.code == 0, said.err
    (page,) = Path(os.environ["EDGEDEPLOY_RUNS"]).glob("*/report.html")
    text = page.read_text()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;alert" in text


@pytest.fixture
def stranger() -> Iterator[Callable[[], None]]:
    """Makes this process another user's, who may not do everything, where it is root's."""
    root = os.geteuid() == 0

    def become() -> None:
        if root:
            os.setresgid(65534, 65534, 0)
            os.setresuid(65534, 65534, 0)

    yield become
    if root:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch, bench: Path) -> Iterator[Path]:
    """A folder that everybody may look into, with a model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(bench / "net.onnx", folder / "net.onnx")
        yield folder
        monkeypatch.undo()


def test_files_that_may_not_be_read(
    shell: Shell, common: Path, stranger: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(common)
    job = common / "job.toml"
    job.write_text("[model]\nsource = 'nett.onnx'\n")
    assert "not found" in shell("export", "job.toml").err  # all is imported now
    job.write_text("[model]\nsource = 'net.onnx'\n")
    (common / "net.onnx").chmod(0)
    stranger()
    said = shell("export", "net.onnx")
    assert said.code == 2
    assert "error: no permission to read model net.onnx\n  do: chmod +r net.onnx" in said.err
    said = shell("export", "job.toml")
    assert said.code == 2
    assert f"error: no permission to read model {common / 'net.onnx'}\n" in said.err


def test_a_workload_file_that_may_not_be_read(
    shell: Shell, common: Path, stranger: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(common)
    job = common / "job.toml"
    job.write_text("[model]\nsource = 'nett.onnx'\n")
    assert "not found" in shell("export", "job.toml").err
    job.chmod(0)
    stranger()
    said = shell("export", "job.toml")
    assert said.code == 2
    assert "error: workload file job.toml cannot be read: Permission denied" in said.err


def test_runs_that_may_not_be_written(
    shell: Shell, common: Path, stranger: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(common)
    monkeypatch.setenv("EDGEDEPLOY_RUNS", str(common / "net.onnx"))
    said = shell("deploy", "net.onnx", "-p", "fp32")
    assert said.code == 1
    assert f"error: cannot write {common / 'net.onnx'}: File exists" in said.err
    monkeypatch.setenv("EDGEDEPLOY_RUNS", str(common / "runs"))
    common.chmod(0o555)
    stranger()
    said = shell("deploy", "net.onnx", "-p", "fp32")
    assert said.code == 1
    assert f"error: cannot write {common / 'runs'}: Permission denied" in said.err
    assert (
        "do: Free space or correct the permissions; EDGEDEPLOY_CACHE and EDGEDEPLOY_RUNS"
        in said.err
    )
