"""The comparison table: names, speedup, notes, sources, and what is best."""

import msgspec
import pytest
from sample import sample

from edgedeploy.records import Figure, Report, Row
from edgedeploy.report import overview, provenance
from edgedeploy.report.csv_file import to_csv
from edgedeploy.report.html import to_html, to_notebook
from edgedeploy.report.latex import to_latex
from edgedeploy.report.markdown import to_markdown
from edgedeploy.report.remarks import tally
from edgedeploy.report.table import Comparison, compare_rows, peak_memory
from edgedeploy.report.text import TIMES, printable, row_names


def cell(table: Comparison, i: int, key: str) -> str:
    return table.cells[i][[c.key for c in table.columns].index(key)].text


def with_rows(*rows: Row) -> Report:
    return msgspec.structs.replace(sample()[0], rows=rows)


def with_figure(row: Row, key: str, figure: Figure) -> Row:
    return msgspec.structs.replace(row, figures={**row.figures, key: figure})


def test_speedup_is_against_the_first_ok_row_of_the_same_workload() -> None:
    rows = sample()[0].rows
    slow = with_figure(rows[0], "latency_p50_s", Figure(value=4e-4, unit="s", source="measured"))
    fast = with_figure(rows[1], "latency_p50_s", Figure(value=1e-4, unit="s", source="measured"))
    other = msgspec.structs.replace(fast, workload="other")
    table = compare_rows(with_rows(rows[6], slow, fast, other))
    assert [cell(table, i, "speedup") for i in range(4)] == [
        "—",
        f"1.00{TIMES}",
        f"4.00{TIMES}",
        f"1.00{TIMES}",
    ]
    assert table.speedup_note == "Speedup is p50 against the first ok row of the same workload."


def test_an_estimate_is_not_compared_with_a_measurement() -> None:
    table = compare_rows(sample()[0])
    column = [c.key for c in table.columns].index("speedup")
    assert table.cells[5][column].reason == "emulated against measured: not comparable"
    assert table.mixed
    assert table.sources == ("measured", "emulated")


def test_equal_reasons_share_a_note_and_failed_rows_have_none() -> None:
    table = compare_rows(sample()[0])
    assert list(table.notes.values()) == [1, 2, 3]
    assert not any(cell.reason for line in table.cells[6:] for cell in line)


def test_rows_are_told_apart_by_as_much_as_it_takes() -> None:
    row = sample()[0].rows[0]
    again = msgspec.structs.replace(row, run="second")
    other = msgspec.structs.replace(row, workload="other")
    assert row_names([row]) == ["host fp32"]
    assert row_names([row, again]) == [f"host fp32 ({row.run})", "host fp32 (second)"]
    assert row_names([row, other]) == ["digits host fp32", "other host fp32"]
    titles = [c.title for c in compare_rows(with_rows(row, again, other)).columns]
    assert titles[:5] == ["Target", "Precision", "Workload", "Run", "Status"]


def test_peak_memory_is_the_larger_of_loading_and_running() -> None:
    row = sample()[0].rows[0]
    figures = {
        "memory_load_peak_bytes": Figure(value=3_000_000, unit="B", source="measured"),
        "memory_steady_bytes": Figure(value=5_000_000, unit="B", source="measured"),
    }
    steady = peak_memory(msgspec.structs.replace(row, figures=figures))
    assert steady is not None
    assert steady.value == 5_000_000
    assert peak_memory(msgspec.structs.replace(row, figures={})) is None


def test_each_metric_has_its_column_and_its_good_end() -> None:
    rows = sample()[0].rows
    error = with_figure(rows[1], "accuracy_nme", Figure(value=0.04, unit="1", source="measured"))
    table = compare_rows(with_rows(rows[0], error))
    better = {c.title: c.better for c in table.columns}
    assert better["Top-1"] == "high"
    assert better["nme"] == "low"


def test_best_figures_are_measured_ones_and_ties_share_the_mark() -> None:
    table = compare_rows(sample()[0])
    best = overview.best_cells(table)
    keys = [c.key for c in table.columns]
    assert {i for i, j in best if keys[j] == "accuracy_top1"} == {0, 3}
    assert {i for i, j in best if keys[j] == "latency_p50_s"} == {2}
    # The emulated row needs less, but the measured ones go first.
    assert {i for i, j in best if keys[j] == "memory_peak_bytes"} == {0, 1, 2}
    labels = {tile.label: (tile.text, tile.row) for tile in overview.tiles(table)}
    assert labels["Best Top-1"] == ("97.78 %", "host fp32 and 1 more")
    assert labels["Least energy per inference"] == ("1.29 mJ", "orin-nano int8")


def test_a_lower_is_better_metric_turns_the_front_round() -> None:
    rows = sample()[0].rows[:3]
    errors = (0.05, 0.04, 0.06)
    report = with_rows(
        *(
            msgspec.structs.replace(
                row,
                figures={
                    "accuracy_nme": Figure(value=error, unit="1", source="measured"),
                    "latency_p50_s": Figure(value=1e-3 * (3 - i), unit="s", source="measured"),
                },
            )
            for i, (row, error) in enumerate(zip(rows, errors, strict=True))
        )
    )
    (chart,) = overview.tradeoffs(compare_rows(report))
    assert [row.name for row in chart.front] == ["host-openvino int8", "host int8"]


def test_origins_name_instrument_window_and_file() -> None:
    rows = sample()[0].rows
    assert provenance.how(rows[3], "power_net_w").startswith(
        "hwmon ina3221 rail VDD_IN; latency window of 1.2 s, 4,000 inferences, 1 in flight"
    )
    assert provenance.how(rows[3], "power_net_w").endswith(", less the idle power")
    assert provenance.how(rows[0], "artifact_bytes") == "size of the onnx file, sha256 c0ffee000000"
    assert provenance.how(rows[0], "accuracy_top1") == "top1 over 360 samples of digits, split test"
    assert "throughput window of 1 s" in provenance.how(rows[0], "throughput_hz")
    assert "2 in flight" in provenance.how(rows[0], "throughput_hz")
    reasons = [origin.how for origin in provenance.origins(rows[0]) if not origin.source]
    assert all(reason.startswith("no instrument read power") for reason in reasons)
    assert len(reasons) == 5


def test_a_cut_model_says_so_in_every_form() -> None:
    whole = sample()[0].rows[0]
    assert whole.artifact is not None
    cut = msgspec.structs.replace(
        whole.artifact, tail_path="/tail.onnx", notes=("cut behind a (b): 4 nodes run on the host",)
    )
    report = with_rows(msgspec.structs.replace(whole, artifact=cut))
    forms = [to_markdown(report), to_csv(report), to_latex(report), to_html(report, {})]
    assert all("4 nodes run on the host" in form for form in [*forms, to_notebook(report)])
    assert "accuracy and parity of the whole" in forms[0]
    plain = with_rows(whole)
    assert "run on the host" not in to_markdown(plain) + to_csv(plain) + to_html(plain, {})


def test_options_that_took_another_effect_are_marked() -> None:
    pairs = provenance.settings({"a": 1, "b": True, "c": 3}, {"a": 1, "b": False, "d": [1, 2]})
    assert [(p.name, p.requested, p.effective, p.changed) for p in pairs] == [
        ("a", "1", "1", False),
        ("b", "true", "false", True),
        ("c", "3", "", False),
        ("d", "", "1, 2", False),
    ]


def test_what_was_asked_for_and_tally() -> None:
    assert tally(sample()[0].rows) == "9 rows: 6 ok, 1 failed, 1 unsupported, 1 missing"
    assert tally(()) == "no rows"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain", "plain"), ("a\nb", "a\nb"), ("\x1b[1m", "\ufffd[1m"), ("a\u202eb", "a\ufffdb")],
)
def test_printable(text: str, expected: str) -> None:
    assert printable(text) == expected
