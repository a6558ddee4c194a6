"""Accuracy and energy of two sides: deltas, standard errors, and why there are none."""

import math

import pytest
from specimens import joules, measurement, row, top1

from edgedeploy.change import accuracy_change, energy_change
from edgedeploy.records import Accuracy, Row


def evaluated(accuracy: Accuracy | None) -> Row:
    return row(measurement(accuracy=accuracy))


def test_accuracy_changes_by_candidate_minus_baseline_with_its_standard_error() -> None:
    found = accuracy_change([evaluated(top1(0.9164))], [evaluated(top1(0.9064))])
    assert (found.metric, found.unit) == ("top1", "1")
    assert (found.baseline, found.candidate) == (0.9164, 0.9064)
    assert found.delta == pytest.approx(-0.01)
    error = math.sqrt((0.9164 * 0.0836 + 0.9064 * 0.0936) / 10_000)
    assert found.delta_error == pytest.approx(error)
    assert found.reason is None


def test_only_shares_of_right_answers_have_a_binomial_error() -> None:
    for changes in ({"metric": "miou"}, {"unit": "%"}, {"count": 0}):
        sides = [evaluated(top1(value, **changes)) for value in (0.5, 0.6)]
        found = accuracy_change(sides[:1], sides[1:])
        assert found.delta == pytest.approx(0.1)
        assert found.delta_error is None


def test_several_runs_give_their_median() -> None:
    runs = [evaluated(top1(value)) for value in (0.9, 0.8, 0.7)]
    found = accuracy_change(runs, [evaluated(None), evaluated(top1(0.9))])
    assert found.baseline == 0.8
    assert found.delta == pytest.approx(0.1)


def test_unlike_accuracies_are_not_subtracted() -> None:
    baseline = [evaluated(top1(0.9))]
    for other in (
        top1(0.8, count=500),
        top1(0.8, metric="top5"),
        top1(0.8, source="emulated"),
    ):
        found = accuracy_change(baseline, [evaluated(other)])
        assert found.delta is None
        kind = f"{other.metric} of {other.count} samples, {other.source}"
        assert found.reason == (f"unlike accuracies: top1 of 10000 samples, measured; {kind}")


def test_why_there_is_no_accuracy() -> None:
    had, lost = evaluated(top1(0.9)), evaluated(top1(None, reason="the worker died"))
    assert accuracy_change([had], [lost]).reason == "no accuracy of the candidate: the worker died"
    assert accuracy_change([], [had]).reason == "no accuracy of the baseline"
    assert accuracy_change([evaluated(None)], []).reason == (
        "no accuracy of the baseline and candidate"
    )
    assert accuracy_change([had], [lost]).baseline == 0.9


def test_energy_changes_by_a_ratio_of_medians() -> None:
    baseline = [row(figures=joules(value)) for value in (0.010, 0.012, 0.020)]
    found = energy_change(baseline, [row(figures=joules(0.006))])
    assert (found.baseline_j, found.candidate_j) == (0.012, 0.006)
    assert found.ratio == pytest.approx(0.5)


def test_why_there_is_no_ratio_of_energies() -> None:
    had, lost = row(figures=joules(0.01)), row(figures=joules(None))
    reason = "no energy of the candidate: no instrument read power"
    assert energy_change([had], [lost]).reason == reason
    assert energy_change([row()], [had]).reason == "no energy of the baseline"
    unlike = energy_change([had], [had], "board differs")
    assert (unlike.ratio, unlike.reason) == (None, "board differs")
    assert unlike.baseline_j == 0.01
