"""What the compiler's modules raise, and what an exception out of the vendor's SDK means."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN = 3  # faults told one by one
ERROR = re.compile(r"^\s*(\w+) in op (.+?): (.*)$", re.MULTILINE)
RECOMMENDED = re.compile(r"using these end node names:\s*(.+)")
PLACEMENT = "Mapping|No successful assignment|Agent infeasible|valid partition|too many resources"
# by a part of what the SDK says of a node, or of its operator: the first that is found
REMEDIES = (
    ("GridSample", "Sample on the host, with the chip's result before it."),
    ("ArgMax", "End the model before it; the largest output is found on the host."),
    ("Slice", "Slice along the channels only, or end the model before it."),
    ("LSTM", "Unroll it when exporting, or run it on the host."),
    ("GRU", "Unroll it when exporting, or run it on the host."),
)
REMEDY = "Rewrite it with other operators, or end the model before it: the rest runs on the host."


class Fault(Exception):
    """What is told instead of a traceback; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Missing(Fault):
    """The vendor's compiler, or what it needs, is not there."""


class Unsupported(Fault):
    """The chip or its compiler cannot run this model, and nothing is broken."""


class BadInput(Fault):
    """A model, an option, a script or calibration data that is wrong."""


def require(words: Iterable[Any], known: Iterable[Any], what: str) -> None:
    """Refuse a word that is not among the known, naming the nearest."""
    names = [str(name) for name in known]
    for word in words:
        if str(word) not in names:
            close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.4)
            msg = f"{what} {word!r} is not known"
            raise BadInput(msg, f"Did you mean {close[0]!r}?" if close else f"Known: {names}.")


def explained(error: BaseException, stage: str, operators: dict[str, str]) -> Fault | None:
    """What an exception of the SDK means for its user; None where nobody knows.

    `stage` is "parse", "optimize" or "compile", `operators` the operator of each node by name. The
    SDK's classes are known by their names alone: where they lie differs from version to version.
    """
    if isinstance(error, Fault):
        return error
    names = {kind.__name__ for kind in type(error).__mro__}
    said = " ".join(str(error).split()) or type(error).__name__
    found: Fault | None = None
    if isinstance(error, (MemoryError, OSError)):
        return None
    if "BadInputsShape" in names:
        msg = f"the calibration data does not fit the network's input: {said}"
        found = BadInput(msg, "The chip takes (height, width, channels), channels last.")
    elif any("ScriptParser" in name for name in names) or "doesn't exist in the HN" in said:
        hint = "Correct the line in `model_script`, or the option that it comes from."
        found = BadInput(f"the compiler does not take the model script: {said[:300]}", hint)
    elif stage == "parse":
        found = of_parser(error, names, operators)
    elif "BackendAllocatorException" in names and re.search(PLACEMENT, said):
        hint = (
            'Try `performance = "max"`, `context_switch = "enabled"` or a lower `fps`; else a'
            " smaller input or model."
        )
        found = Unsupported(f"the compiler finds no place for the model on the chip: {said}", hint)
    elif any(name.startswith("Unsupported") for name in names):
        found = Unsupported(f"the compiler cannot {stage} the model: {said[:300]}", REMEDY)
    return found


def of_parser(error: BaseException, names: set[str], operators: dict[str, str]) -> Fault | None:
    """What the parser's exception means: the nodes it lists, and the end nodes it recommends."""
    text = str(error)
    found = ERROR.findall(text)
    ends = RECOMMENDED.search(text)
    recommended = ends.group(1).strip().rstrip(".") if ends else ""
    if "MisspellNodeError" in names:
        msg = f"the parser finds a start or end node missing: {' '.join(text.split())[:300]}"
        return Unsupported(msg, "The model was simplified away there: choose other end nodes.")
    if not found and not recommended and not any(name.startswith("Unsupp") for name in names):
        return None
    told = [
        f"node {node!r} ({operators.get(node, 'unknown operator')}): {detail.strip()}"
        for _, node, detail in found
    ]
    if len(told) > SHOWN:
        told = [*told[:SHOWN], f"and {len(told) - SHOWN} more"]
    listed = "; ".join(told) or " ".join(text.split())[:300]
    hint = next((remedy for word, remedy in REMEDIES if word in listed), REMEDY)
    if recommended:
        hint += (
            f" The parser recommends the end nodes: {recommended} (`end_nodes` in the workload)."
        )
    return Unsupported(f"the parser cannot take {listed}", hint)
