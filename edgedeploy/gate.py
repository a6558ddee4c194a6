"""Make a comparison a gate: conditions such as "slower:5%,accuracy:1%", and a no when one holds."""

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

from edgedeploy.comparison import Comparison
from edgedeploy.errors import GateError, InputError, nearest
from edgedeploy.figures import lower_is_better

Kind = Literal["slower", "accuracy", "energy"]

HINT = 'For example "slower", "slower:5%", "accuracy:1%", "energy:10%", joined by commas.'
STANDARD_ERRORS = 2


class Condition(NamedTuple):
    """When a gate says no; `limit` is a fraction, but in the metric's unit without `percent`."""

    kind: Kind
    limit: float | None
    percent: bool
    text: str


def gate(comparisons: Sequence[Comparison], fail_if: str) -> None:
    """Raise `GateError` when one of the conditions in `fail_if`, joined by commas, is met.

    - `slower`: a verdict is "slower"; `slower:5%`: and the ratio is above 1.05. Without latencies
      the verdict is by instructions or cycles; of exact ones a limit is the only measure.
    - `accuracy:1%`: accuracy is worse by more than 1 point (0.01 of a metric without unit);
      `accuracy:0.5` by more than 0.5 in the metric's unit; `accuracy` alone by more than twice the
      standard error of the difference, or at all where that is not known.
    - `energy:5%`: the ratio of energy an inference is above 1.05.

    What the baseline has and the candidate cannot be held against is a no too: a gate that cannot
    judge does not open. What only the candidate has is let through. `InputError` for a condition
    that is not one of these.
    """
    conditions = parse_conditions(fail_if)
    problems: list[str] = []
    for condition in conditions:
        found = [(c, CHECKS[condition.kind](c, condition)) for c in comparisons]
        judged = [(c, problem) for c, problem in found if problem is not None]
        if not judged:
            problems.append(f"nothing in the baseline to judge {condition.text!r} by")
        problems += [f"{c.target} {c.precision}: {problem}" for c, problem in judged if problem]
    if problems:
        msg = f"gate {fail_if!r} says no: {'; '.join(problems)}"
        raise GateError(msg, hint="Mend it, or raise the limit in --fail-if if this is meant.")


def parse_conditions(fail_if: str) -> list[Condition]:
    """The conditions in a text such as "slower:5%,accuracy:1%"; `InputError` if it is not one."""
    return [_parse(part.strip()) for part in fail_if.split(",")]


def _parse(text: str) -> Condition:
    word, colon, limit = (part.strip() for part in text.partition(":"))
    kinds: tuple[Kind, ...] = get_args(Kind)
    kind = next((k for k in kinds if k == word), None)
    if kind is None:
        msg = f"condition {text!r} of the gate: {word!r} is not known"
        raise InputError(msg, hint=f"{nearest(word, list(kinds))} {HINT}")
    number = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(%?)", limit)
    if colon and number is None:
        msg = f"condition {text!r} of the gate: the limit {limit!r} is not a number"
        raise InputError(msg, hint=HINT)
    if number is None:
        if kind == "energy":
            msg = "condition 'energy' of the gate has no limit, and no two readings are alike"
            raise InputError(msg, hint='For example "energy:10%".')
        return Condition(kind, None, percent=False, text=text)
    percent = number.group(2) == "%"
    if not percent and kind != "accuracy":
        msg = f"condition {text!r} of the gate: a limit of {word} is in %"
        raise InputError(msg, hint=f'For example "{word}:5%".')
    return Condition(kind, float(number.group(1)) / (100 if percent else 1), percent, text)


def _slower(c: Comparison, condition: Condition) -> str | None:
    """A problem, an empty text where there is none, None where the baseline has no measurement."""
    if not c.baseline_runs:
        return None
    if c.verdict == "not_comparable":
        return f"not comparable, {c.reason}"
    exact = any(count.exact for count in c.counts if count.figure == c.judged_by)
    judged = c.verdict == "slower" or (exact and condition.limit is not None)
    # 1.1 / 1.0 is above 1 + 0.1 in floating point.
    beyond = c.ratio is not None and c.ratio > 1 + (condition.limit or 0.0) + 1e-9
    return f"slower, {c.reason}" if judged and beyond else ""


def _accuracy(c: Comparison, condition: Condition) -> str | None:
    change = c.accuracy
    if change.baseline is None:
        return None
    if change.delta is None:
        return f"accuracy not comparable, {change.reason}"
    if condition.percent and change.unit != "1":
        return f"{change.metric} is in {change.unit}, not in %: give the limit in {change.unit}"
    limit = condition.limit
    if limit is None:
        limit = STANDARD_ERRORS * (change.delta_error or 0.0)
    worse = change.delta if lower_is_better(change.metric or "") else -change.delta
    # 0.92 - 0.91 is above 0.01 in floating point.
    if worse <= limit + 1e-9:
        return ""
    shown = f"{100 * worse:.2f} points" if change.unit == "1" else f"{worse:.3g} {change.unit}"
    return f"{change.metric} worse by {shown}, from {change.baseline:g} to {change.candidate:g}"


def _energy(c: Comparison, condition: Condition) -> str | None:
    if c.energy.baseline_j is None:
        return None
    if c.energy.ratio is None:
        return f"energy not comparable, {c.energy.reason}"
    if c.energy.ratio <= 1 + (condition.limit or 0.0):
        return ""
    return f"energy an inference {100 * (c.energy.ratio - 1):+.1f} %"


CHECKS: dict[Kind, Callable[[Comparison, Condition], str | None]] = {
    "slower": _slower,
    "accuracy": _accuracy,
    "energy": _energy,
}
