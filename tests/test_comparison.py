"""Comparing runs: verdicts, what is not comparable, notes, and how often the verdict errs."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from specimens import artifact, joules, latencies, measurement, row, top1, unstable

from edgedeploy.comparison import Comparison, Measured, compare
from edgedeploy.records import Failure, Figure
from edgedeploy.show import comparison_table


def run(median_s: float = 1e-3, *, seed: int = 0, n: int = 300, **changes: Any) -> Measured:
    return Measured(row(**changes), latencies(median_s, n=n, seed=seed))


def one(baseline: list[Measured], candidate: list[Measured], **options: Any) -> Comparison:
    (found,) = compare(baseline, candidate, **{"resamples": 300, **options})
    return found


def test_a_slower_candidate_with_its_figures() -> None:
    found = one([run(1e-3, seed=1)], [run(1.2e-3, seed=2)])
    assert found.verdict == "slower"
    assert (found.workload, found.target, found.precision) == ("digits", "host", "fp32")
    assert (found.baseline_runs, found.candidate_runs) == (1, 1)
    assert found.baseline_median_s == pytest.approx(np.median(latencies(1e-3, n=300, seed=1)))
    assert found.candidate_median_s == pytest.approx(np.median(latencies(1.2e-3, n=300, seed=2)))
    assert found.ratio == pytest.approx(1.2, rel=0.005)
    assert found.ratio is not None
    assert found.ratio_low is not None
    assert found.ratio_high is not None
    assert 1.19 < found.ratio_low < found.ratio < found.ratio_high < 1.21
    low, high = 100 * (found.ratio_low - 1), 100 * (found.ratio_high - 1)
    assert found.reason == (
        f"median latency {100 * (found.ratio - 1):+.1f} %"
        f" (95 % interval {low:+.1f} to {high:+.1f} %)"
    )
    assert found.notes == ("one run a side: variation from run to run is not in the interval",)


def test_a_faster_candidate() -> None:
    found = one([run(1.2e-3, seed=1)], [run(1e-3, seed=2)])
    assert found.verdict == "faster"
    assert found.ratio == pytest.approx(1 / 1.2, rel=0.005)


def test_a_difference_within_the_equivalence_is_same_and_without_it_slower() -> None:
    sides = [run(1e-3, seed=1, n=4000)], [run(1.01e-3, seed=2, n=4000)]
    found = one(*sides)
    assert found.verdict == "same"
    assert found.reason.endswith("within the equivalence of 2 %")
    assert one(*sides, equivalence=0.0).verdict == "slower"
    assert one(sides[1], sides[0], equivalence=0.0).verdict == "faster"
    assert one(sides[0], [run(0.97e-3, seed=2, n=4000)]).verdict == "faster"


def test_an_interval_that_includes_no_change_is_same_however_wide() -> None:
    noisy = [run(m, seed=i) for i, m in enumerate((1e-3, 1.3e-3, 0.8e-3))]
    found = one(noisy, [run(1.05e-3, seed=9)])
    assert found.verdict == "same"
    assert found.reason.endswith("which includes no change")
    assert found.notes == ()


def test_a_negative_equivalence_is_refused() -> None:
    with pytest.raises(ValueError, match=r"equivalence is -0\.1, expected a fraction"):
        compare([], [], equivalence=-0.1)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.floats(0.001, 0.3))
def test_a_run_against_itself_is_same(seed: int, spread: float) -> None:
    values = latencies(1e-3, n=100, seed=seed, spread=spread)
    found = one([Measured(row(), values)], [Measured(row(), values)], resamples=100)
    assert (found.verdict, found.ratio) == ("same", 1.0)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.floats(1.1, 50))
def test_a_run_scaled_up_is_slower_and_the_other_way_round_faster(seed: int, k: float) -> None:
    before = Measured(row(), latencies(1e-3, n=100, seed=seed))
    after = Measured(row(), k * before.latency_s)
    assert one([before], [after], resamples=100).verdict == "slower"
    assert one([after], [before], resamples=100).verdict == "faster"
    found = one([before], [after], resamples=100)
    assert found.ratio == pytest.approx(k)


@settings(max_examples=10)
@given(st.permutations(range(4)))
def test_the_order_of_runs_does_not_matter(order: list[int]) -> None:
    runs = [run(1e-3 * (1 + 0.01 * i), seed=i, n=60) for i in range(4)]
    other = [run(1.05e-3, seed=9, n=60)]
    plain = one(runs, other, resamples=50)
    assert one([runs[i] for i in order], other, resamples=50) == plain


@pytest.mark.parametrize(("runs", "most"), [(1, 10), (3, 10)])
def test_equal_sides_are_rarely_called_different(runs: int, most: int) -> None:
    """100 pairs from one distribution, equivalence off, so by the intervals alone."""
    rng = np.random.default_rng(11)
    between = 0.0 if runs == 1 else 0.03

    def side() -> list[Measured]:
        scales = np.exp(rng.normal(0, between, runs))
        return [
            Measured(row(), 1e-3 * scale * np.exp(rng.normal(0, 0.05, 200))) for scale in scales
        ]

    verdicts = [one(side(), side(), equivalence=0.0).verdict for _ in range(100)]
    assert verdicts.count("same") >= 100 - most


def test_a_difference_of_a_tenth_is_found_among_noisy_runs() -> None:
    rng = np.random.default_rng(5)
    verdicts = []
    for _ in range(20):
        sides = [
            [
                run(m * np.exp(rng.normal(0, 0.02)), seed=int(rng.integers(1_000_000_000)))
                for _ in range(5)
            ]
            for m in (1e-3, 1.1e-3)
        ]
        verdicts.append(one(sides[0], sides[1]).verdict)
    assert verdicts.count("slower") >= 18


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"board": "other"}, "board differs: baseline a board, candidate other"),
        (
            {"measured": measurement(source="emulated")},
            "source differs: baseline measured, candidate emulated",
        ),
        (
            {"measured": measurement(facts={"cpu": "another CPU"})},
            "CPU differs: baseline a CPU, candidate another CPU",
        ),
        (
            {"measured": measurement(options={"threads": 2})},
            "run option threads differs: baseline 1, candidate 2",
        ),
        (
            {"measured": measurement(options={"threads": 1, "provider": "x"})},
            'run option provider differs: baseline not set, candidate "x"',
        ),
        (
            {"measured": measurement(instability=(unstable("too_few", "19 inferences"),))},
            "candidate run a: 19 inferences",
        ),
    ],
)
def test_what_is_not_comparable_and_why(changes: dict[str, Any], reason: str) -> None:
    found = one([run()], [run(2e-3, **changes)])
    assert (found.verdict, found.reason, found.ratio) == ("not_comparable", reason, None)
    assert found.baseline_median_s == pytest.approx(1e-3, rel=0.01)
    assert found.candidate_median_s == pytest.approx(2e-3, rel=0.01)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.ones(19), "baseline run a: 19 latencies are on record, 20 are needed"),
        (np.array([]), "baseline run a: 0 latencies are on record, 20 are needed"),
        (np.zeros(50), "baseline run a: its median latency is not above 0"),
    ],
)
def test_latencies_that_carry_no_comparison(values: NDArray[np.float64], reason: str) -> None:
    found = one([Measured(row(), values)], [run()])
    assert (found.verdict, found.reason) == ("not_comparable", reason)


def test_unlike_runs_on_one_side_are_not_merged() -> None:
    found = one([run(), run(measured=measurement(options={"threads": 4}))], [run()])
    assert found.verdict == "not_comparable"
    assert found.reason == "runs of the baseline differ in run option threads: 1, 4"


def test_a_failed_row_is_not_comparable_and_says_where_it_failed() -> None:
    failure = Failure(target="host", stage="compile", kind="failed", message="no memory")
    failed = Measured(row(status="failed", failure=failure, run="b"), np.array([]))
    found = one([run()], [failed])
    assert found.reason == "the candidate has no measurement: failed at compile: no memory"
    assert (found.baseline_runs, found.candidate_runs) == (1, 0)
    assert found.notes == ()
    both = one([run(), failed], [run(seed=1)])
    assert both.verdict == "same"
    assert both.notes == (
        "one run a side: variation from run to run is not in the interval",
        "1 of 2 baseline runs have no measurement",
    )


def test_rows_are_paired_by_target_and_precision() -> None:
    found = compare(
        [run(), run(precision="int8"), run(target="board")],
        [run(precision="int8"), run(seed=1), run(target="other")],
        resamples=50,
    )
    assert [(c.target, c.precision, c.verdict) for c in found] == [
        ("host", "fp32", "same"),
        ("host", "int8", "same"),
        ("board", "fp32", "not_comparable"),
        ("other", "fp32", "not_comparable"),
    ]
    assert found[2].reason == "the candidate has no such row"
    assert found[3].reason == "the baseline has no such row"


def test_workloads_are_kept_apart_where_a_side_has_several() -> None:
    sides = [[run(workload="a"), run(3e-3, workload="b")] for _ in range(2)]
    found = compare(sides[0], sides[1], resamples=50)
    assert [(c.workload, c.verdict, c.baseline_runs) for c in found] == [
        ("a", "same", 1),
        ("b", "same", 1),
    ]
    (other,) = compare([run(workload="a")], [run(3e-3, workload="b")], resamples=50)
    assert other.verdict == "slower"
    assert "the workload differs: a to b" in other.notes


def test_what_is_part_of_the_comparison_is_noted() -> None:
    candidate = run(
        run="b",
        artifact=artifact(model_sha256="c" * 64),
        measured=measurement(
            facts={"cpu": "a CPU", "governor": "powersave"},
            tools={"runtime": "2.0"},
            instability=(unstable("drift", "drift of 9 %"),),
        ),
    )
    assert one([run()], [candidate]).notes == (
        "one run a side: variation from run to run is not in the interval",
        "candidate run b is unstable, drift of 9 %",
        f"the model differs: {'b' * 12} to {'c' * 12}",
        "the clock governor differs: performance to powersave",
        "version of runtime differs: 1.0 to 2.0",
    )


def test_accuracy_and_energy_come_with_the_comparison() -> None:
    baseline = run(measured=measurement(accuracy=top1(0.92)), figures=joules(0.01))
    candidate = run(measured=measurement(accuracy=top1(0.90)), figures=joules(0.02))
    found = one([baseline], [candidate])
    assert found.accuracy.delta == pytest.approx(-0.02)
    assert found.energy.ratio == pytest.approx(2.0)
    other = run(board="other", measured=measurement(accuracy=top1(0.90)), figures=joules(0.02))
    unlike = one([baseline], [other])
    assert unlike.accuracy.delta == pytest.approx(-0.02)
    assert unlike.energy.ratio is None
    assert unlike.energy.reason == unlike.reason


def counting(
    counts: list[int], *, figure: str = "instructions", raw: bool = True, **changes: Any
) -> Measured:
    """A run of an emulator, which has no time."""
    value = round(sum(counts) / len(counts))
    found = row(
        measurement(source="emulated", timing_reason="an emulator has no time"),
        figures={figure: Figure(value=value, unit="1", source="emulated")},
        **changes,
    )
    return Measured(found, np.empty(0), {figure: np.array(counts, float)} if raw else {})


@pytest.mark.parametrize(
    ("counts", "verdict", "reason"),
    [
        (1_050_000, "slower", "+5.00 % (1,000,000 to 1,050,000, exact)"),
        (900_000, "faster", "-10.00 % (1,000,000 to 900,000, exact)"),
        (1_000_000, "same", "+0.00 % (1,000,000 to 1,000,000, exact)"),
        (
            1_010_000,
            "same",
            "+1.00 % (1,000,000 to 1,010,000, exact), within the equivalence of 2 %",
        ),
    ],
)
def test_instructions_are_compared_exactly_where_there_is_no_time(
    counts: int, verdict: str, reason: str
) -> None:
    found = one([counting([1_000_000] * 3)], [counting([counts] * 2)])
    assert (found.verdict, found.judged_by) == (verdict, "instructions")
    assert found.reason == f"no latency; instructions an inference {reason}"
    assert found.ratio == found.ratio_low == found.ratio_high == counts / 1_000_000
    assert found.baseline_median_s is None
    assert found.notes == ()
    (change,) = found.counts
    assert (change.baseline, change.candidate, change.exact) == (1_000_000, counts, True)


def test_figures_alone_give_a_ratio_without_bounds() -> None:
    found = one([counting([1_000_000], raw=False)], [counting([1_100_000], raw=False)])
    assert (found.verdict, found.ratio) == ("slower", 1.1)
    assert (found.ratio_low, found.ratio_high) == (None, None)
    assert "+10.00 % (1,000,000 to 1,100,000, no interval: under 20 counts" in found.reason


def test_counts_that_vary_have_an_interval() -> None:
    drawn = np.random.default_rng(1)
    before, after = (
        [int(n) for n in drawn.normal(mean, 1000, 200)] for mean in (1_000_000, 1_060_000)
    )
    found = one([counting(before, figure="cycles")], [counting(after, figure="cycles")])
    assert (found.verdict, found.judged_by) == ("slower", "cycles")
    assert found.ratio == pytest.approx(1.06, rel=1e-3)
    assert found.ratio_low is not None
    assert found.ratio_high is not None
    assert 1.05 < found.ratio_low < found.ratio < found.ratio_high < 1.07
    assert "95 % interval +5." in found.reason
    assert found.notes == ("one run a side: variation from run to run is not in the interval",)
    runs = [counting([n] * 30) for n in (1000, 1010, 1005)]
    assert one(runs, [counting([1200] * 30)]).counts[0].exact is False


def test_counts_are_shown_beside_latencies_and_do_not_judge_then() -> None:
    sides = []
    for cycles, median_s in ((240_000, 1e-3), (480_000, 1.001e-3)):
        timed = run(median_s)
        sides.append(Measured(timed.row, timed.latency_s, {"cycles": np.full(300, float(cycles))}))
    found = one(sides[:1], sides[1:])
    assert (found.verdict, found.judged_by) == ("same", "latency")
    assert [(c.figure, c.ratio, c.exact) for c in found.counts] == [("cycles", 2.0, True)]


def test_counts_of_unlike_boards_are_not_compared() -> None:
    found = one([counting([100])], [counting([100], board="other")])
    assert (found.verdict, found.counts) == ("not_comparable", ())
    assert found.reason == "board differs: baseline a board, candidate other"
    none = one([counting([100])], [counting([0])])
    assert none.reason == "baseline run a: 0 latencies are on record, 20 are needed"


def test_the_port_of_a_device_is_no_condition() -> None:
    sides = [
        Measured(
            row(measurement(source="emulated", options={"port": port, "probe": port[9:]})),
            np.empty(0),
            {"instructions": np.array([1000.0])},
        )
        for port in ("socket://127.0.0.1:40229", "socket://127.0.0.1:51159")
    ]
    found = one(sides[:1], sides[1:])
    assert (found.verdict, found.ratio) == ("same", 1.0)


def test_the_table_shows_counts(capsys: pytest.CaptureFixture[str]) -> None:
    found = one([counting([1_000_000])], [counting([1_050_000])])
    comparison_table([found])
    shown = " ".join(capsys.readouterr().out.split())
    assert "no latency; instructions an inference +5.00 % (1,000,000 to 1,050,000, exact)" in shown
    assert "1.05 M" in shown
    assert "1.050" in shown
    assert "slower" in shown
