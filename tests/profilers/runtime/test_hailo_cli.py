"""What hailortcli tells of the chip: run, parsed, marked with its version, and its faults."""

from pathlib import Path
from types import ModuleType

import hailo_artifacts
import hailort_cli
import pytest
from hailo_artifacts import artifact, chips, expected, free, pictures
from hailort_faults import Failed, Missing, TimedOut
from numpy.testing import assert_allclose

board, hailo = hailo_artifacts.board, hailo_artifacts.hailo
COLUMNS = (
    "net_name,status,status_description,fps,num_of_frames,send_rate,recv_rate,hw_latency,"
    "overall_latency,min_power,average_power,max_power,min_current,average_current,max_current,"
    "min_temp,average_temp,max_temp"
)


@pytest.fixture
def tool(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in of hailortcli is the one on the PATH, and its runs take no time."""
    monkeypatch.setenv("PATH", f"{hailo_artifacts.FAKES}:/usr/bin:/bin")
    chips(board, command_time_scale=0.0, command_latency_s=0.002936)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A hailortcli on the PATH that answers the version, else does what its file `body` says."""
    body = tmp_path / "body"
    path = tmp_path / "hailortcli"
    version = 'if [ "$1" = --version ]; then echo HailoRT-CLI version 4.23.0; exit; fi'
    path.write_text(f"#!/bin/sh\n{version}\n. {body}\n")
    path.chmod(0o755)
    return body


def written(rows: str, code: int = 0) -> str:
    """What a script does that writes these rows into its CSV."""
    find = 'while [ "$1" != --csv ]; do shift; done'
    return f"{find}\nprintf '%s\\n' '{COLUMNS}' {rows} > \"$2\"\necho said >&2\nexit {code}\n"


def test_the_vendors_figures_are_parsed_and_the_chip_is_taken_up_again(
    hailo: ModuleType, board: Path, tool: None, tmp_path: Path
) -> None:
    hailo.load(artifact(tmp_path / "net"), {"batch_size": 4, "power_mode": "ultra_performance"})
    assert hailo.facts()["tools"]["hailortcli"] == "4.23.0+standin"
    answer = hailo.vendor_figures(3.0)
    found = {figure["name"]: figure for figure in answer["figures"]}
    assert found["latency_chip_s"] == {
        "name": "latency_chip_s",
        "value": pytest.approx(0.002936),
        "unit": "s",
        "by": "hailortcli 4.23.0+standin, run --measure-latency",
    }
    assert found["throughput_chip_hz"]["value"] == 1000.0
    assert found["throughput_chip_hz"]["unit"] == "Hz"
    assert found["throughput_chip_hz"]["by"].endswith(", run -m hw_only --batch-size 4")
    assert found["throughput_streaming_hz"]["value"] == 950.0
    assert answer["notes"] == []
    assert not free(board)
    _, x = pictures(1)
    assert_allclose(hailo.run({"x": x[0]})["z"], expected(x)["z"][0], rtol=1e-5, atol=1e-5)


def test_the_arguments_name_mode_batch_and_chip(
    hailo: ModuleType, board: Path, script: Path, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    script.write_text(f'echo "$@" >> {asked}\n' + written("net,0,HAILO_SUCCESS,9,1,,,2.5,,,,"))
    hailo.load(artifact(tmp_path / "net"), {})
    figures = hailo.vendor_figures(6.4)["figures"]
    assert [figure["value"] for figure in figures] == [0.0025, 9.0, 9.0]
    lines = asked.read_text().splitlines()
    assert len(lines) == 3
    for line, mode in zip(lines, ("--measure-latency", "-m hw_only", "-m streaming"), strict=True):
        assert line.startswith(f"run {tmp_path}/net/model.hef -t 2 -s 0000:01:00.0 --csv ")
        assert mode in line
        assert line.endswith("--power-mode performance")


def test_without_the_tool_it_is_missing_and_the_chip_kept(
    hailo: ModuleType, board: Path, tmp_path: Path
) -> None:
    hailo.load(artifact(tmp_path / "net"), {})
    with pytest.raises(Missing, match="hailortcli is not on the PATH") as caught:
        hailo.vendor_figures(1.0)
    assert "Install HailoRT's package" in caught.value.hint
    assert not free(board)


def test_a_figure_that_the_tool_leaves_out_is_a_note(
    hailo: ModuleType, board: Path, script: Path, tmp_path: Path
) -> None:
    script.write_text(written("net,0,HAILO_SUCCESS,120.5,602,1.1,2.2,,,,,"))
    hailo.load(artifact(tmp_path / "net"), {})
    answer = hailo.vendor_figures(0.1)
    assert [figure["value"] for figure in answer["figures"]] == [120.5, 120.5]
    assert answer["notes"] == ["hailortcli 4.23.0 told no hw_latency (run --measure-latency)"]


BUSY = (
    written("net,74,HAILO_OUT_OF_PHYSICAL_DEVICES,,,,,,,,,,,", 74),
    Missing,
    "hailortcli run --measure-latency --power-mode performance: the chip is in use by another"
    " process (status 74, HAILO_OUT_OF_PHYSICAL_DEVICES)",
)
NEW = (written("net,99,HAILO_NEW,,,,,,,,,,,", 99), Failed, "(HAILO_STATUS_99) said")
REFUSED = ("echo no such option >&2\nexit 109\n", Failed, "ended with 109 and said: no such")
SILENT = ("exit 0\n", Failed, "wrote 'nothing', expected columns")
OTHERS = (written("a,0,OK,1,1,,,,,,, b,0,OK,1,1,,,,,,,"), Failed, "and a row 'net'")


@pytest.mark.parametrize("fault", [BUSY, NEW, REFUSED, SILENT, OTHERS])
def test_a_run_that_fails_is_told_and_the_chip_taken_up_again(
    hailo: ModuleType, board: Path, script: Path, fault: tuple[str, type[Exception], str]
) -> None:
    body, kind, told = fault
    script.write_text(body)
    hailo.load(artifact(script.with_name("net")), {})
    with pytest.raises(kind) as caught:
        hailo.vendor_figures(1.0)
    assert told in str(caught.value)
    assert not free(board)
    _, x = pictures(1)
    assert hailo.run({"x": x[0]})["z"].shape == (1, 5)


def test_a_tool_that_hangs_is_given_up(
    board: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.write_text("exec /bin/sleep 20\n")
    with pytest.raises(TimedOut, match=r"`hailortcli run` did not end within 0\.1 s"):
        hailort_cli.called(["run"], 0.1)


def test_the_row_of_the_network_is_taken_or_the_only_one() -> None:
    table = f"{COLUMNS}\nb,0,OK,1\na,0,OK,2\n"
    assert (hailort_cli.row_of(table, "a") or {})["fps"] == "2"
    assert hailort_cli.row_of(table, "c") is None
    assert (hailort_cli.row_of(f"{COLUMNS}\nb,0,OK,1\n", "a") or {})["net_name"] == "b"
    assert hailort_cli.row_of("net_name,fps\na,1\n", "a") is None
    assert hailort_cli.row_of("", "a") is None
    assert hailort_cli.figure("nan%") is None
