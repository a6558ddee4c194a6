"""The HTML page: what it says, that nothing breaks out of it, that it stays small and offline."""

import base64
import hashlib
import json
import re
import time

import msgspec
import pytest
from hostile import ATTACK, SHOWN, hostile
from markup import Page
from sample import sample

from edgedeploy.records import Figure, Report, Row
from edgedeploy.report.html import DETAILED_ROWS, detailed_rows, to_html, to_notebook
from edgedeploy.report.text import TIMES


@pytest.fixture(scope="module")
def page_text() -> str:
    return to_html(*sample())


@pytest.fixture(scope="module")
def page(page_text: str) -> Page:
    return Page(page_text)


def many(count: int) -> Report:
    """`count` rows over many runs."""
    report, _ = sample()
    rows = tuple(
        msgspec.structs.replace(
            report.rows[i % len(report.rows)], run=f"run-{i // len(report.rows):05d}"
        )
        for i in range(count)
    )
    return msgspec.structs.replace(report, rows=rows)


def test_the_page_is_balanced(page: Page) -> None:
    assert page.problems == []
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for a in page.named("a")}
    assert targets <= set(ids)


def test_the_comparison_holds_every_row_and_figure(page: Page) -> None:
    rows = {(c[0], c[1]): c for c in page.cells if len(c) == 12}
    assert rows[("Target", "Precision")][2:] == [
        "Status", "Top-1", "p50", "p99", "Speedup", "Throughput", "Energy/inf.", "Peak memory",
        "Artifact", "SNR",
    ]  # fmt: skip
    host = rows[("host" + "x86-64 host", "fp32")]
    assert host[2] == "ok"
    assert host[3] == "97.78 %m"
    assert host[6] == f"1.00{TIMES}m"
    assert host[7] == "4,126/sm"
    assert host[8] == "—1"
    assert host[9:] == ["11.8 MBm", "142 kBm", "118.0 dBm"]
    emulated = rows[("esp32-s3" + "ESP32-S3 under QEMU", "int8")]
    assert emulated[3] == "96.67 %e"
    assert emulated[5] == "—2"
    assert rows[("hailo8", "int8")][2:] == ["failed (compile)"] + ["—"] * 9
    assert rows[("host" + "x86-64 host", "int8")][2] == "ok unstable"


def test_reasons_failures_and_verdicts_are_told_in_full(page: Page) -> None:
    report, _ = sample()
    assert "p99 needs 1000 samples, 320 were taken" in page.text
    for row in report.rows:
        if row.failure is not None:
            assert row.failure.message in page.text
            assert row.failure.hint in page.text
        for verdict in row.measurement.instability if row.measurement else ():
            assert verdict.message in page.text
    assert "Mapping failed (allocation: agent infeasible)" in page.text
    assert "sudo chmod -R a+r /sys/class/powercap/intel-rapl*" in page.text
    assert "breaks at deployed" in page.text


def test_provenance_names_instrument_window_and_changed_option(page: Page) -> None:
    assert "perf_counter_ns, clock host-monotonic" in page.text
    assert "hwmon ina3221 rail VDD_IN; latency window of" in page.text
    assert "false (differs)" in page.text
    assert "Intel(R) Xeon(R) Platinum 8481C" in page.text
    assert "counted on the exported graph" in page.text


def test_every_drawing_has_a_title_and_description(page: Page) -> None:
    drawings = [a for a in page.named("svg") if a.get("role") == "img"]
    # 6 measured rows with two drawings each, 2 with power, the trade-off wide and narrow.
    assert len(drawings) == 6 * 2 + 2 + 2
    ids = {a["id"] for name in ("title", "desc") for a in page.named(name) if "id" in a}
    assert all(set(a["aria-labelledby"].split()) <= ids for a in drawings)
    assert all(a.get("scope") in ("col", "row") for a in page.named("th"))


def test_the_page_refers_to_nothing_outside(page_text: str, page: Page) -> None:
    assert not re.search(r"https?://|url\(|@import|//cdn", page_text)
    outside = [a for _, a in page.tags if "src" in a or not a.get("href", "#").startswith("#")]
    assert outside == []
    assert page.named("link") == []
    assert not [a for _, a in page.tags if "style" in a]


def test_the_policy_allows_exactly_the_pages_own_style_and_script(page: Page) -> None:
    policy = next(a["content"] for a in page.named("meta") if "http-equiv" in a)
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == "'none'"
    for directive, tag in (("style-src", "style"), ("script-src", "script")):
        digest = hashlib.sha256("".join(page.raw[tag]).encode()).digest()
        assert allowed[directive] == f"'sha256-{base64.b64encode(digest).decode()}'"


def test_no_text_breaks_out_of_the_page(page: Page) -> None:
    attacked = Page(to_html(*hostile()))
    assert attacked.problems == []
    assert len(attacked.named("script")) == len(page.named("script"))
    assert attacked.named("img") == []
    assert not [name for _, a in attacked.tags for name in a if name.startswith("on")]
    assert attacked.text.count(SHOWN) > 300
    assert "\x1b" not in attacked.text
    assert "\u202e" not in attacked.text
    drawn = [a for a in attacked.named("svg") if a.get("role") == "img"]
    assert len(drawn) == 16


def test_no_text_breaks_out_of_the_rows_kept_as_json() -> None:
    report, _ = hostile()
    rows = [msgspec.structs.replace(report.rows[i % 9], run=f"{ATTACK}{i:03d}") for i in range(210)]
    page = Page(to_html(msgspec.structs.replace(report, rows=tuple(rows)), {}))
    assert page.problems == []
    assert [a.get("type") for a in page.named("script")] == ["application/json", None]
    island = json.loads(page.raw["script"][0])
    assert len(island["rows"]) == 10
    assert island["rows"][0][2] == f"{SHOWN}{sample()[0].rows[200 % 9].target}"


def test_ten_thousand_rows_stay_small_and_quick() -> None:
    report = many(10_000)
    start = time.process_time()
    text = to_html(report, {})
    taken_s = time.process_time() - start
    assert taken_s < 3
    assert len(text.encode()) < 15_000_000
    page = Page(text)
    assert sum(a.get("class", "").startswith("row-") for a in page.named("tr")) == 200
    assert "9,800 more rows" in page.text
    assert len(json.loads(page.raw["script"][0])["rows"]) == 9_800
    assert f"first {DETAILED_ROWS} of 6,667 measured rows" in page.text


def test_detailed_rows_skip_those_without_a_measurement() -> None:
    report = many(100)
    rows = detailed_rows(report.rows)
    assert len(rows) == DETAILED_ROWS
    assert all(row.measurement is not None for row in rows)


def test_rows_without_accuracy_say_so_instead_of_a_chart() -> None:
    report, series = sample()
    rows = []
    for row in report.rows:
        figures = {k: f for k, f in row.figures.items() if not k.startswith("accuracy")}
        figures["accuracy"] = Figure(value=None, unit="1", reason="no evaluation set")
        rows.append(msgspec.structs.replace(row, figures=figures))
    text = Page(to_html(msgspec.structs.replace(report, rows=tuple(rows)), series)).text
    assert "No row has both an accuracy and a p50 latency: no evaluation set." in text
    assert "On the Pareto front" not in text


def test_one_source_needs_no_marks() -> None:
    report, series = sample()
    rows = tuple(row for row in report.rows if row.target != "esp32-s3")
    page = Page(to_html(msgspec.structs.replace(report, rows=rows), series))
    assert "All figures are measured on the device, file sizes on this host." in page.text
    assert [c[3] for c in page.cells if c[:2] == ["hostx86-64 host", "fp32"]] == ["97.78 %"]


def test_series_not_at_hand_are_said_to_be_missing() -> None:
    report, _ = sample()
    assert Page(to_html(report, {})).text.count("the raw samples were not at hand") == 6


@pytest.mark.parametrize("rows", [(), sample()[0].rows[-1:]])
def test_reports_without_a_measurement_render(rows: tuple[Row, ...]) -> None:
    report = msgspec.structs.replace(sample()[0], rows=rows)
    page = Page(to_html(report, {}))
    assert page.problems == []
    assert "No row was measured." in page.text


def test_the_notebook_table_is_a_fragment_without_script() -> None:
    report, _ = hostile()
    page = Page(to_notebook(report))
    assert page.problems == []
    assert page.named("script") == []
    assert page.named("img") == []
    assert SHOWN in page.text
    plain = Page(to_notebook(sample()[0]))
    cells = next(c for c in plain.cells if c[:2] == ["host", "fp32"])
    assert cells[3] == "97.78 %m"
    assert "Remedy: --precision int8" in plain.text


def test_the_notebook_table_says_how_many_rows_it_leaves_out() -> None:
    assert "9,950 more rows" in Page(to_notebook(many(10_000))).text
