"""Markdown, LaTeX, CSV and JSON: the cells are there, nothing in them is taken for markup."""

import csv
import io
import re

import msgspec
import pytest
from hostile import hostile
from hypothesis import given
from hypothesis import strategies as st
from sample import sample

from edgedeploy.figures import FIGURE_LABELS
from edgedeploy.records import Report
from edgedeploy.report import latex, markdown
from edgedeploy.report.csv_file import to_csv
from edgedeploy.report.json_file import json_schema, to_json
from edgedeploy.report.text import TIMES


def renamed(name: str) -> Report:
    """The sample with another name for its first target."""
    report, _ = sample()
    row = msgspec.structs.replace(report.rows[0], target=name, board=name)
    return msgspec.structs.replace(report, rows=(row, *report.rows[1:]))


def test_json_reads_back_equal_and_says_value_unit_and_source() -> None:
    report, _ = sample()
    written = to_json(report)
    assert msgspec.json.decode(written, type=Report) == report
    assert written.endswith(b"\n")
    plain = msgspec.json.decode(written)
    p50 = plain["rows"][0]["figures"]["latency_p50_s"]
    assert (p50["unit"], p50["source"]) == ("s", "measured")
    assert p50["value"] == report.rows[0].figures["latency_p50_s"].value
    hostile_report, _ = hostile()
    assert msgspec.json.decode(to_json(hostile_report), type=Report) == hostile_report


def test_the_schema_describes_every_record() -> None:
    schema = json_schema()
    assert schema["$ref"] == "#/$defs/Report"
    definitions = schema["$defs"]
    assert {"Report", "Row", "Figure", "Measurement", "Failure", "Ladder"} <= set(definitions)
    assert definitions["Figure"]["additionalProperties"] is False
    assert definitions["Row"]["required"] == ["run", "workload", "target", "precision", "status"]
    assert set(msgspec.json.decode(to_json(sample()[0]))) == set(
        definitions["Report"]["properties"]
    )


def test_csv_reads_back_to_the_same_values() -> None:
    report, _ = sample()
    lines = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert len(lines) == len(report.rows)
    for line, row in zip(lines, report.rows, strict=True):
        assert (line["target"], line["precision"], line["status"]) == (
            row.target,
            row.precision,
            row.status,
        )
        for key, figure in row.figures.items():
            read = float(line[key]) if line[key] else None
            assert read == figure.value
            assert line[f"{key}_source"] == (figure.source or "")
            assert line[f"{key}_reason"] == (figure.reason or "")
    assert lines[1]["instability"] == "drift;host_load"
    assert float(lines[2]["speedup"]) == pytest.approx(
        report.rows[0].figures["latency_p50_s"].value
        / report.rows[2].figures["latency_p50_s"].value
    )
    assert lines[5]["speedup_reason"] == "emulated against measured: not comparable"
    assert lines[6]["stage"] == "compile"
    assert lines[6]["hint"].startswith("lower the batch")


def test_csv_columns_stand_in_the_order_of_the_figures() -> None:
    header = next(csv.reader(io.StringIO(to_csv(sample()[0]))))
    figures = [name for name in header if name in FIGURE_LABELS]
    assert figures == [name for name in FIGURE_LABELS if name in figures]
    assert header[:6] == ["run", "workload", "target", "board", "precision", "status"]


@pytest.mark.parametrize(
    "attack",
    ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "  =1", "\uff1d1+1"],
)
def test_csv_texts_are_never_formulas(attack: str) -> None:
    line = next(csv.DictReader(io.StringIO(to_csv(renamed(attack)))))
    assert line["target"].startswith("'")
    assert not line["board"].startswith(("=", "+", "-", "@", " ", "\t", "\uff1d"))


def test_csv_leaves_negative_numbers_numbers() -> None:
    line = next(csv.DictReader(io.StringIO(to_csv(sample()[0]))))
    drift = sample()[0].rows[0].figures["latency_drift"].value
    assert drift is not None
    assert drift < 0
    assert line["latency_drift"] == repr(drift)


def table_rows(text: str) -> list[list[str]]:
    """Cells of a Markdown table, split at the pipes that are not escaped."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_markdown_has_every_row_and_below_it_the_reasons() -> None:
    text = markdown.to_markdown(sample()[0])
    rows = table_rows(text)
    assert len(rows) == 2 + 9
    assert {len(row) for row in rows} == {12}
    assert rows[2][:4] == ["host", "fp32", "ok", "97.78 %ᵐ"]
    assert rows[2][6] == f"1.00{TIMES}ᵐ"
    assert rows[2][8] == "— (1)"
    assert rows[3][2] == "ok !"
    assert rows[8][2] == "failed (compile)"
    assert "2. p99 needs 1000 samples, 320 were taken" in text
    measured = "ᵐ measured on the device, file sizes on this host"
    emulated = "ᵉ emulated by a simulator, a stand-in or another toolchain in the device's place"
    assert f"{measured}; {emulated}." in text
    assert "**hailo8 int8**, failed at compile: the allocator found no mapping" in text
    assert "Remedy: --precision int8" in text
    assert "host's load average was 1.84" in text


def test_markdown_cells_hold_pipes_and_markup_as_text() -> None:
    rows = table_rows(markdown.to_markdown(renamed("a|b*c*`d`<i>[e](f)\n# g")))
    assert {len(row) for row in rows} == {12}
    assert rows[2][0] == "a\\|b\\*c\\*\\`d\\`&lt;i&gt;\\[e\\](f) \\# g"
    attacked = table_rows(markdown.to_markdown(hostile()[0]))
    assert {len(row) for row in attacked} == {12}
    assert len(attacked) == 2 + 9


def test_latex_has_every_row_between_its_rules() -> None:
    text = latex.to_latex(sample()[0])
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0].strip().splitlines()
    assert len(body) == 9
    assert all(line.count(" & ") == 11 and line.endswith(r" \\") for line in body)
    assert body[0].startswith(
        r"host & fp32 & ok & 97.78 \%\textsuperscript{m} & 415 \ensuremath{\mu}s"
    )
    assert r"1.00\ensuremath{\times}\textsuperscript{m}" in body[0]
    assert r"\textemdash{}\textsuperscript{2}" in body[5]
    assert r"\begin{tabular}{lllrrrrrrrrr}" in text
    assert r"\textsuperscript{2} p99 needs 1000 samples, 320 were taken.\par" in text
    assert r"Remedy: -{}-precision int8\par" in text


def test_latex_specials_are_escaped() -> None:
    assert latex.escape(r"50% _a_ & {b} $c$ #d ~e ^f \g <i> |j| --k") == (
        r"50\% \_a\_ \& \{b\} \$c\$ \#d \textasciitilde{}e \textasciicircum{}f"
        r" \textbackslash{}g \textless{}i\textgreater{} \textbar{}j\textbar{} -{}-k"
    )


@given(st.text(max_size=80))
def test_latex_text_holds_no_live_special(text: str) -> None:
    escaped = latex.escape(text)
    rest = re.sub(
        r"\\text[a-z]+\{\}|\\ensuremath\{(\\[a-z]+|-|\^\{\\circ\})\}|\\,|-\{\}", "", escaped
    )
    rest = re.sub(r"\\[{}$&#%_]", "", rest)
    # A no-break space becomes a tie; nothing else that LaTeX reads may be left.
    assert not re.search(r"[\\{}$&#%_^|<>\"`]", rest)
    assert "--" not in escaped
    assert "\n" not in escaped
