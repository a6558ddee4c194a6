"""Run options of an engine, and what they make of the times: what lies between two readings."""

from __future__ import annotations

import difflib
import statistics
from typing import TYPE_CHECKING, Any

from trt_run_faults import BadInput

if TYPE_CHECKING:
    Table = dict[str, Any]

# a tuple holds the choices, its first the default; `spin` is how the host waits for the card
OPTIONS: Table = {
    "device": 0,
    "cuda_graph": False,
    "transfers": True,
    "spin": ("spin", "block"),
}
HOST_BOUND_FROM = 0.8


def checked(options: Table) -> Table:
    """The options given over the known ones' defaults; an unknown key or value is refused."""
    chosen = {key: fix[0] if isinstance(fix, tuple) else fix for key, fix in OPTIONS.items()}
    for key, value in options.items():
        if key not in OPTIONS:
            near = difflib.get_close_matches(str(key), list(OPTIONS), n=1, cutoff=0.4)
            msg = f"option {key!r} is not known"
            raise BadInput(
                msg, f"Did you mean {near[0]!r}?" if near else f"Known: {list(OPTIONS)}."
            )
        if isinstance(OPTIONS[key], tuple) and value not in OPTIONS[key]:
            msg = f"option {key} is {value!r}, expected one of {OPTIONS[key]}"
            raise BadInput(msg, "spin: the host spins while it waits; block: it sleeps.")
        if type(value) is not type(chosen[key]) or (key == "device" and value < 0):
            msg = f"option {key} is {value!r}, expected a value like {chosen[key]!r}"
            raise BadInput(msg, "device counts from 0; cuda_graph and transfers are true or false.")
    return {**chosen, **options}


def scope(options: Table) -> str:
    """What lies between the two readings of the host's clock around one inference."""
    between = (
        "inputs to outputs, both in page-locked host memory: copies and inference"
        if options["transfers"]
        else "inputs to outputs, both in the GPU's memory: the inference without copies"
    )
    graph = ", launched as one CUDA graph" if options["cuda_graph"] else ""
    waiting = "spinning" if options["spin"] == "spin" else "blocked"
    return f"{between}{graph}, until the host, {waiting}, sees the end"


def device_scope(options: Table) -> str:
    """What lies between the two events around one inference."""
    between = "copies and inference" if options["transfers"] else "the inference without copies"
    graph = ", as one CUDA graph" if options["cuda_graph"] else ""
    return f"{between}{graph}, between two events of one stream, another one queued ahead"


def host_bound(seconds: list[float], queueing: list[float], options: Table) -> list[str]:
    """A note where the host queues inferences hardly faster than the card works them off."""
    if not seconds:
        return []
    device, host = statistics.median(seconds), statistics.median(queueing)
    if host < HOST_BOUND_FROM * device:
        return []
    remedy = "" if options["cuda_graph"] else ": try run option cuda_graph = true"
    return [
        f"the host takes {host * 1e6:.3g} µs to queue an inference that takes {device * 1e6:.3g} µs"
        f" by the events, so these hold gaps in which the GPU waited{remedy}"
    ]
