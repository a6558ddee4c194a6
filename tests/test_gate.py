"""Gates: conditions met and not met, conditions that are none, and what cannot be judged."""

from typing import Any

import numpy as np
import pytest
from specimens import joules, latencies, measurement, row, top1

from edgedeploy.comparison import Comparison, Measured, compare
from edgedeploy.errors import GateError, InputError
from edgedeploy.gate import gate, parse_conditions


def pair(
    ratio: float = 1.0,
    *,
    accuracies: tuple[float | None, float | None] = (None, None),
    energies: tuple[float | None, float | None] = (None, None),
    metric: str = "top1",
    unit: str = "1",
    **changes: Any,
) -> tuple[Comparison, ...]:
    sides = [
        Measured(
            row(
                measurement(
                    accuracy=top1(accuracy, metric=metric, unit=unit) if accuracy else None
                ),
                figures=joules(energy),
                **(changes if scale != 1e-3 else {}),
            ),
            scale * latencies(1.0, n=200),
        )
        for scale, accuracy, energy in zip(
            (1e-3, 1.0000001e-3 * ratio), accuracies, energies, strict=True
        )
    ]
    return compare(sides[:1], sides[1:], resamples=50)


def refusal(found: tuple[Comparison, ...], fail_if: str) -> str:
    with pytest.raises(GateError) as caught:
        gate(found, fail_if)
    assert caught.value.exit_code == 5
    assert caught.value.hint
    return caught.value.message


def test_slower_is_a_no_and_same_or_faster_is_not() -> None:
    assert "host fp32: slower, median latency +4.0 %" in refusal(pair(1.04), "slower")
    gate(pair(1.0), "slower")
    gate(pair(0.5), "slower")


def test_slower_with_a_limit_lets_less_through() -> None:
    gate(pair(1.04), "slower:5%")
    assert "+6.0 %" in refusal(pair(1.06), "slower:5%")
    assert "+6.0 %" in refusal(pair(1.06), " slower : 5 % ")


def counted(before: int, after: int) -> tuple[Comparison, ...]:
    sides = [
        Measured(
            row(measurement(source="emulated")), np.empty(0), {"instructions": np.full(3, float(n))}
        )
        for n in (before, after)
    ]
    return compare(sides[:1], sides[1:], resamples=50)


def test_instructions_are_a_measure_of_slower_where_there_is_no_latency() -> None:
    for text in ("slower", "slower:5%"):
        assert refusal(counted(1_000_000, 1_060_000), text) == (
            f"gate {text!r} says no: host fp32: slower, no latency; instructions an inference"
            " +6.00 % (1,000,000 to 1,060,000, exact)"
        )
    gate(counted(1_000_000, 1_050_000), "slower:5%")
    gate(counted(1_000_000, 1_010_000), "slower")
    gate(counted(1_000_000, 900_000), "slower")


def test_a_limit_below_the_equivalence_holds_for_exact_counts() -> None:
    assert "+1.50 %" in refusal(counted(1_000_000, 1_015_000), "slower:1%")
    gate(counted(1_000_000, 1_010_000), "slower:1%")


def test_accuracy_with_a_limit_in_points() -> None:
    gate(pair(accuracies=(0.92, 0.91)), "accuracy:1%")
    gate(pair(accuracies=(0.91, 0.99)), "accuracy:1%")
    assert refusal(pair(accuracies=(0.92, 0.905)), "accuracy:1%") == (
        "gate 'accuracy:1%' says no: host fp32: top1 worse by 1.50 points, from 0.92 to 0.905"
    )


def test_accuracy_alone_allows_two_standard_errors() -> None:
    # At 0.9 of 10,000 the standard error of the difference is 0.42 points.
    gate(pair(accuracies=(0.90, 0.892)), "accuracy")
    assert "worse by 0.90 points" in refusal(pair(accuracies=(0.90, 0.891)), "accuracy")
    assert "miou worse" in refusal(pair(accuracies=(0.90, 0.8999), metric="miou"), "accuracy")


def test_a_metric_with_a_unit_takes_its_limit_in_it() -> None:
    psnr: dict[str, Any] = {"metric": "psnr", "unit": "dB"}
    gate(pair(accuracies=(30.0, 29.6), **psnr), "accuracy:0.5")
    found = pair(accuracies=(30.0, 29.4), **psnr)
    assert "psnr worse by 0.6 dB, from 30 to 29.4" in refusal(found, "accuracy:0.5")
    assert "psnr is in dB, not in %" in refusal(found, "accuracy:1%")


def test_a_larger_error_is_worse() -> None:
    gate(pair(accuracies=(0.05, 0.03), metric="nme"), "accuracy:1%")
    assert "nme worse by 2.00 points" in refusal(
        pair(accuracies=(0.03, 0.05), metric="nme"), "accuracy:1%"
    )


def test_energy_with_a_limit() -> None:
    gate(pair(energies=(0.010, 0.0104)), "energy:5%")
    gate(pair(energies=(0.010, 0.005)), "energy:5%")
    found = pair(energies=(0.010, 0.012))
    assert "host fp32: energy an inference +20.0 %" in refusal(found, "energy:5%")


def test_several_conditions_are_all_judged() -> None:
    found = pair(1.2, accuracies=(0.9, 0.8), energies=(0.01, 0.01))
    message = refusal(found, "slower:5%, accuracy:1%, energy:5%")
    assert "slower, median" in message
    assert "top1 worse by 10.00 points" in message
    assert "energy" not in message.partition("says no")[2]


def test_a_gate_that_cannot_judge_does_not_open() -> None:
    unlike = pair(board="other", accuracies=(0.9, None), energies=(0.01, None))
    assert "host fp32: not comparable, board differs" in refusal(unlike, "slower")
    assert "accuracy not comparable, no accuracy of the candidate" in refusal(unlike, "accuracy")
    assert "energy not comparable, board differs" in refusal(unlike, "energy:1%")
    assert refusal((), "slower") == (
        "gate 'slower' says no: nothing in the baseline to judge 'slower' by"
    )
    assert "to judge 'accuracy' by" in refusal(pair(), "slower,accuracy")
    assert "to judge 'energy:5%' by" in refusal(pair(), "energy:5%")


def test_what_only_the_candidate_has_is_let_through() -> None:
    m = Measured(row(), latencies(1e-3, n=50))
    new = Measured(row(target="new"), latencies(1e-3, n=50))
    gate(compare([m], [m, new], resamples=20), "slower")
    message = refusal(compare([m, new], [m], resamples=20), "slower")
    assert "new fp32: not comparable, the candidate has no such row" in message
    assert "nothing in the baseline" in refusal(compare([], [new], resamples=20), "slower")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slow", "condition 'slow' of the gate: 'slow' is not known"),
        ("", "condition '' of the gate: '' is not known"),
        ("slower,", "condition '' of the gate: '' is not known"),
        ("slower:", "condition 'slower:' of the gate: the limit '' is not a number"),
        ("slower:5", "condition 'slower:5' of the gate: a limit of slower is in %"),
        ("slower:-5%", "condition 'slower:-5%' of the gate: the limit '-5%' is not a number"),
        ("accuracy:1e9%x", "the limit '1e9%x' is not a number"),
        ("energy", "condition 'energy' of the gate has no limit"),
    ],
)
def test_a_bad_condition_is_bad_input_and_says_what_is_right(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        gate(pair(), text)
    assert message in caught.value.message
    assert caught.value.exit_code == 2
    assert "For example" in caught.value.hint


def test_a_misspelt_condition_gets_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        parse_conditions("acuracy:1%")
    assert "Did you mean 'accuracy'?" in caught.value.hint
