"""Charts: what is drawn for known data, and that text in them is escaped."""

import re

import numpy as np
from hostile import ATTACK
from markup import Page

from edgedeploy.report import charts, tradeoff


def heights(drawing: str, class_: str) -> list[float]:
    """Heights of the bars of a histogram's path."""
    path = re.search(rf'd="([^"]*)" class="{class_}"', drawing)
    assert path is not None
    ends = re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)H", path[1])
    return [round(float(bottom) - float(top), 1) for bottom, top in ends]


def test_a_histogram_counts_the_tail_apart_and_names_its_end() -> None:
    body = np.linspace(1.0e-3, 1.1e-3, 5000)
    values = np.concatenate([body, [9.0e-3, 12.0e-3]])
    drawing = charts.histogram("k", values, [("p50", 1.05e-3)], "title")
    assert "2 more up to 12 ms" in drawing
    assert "5,002 samples; p50 1.05 ms; 2 beyond the axis, up to 12 ms" in drawing
    assert len(heights(drawing, "bars")) > 20
    assert max(heights(drawing, "bars")) == 96.0
    assert heights(drawing, "tail") == [1.1]


def test_a_histogram_without_a_tail_has_none() -> None:
    drawing = charts.histogram("k", np.linspace(1e-3, 2e-3, 100), [], "title")
    assert "more up to" not in drawing
    assert "tail" not in drawing


def test_a_histogram_of_equal_values_is_one_full_bar() -> None:
    drawing = charts.histogram("k", np.full(10, 3e-4), [("p50", 3e-4)], "title")
    assert heights(drawing, "bars") == [96.0]
    assert "p50 300 \N{MICRO SIGN}s" in drawing


def test_one_sample_in_a_bin_stays_visible() -> None:
    values = np.concatenate([np.full(100_000, 1.0), [1.4, 1.5]])
    drawing = charts.histogram("k", values, [], "title")
    assert min(heights(drawing, "bars")) == 1.0


def test_a_timeline_is_decimated_but_keeps_a_spike() -> None:
    values = np.full(100_000, 1e-3)
    values[54_321] = 5e-3
    drawing = charts.timeline("k", np.arange(100_000) / 1e3, values, 1e-3, "title")
    assert len(drawing) < 12_000
    path = re.search(r'd="([^"]*)" class="trace"', drawing)
    assert path is not None
    tops = [float(y) for y in re.findall(r"V([\d.]+)", path[1])]
    assert len(tops) == charts.TIMELINE_BINS
    assert sum(y < 30 for y in tops) == 1


def test_the_tradeoff_fills_the_front_and_names_it() -> None:
    points = [
        tradeoff.Point("fast", 1e-3, 90.0, "measured", True, "fast: 90 % at 1 ms"),
        tradeoff.Point("good", 9e-3, 95.0, "emulated", True, "good: 95 % at 9 ms"),
        tradeoff.Point("poor", 5e-3, 80.0, "estimated", False, "poor: 80 % at 5 ms"),
    ]
    drawing = tradeoff.tradeoff("k", points, "Top-1", "%", width=700, height=400)
    page = Page(drawing)
    assert page.problems == []
    assert "3 rows; on the Pareto front: fast: 90 % at 1 ms; good: 95 % at 9 ms" in page.text
    assert [a["class"] for a in page.named("circle")] == ["mark on-front"]
    marks = [a["class"] for a in page.named("path") if a["class"].startswith("mark")]
    assert sorted(marks) == ["mark", "mark on-front"]
    assert "p50 latency, ms (log)" in page.text
    assert {"fast\N{MODIFIER LETTER SMALL M}", "good\N{MODIFIER LETTER SMALL E}"} <= set(page.texts)


def test_marks_that_cover_each_other_are_drawn_once() -> None:
    points = [tradeoff.Point("p", 1e-3, 90.0, "measured", False, "p")] * 5000
    drawing = tradeoff.tradeoff("k", points, "Top-1", "%", width=700, height=400)
    assert len(Page(drawing).named("circle")) == 1


def test_names_in_drawings_are_escaped() -> None:
    point = tradeoff.Point(ATTACK, 1e-3, 90.0, "measured", True, ATTACK)
    drawings = [
        tradeoff.tradeoff("k", [point], ATTACK, ATTACK, width=700, height=400),
        charts.histogram("k", np.ones(3), [(ATTACK, 1.0)], ATTACK),
        charts.timeline("k", np.arange(3), np.ones(3), None, ATTACK),
        charts.power(
            "k",
            [(ATTACK, np.arange(3), np.ones(3))],
            [charts.Phase(ATTACK, 0, 2)],
            ATTACK,
        ),
    ]
    for drawing in drawings:
        page = Page(drawing)
        assert page.problems == []
        assert page.named("script") == []
        assert page.named("img") == []
        assert "alert(1)" in page.text


def test_bars_are_shares_and_nothing_is_no_bar() -> None:
    widths = [Page(charts.bar(share)).named("rect")[0]["width"] for share in (0, 1e-6, 0.5, 1, 7)]
    assert widths == ["0.00%", "0.60%", "50.00%", "100.00%", "100.00%"]
