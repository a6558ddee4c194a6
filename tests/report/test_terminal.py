"""The terminal table: fits the width, cuts nothing, obeys no escape in a name."""

import io

import msgspec
import pytest
from hostile import hostile
from rich.console import Console
from sample import sample

from edgedeploy.records import Report
from edgedeploy.report.table import compare_rows
from edgedeploy.report.terminal import ROWS, render


def shown(report: Report, width: int) -> str:
    stream = io.StringIO()
    render(report, Console(width=width, file=stream, color_system=None))
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_every_figure_stands_whole_within_the_width(width: int) -> None:
    report, _ = sample()
    text = shown(report, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    table = compare_rows(report)
    assert all(column.title in text for column in table.columns)
    for line in table.cells:
        assert all(cell.text in text for cell in line[3:])


def test_a_wide_terminal_has_one_table_and_a_narrow_one_several() -> None:
    report, _ = sample()
    assert [shown(report, width).count("Precision") for width in (200, 80)] == [1, 3]


def test_marks_notes_failures_and_verdicts_follow() -> None:
    text = " ".join(shown(sample()[0], 80).split())
    assert "host fp32 ok 97.78 %ᵐ 415 µsᵐ 481 µsᵐ" in text
    assert "host int8 ok !" in text
    measured = "ᵐ measured on the device, file sizes on this host"
    emulated = "ᵉ emulated by a simulator, a stand-in or another toolchain in the device's place"
    assert f"{measured}; {emulated}." in text
    assert "Speedup is p50 against host fp32." in text
    assert "² p99 needs 1000 samples, 320 were taken" in text
    assert "coral-micro fp32 unsupported at compile: the accelerator runs int8 only" in text
    assert "remedy: --precision int8" in text
    assert "host int8 host load: the host's load average was 1.84" in text


def test_names_drive_neither_the_terminal_nor_its_markup() -> None:
    report, _ = hostile()
    text = shown(report, 100)
    assert "\x1b" not in text
    assert "\u202e" not in text
    row = msgspec.structs.replace(report.rows[0], target="[red]x[/red]")
    assert "[red]x[/red]" in shown(msgspec.structs.replace(report, rows=(row,)), 100)


def test_ten_thousand_rows_are_cut_and_counted() -> None:
    report, _ = sample()
    rows = tuple(report.rows[i % 9] for i in range(10_000))
    text = shown(msgspec.structs.replace(report, rows=rows), 200)
    assert f"The first {ROWS} rows; 9,800 more are in the JSON and CSV." in text
    assert len(text.splitlines()) < 450


def test_no_rows_are_said_to_be_none() -> None:
    report = msgspec.structs.replace(sample()[0], rows=())
    assert "no rows" in shown(report, 80)
