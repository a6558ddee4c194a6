"""The stand-in of hailortcli: its texts, CSV and JSON, and with what code it ends."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hailo_standin import FAKES, State, forget, write_hef

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setenv("HAILO_STANDIN_STATE", str(tmp_path / "state"))
    return State(tmp_path / "state")


@pytest.fixture
def hef(tmp_path: Path) -> str:
    return write_hef(tmp_path / "tiny.hef")


@pytest.fixture
def cli(
    state: State, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cli]:
    """Calls the command in this process: exit code, stdout, stderr."""
    monkeypatch.syspath_prepend(str(FAKES))
    forget()
    from hailo_platform.standin.command import main

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out, said.err

    yield call
    forget()


def test_the_command_needs_no_numpy(state: State) -> None:
    state()
    script = FAKES / "hailortcli"
    assert script.stat().st_mode & 0o111
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['hailortcli', 'scan']\n"
        "try:\n"
        f"    runpy.run_path({str(script)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print(end.code, 'numpy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Hailo Devices:\n[-] Device: 0000:01:00.0\n0 False\n"


def test_run_prints_the_columns(cli: Cli, hef: str, tmp_path: Path) -> None:
    csv = tmp_path / "out.csv"
    code, out, _ = cli("run", hef, "-t", "5", "--measure-latency", "--csv", str(csv))
    assert code == 0
    assert "    HW Latency: 2.50 ms\n" in out
    assert "FPS" not in out
    columns = (
        "net_name,status,status_description,fps,num_of_frames,send_rate,recv_rate,hw_latency,"
        "overall_latency,min_power,average_power,max_power,min_current,average_current,"
        "max_current,min_temp,average_temp,max_temp"
    )
    head, line = csv.read_text().splitlines()
    assert head == columns
    assert line == "tiny,0,HAILO_SUCCESS,,1666,,,2.5,,,,,,,,,,"
    code, out, _ = cli("run", hef, "-c100", "--measure-power", "--mode=hw_only", f"--csv={csv}")
    assert code == 0
    assert "    FPS: 1000.00\n" in out
    assert "    Average power consumption: 2.50 W\n" in out
    wanted = "tiny,0,HAILO_SUCCESS,1000,100,0.576,0.4,,,2.45,2.5,2.55,,,,,,"
    assert csv.read_text().splitlines()[1] == wanted


def test_benchmark_and_run2(cli: Cli, hef: str, tmp_path: Path) -> None:
    csv, dump = tmp_path / "out.csv", tmp_path / "out.json"
    code, out, _ = cli("benchmark", hef, "-t", "2", "--csv", str(csv))
    assert code == 0
    assert "FPS     (hw_only)                 = 1000\n" in out
    assert csv.read_text().splitlines()[1] == "tiny,950,1000,1900,2000,2.5,,2.45,2.5,2.55"
    nets = ["set-net", hef, "--batch-size", "1", "set-net", hef]
    code, out, _ = cli("run2", "-m", "full_async", "-j", str(dump), "--measure-power", *nets)
    assert code == 0
    found = json.loads(dump.read_text())
    assert list(found) == ["time", "inference_mode", "network_groups", "time_to_run", "devices"]
    assert found["network_groups"][0] == {
        "name": "tiny",
        "full_hef_path": hef,
        "FPS": "475.000000",
    }
    assert found["devices"][0]["power"]["average"] == "2.500000 W"
    code, _, err = cli("run2", "--measure-latency", *nets)
    assert (code, "only one model is allowed" in err) == (6, True)


def test_identify_and_parse(cli: Cli, hef: str) -> None:
    _, out, _ = cli("--version")
    assert out == "HailoRT-CLI version 4.23.0+standin\n"
    _, out, _ = cli("fw-control", "identify", "--extended")
    assert "Firmware Version: 4.23.0 (release,app)\n" in out
    assert "Board Name: Hailo-8 (stand-in)\nDevice Architecture: HAILO8\n" in out
    assert "Neural Network Core Clock Rate: 400MHz\n" in out
    _, out, _ = cli("parse-hef", hef)
    assert out.splitlines()[:2] == [
        "Architecture HEF was compiled for: HAILO8",
        "Network group name: tiny, Single Context",
    ]
    assert "            Output tiny/fc1 UINT8, NC(2)\n" in out
    options = ("--sampling-period", "140", "--averaging-factor", "16")
    _, out, _ = cli("measure-power", "--duration", "2", *options)
    assert "Total samples: 400\n" in out
    assert "Average time per sample (ms): 5\n" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 106, "A subcommand is required"),
        (["run"], 106, "hef is required"),
        (["run", "HEF", "--foo"], 109, "The following argument was not expected: --foo"),
        (["run", "absent.hef"], 105, "hef: (File does not exist: absent.hef) OR"),
        (["run", "HEF", "-t", "0.5"], 104, "Could not convert: --time-to-run = 0.5"),
        (["run", "HEF", "-t", "5", "-c", "3"], 108, "--frames-count excludes --time-to-run"),
        (["run", "HEF", "--measure-overall-latency"], 107, "requires --measure-latency"),
        (["run", "HEF", "--measure-power", "--sampling-period", "5"], 105, "5 not in {140,"),
        (["run", "HEF", "--averaging-factor", "4"], 111, "requires --measure-power"),
        (["run", "HEF", "--csv"], 114, "--csv: 1 required TEXT missing"),
        (["run2"], 6, "Nothing to run"),
        (["measure-power", "--averaging-factor", "4"], 107, "requires --duration"),
    ],
)
def test_arguments_that_are_refused(
    cli: Cli, hef: str, words: list[str], code: int, message: str
) -> None:
    found, _, err = cli(*(hef if word == "HEF" else word for word in words))
    assert found == code
    assert message in err


@pytest.mark.parametrize(
    "case",
    [
        ({"busy": True}, ["run", "HEF"], 74, "requested: 1, found: 0"),
        ({"driver_version": "4.20.0"}, ["run", "HEF"], 76, "Driver version (4.20.0)"),
        ({"library_version": "4.20.0"}, ["--version"], 255, "does not match HailoRT-CLI version"),
        ({"architecture": "HAILO8L"}, ["run", "HEF"], 93, "HEF format is not compatible"),
        ({"power_sensor": False}, ["run", "HEF", "--measure-power"], 6, "not supported"),
        ({"power_sensor": False}, ["measure-power"], 18, "Failed power measurement"),
        ({"devices": []}, ["run", "HEF"], 74, "requested: 1, found: 0"),
    ],
)
def test_states_that_end_the_command(
    cli: Cli, hef: str, state: State, case: tuple[dict[str, Any], list[str], int, str]
) -> None:
    said, words, code, message = case
    state(**said)
    found, _, err = cli(*(hef if word == "HEF" else word for word in words))
    assert found == code
    assert message in err


def test_a_busy_chip_in_the_csv(cli: Cli, hef: str, tmp_path: Path, state: State) -> None:
    state(busy=True)
    csv = tmp_path / "out.csv"
    assert cli("run", hef, "--csv", str(csv))[0] == 74
    # eleven fields and no end of line: as the real command leaves it
    assert csv.read_text().splitlines()[1] == "tiny,74,HAILO_OUT_OF_PHYSICAL_DEVICES" + "," * 11
    bad = tmp_path / "bad.hef"
    bad.write_text("x" * 40, encoding="utf-8")
    code, _, err = cli("run", str(bad), "--csv", str(csv))
    assert (code, len(csv.read_text().splitlines())) == (92, 1)
    assert "[HailoRT] [error] Unsupported hef version" in err
