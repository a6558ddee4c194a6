"""What the compilers of this vendor raise, and what the builder's own errors mean."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    Table = dict[str, Any]

SYMMETRIC = (
    "Quantize with symmetric activations and weights and without biases"
    " (`quantize_options`: symmetric_activation = true, quantize_bias = false), or give the float"
    " model."
)
NO_DRIVER = "no NVIDIA driver"


class Fault(Exception):
    """What is told instead of a traceback; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Missing(Fault):
    """A library, a driver or a card is not there."""


class Unsupported(Fault):
    """TensorRT cannot run this model there, and nothing is broken."""


class BadInput(Fault):
    """A model or an option that is wrong."""


# what the builder logs as an error -> the fault, what it means, the remedy
MEANINGS = (
    (
        r"within workspace limit|insufficient workspace",
        BadInput,
        "no kernel fits workspace_bytes = {workspace_bytes}",
        "Raise `workspace_bytes`, or leave it out.",
    ),
    (
        r"Cannot compile operation '(?P<node>[^']+)' for Turing \(SM75\): (?P<why>[^.]+)",
        Unsupported,
        "compute capability 7.5 (Turing) cannot run node {node!r}: {why}",
        "Take fp16, or leave 7.5 out of `compute_capability`.",
    ),
    (
        r"Cannot compile for target\(s\) (?P<cards>.+?), because the model contains HW-specific"
        r" datatypes: (?P<types>[^.]+?)\.",
        Unsupported,
        "{cards} cannot compute in {types}",
        "Leave these cards out of `compute_capability`, or take another precision.",
    ),
    (
        r"libnvinfer_lean\S*: cannot open",
        Missing,
        "a version compatible engine holds the lean runtime, which is not installed",
        "Install the lean runtime, or leave `version_compatible` out.",
    ),
    (
        r"cudaError (35|100|999)",
        Missing,
        NO_DRIVER + " here, which this build asks for",
        "Install the driver, or build on a host with the card.",
    ),
    (
        r"[Oo]ut ?[Oo]f ?[Mm]emory|OutOfMemory",
        Missing,
        "the builder ran out of memory",
        "Give it less `workspace_bytes`, or end what else uses the card.",
    ),
    (
        r"memory on requested size of|GPU memory \(\d+ bytes\) could not be allocated",
        Missing,
        "the card has too little free memory to try the kernels of this model",
        "End what else uses the card, or take a smaller batch or input.",
    ),
    (
        r"require hardware with (?P<what>\w+) support",
        Unsupported,
        "the card here has no arithmetic in {what}",
        "Take fp16, int8 or fp32, or another card.",
    ),
    (
        r"[Hh]ardware compatib\w+ \w* ?is not supported on this",
        Unsupported,
        "this platform has no engines for other cards than its own",
        "Leave `hardware_compatible` out.",
    ),
    (
        r"Could not find any implementation for node (?P<node>.+?)\.?\s*(?: In \w+ at .*)?\)*$",
        Unsupported,
        "no kernel of this card can compute node {node!r}, within workspace_bytes ="
        " {workspace_bytes} (0 is no limit)",
        "Raise `workspace_bytes`, or take another precision.",
    ),
)


def require(words: Iterable[Any], known: Iterable[Any], what: str) -> None:
    """Refuse a word that is not among the known, naming the nearest."""
    names = [str(name) for name in known]
    for word in words:
        if str(word) not in names:
            close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.4)
            msg = f"{what} {word!r} is not known"
            raise BadInput(msg, f"Did you mean {close[0]!r}?" if close else f"Known: {names}.")


def of_builder(errors: list[str], chosen: Table) -> Exception:
    """What a build without a result means, by the errors it logged; their own words else."""
    for pattern, fault, meaning, hint in MEANINGS:
        for error in errors:
            found = re.search(pattern, error)
            if found:
                return fault(meaning.format(**{**chosen, **found.groupdict()}), hint)
    last = errors[0] if errors else "it logged no error"
    return RuntimeError(f"the builder gave no engine: {' '.join(last.split())[:600]}")
