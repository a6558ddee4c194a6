"""Several models on one device at once: what each gets of it, and what it gets alone.

Standard library only, Python 3.8 and later (numpy only to move tensors, as every runtime has it).
Functions are called by serve.py with the runtime's program, which holds the row's own model.
Times are `time.perf_counter_ns` readings of this host.
"""

from __future__ import annotations

import array
import base64
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List

if TYPE_CHECKING:
    from types import ModuleType

Call = Callable[[], Any]
clock = time.perf_counter_ns
WARM_UP_CALLS = 3


def measure(
    program: ModuleType,
    emit: Callable[[Dict[str, Any]], None],
    inputs: str,
    others: List[Dict[str, Any]],
    seconds: float,
) -> Dict[str, Any]:
    """Run the loaded model and `others`, each alone and then all at once, one in flight a model.

    `others` are {"artifact", "inputs", "options"}; inputs are .npz of whole inferences, the first
    is used. Answers by model, the loaded one first: `alone_rate_hz`, `count`, and the durations in
    ns of the inferences that ended while all ran, as base64 of little-endian int64.
    """
    for other in others:
        program.beside(artifact=other["artifact"], options=other["options"])
    calls = [program.bind(first_of(inputs))]
    for place, other in enumerate(others):
        calls.append(program.bind_beside(place, first_of(other["inputs"])))
    for call in calls:
        for _ in range(WARM_UP_CALLS):
            call()
    alone = []
    for call in calls:
        emit({"event": "progress", "phase": "alone"})
        taken, elapsed_s = at_once([call], seconds)
        alone.append(len(taken[0]) / elapsed_s)
    emit({"event": "progress", "phase": "together"})
    durations, window_s = at_once(calls, seconds)
    return {
        "window_s": window_s,
        "models": [
            {"alone_rate_hz": alone[i], "count": len(taken), "duration_ns": packed(taken)}
            for i, taken in enumerate(durations)
        ],
    }


def at_once(calls: List[Call], seconds: float) -> "tuple[list[array.array[int]], float]":
    """Call each again and again, in a thread of its own, until the time is over for all.

    Only what ended within counts: at the end one model may run on while others have stopped.
    """
    durations = [array.array("q") for _ in calls]
    errors: List[BaseException] = []
    ready = threading.Barrier(len(calls) + 1)
    end = [0]

    def work(call: Call, taken: "array.array[int]") -> None:
        try:
            ready.wait()
            while not errors:
                before = clock()
                call()
                after = clock()
                if after > end[0]:
                    break
                taken.append(after - before)
        except BaseException as err:
            errors.append(err)

    threads = [
        threading.Thread(target=work, args=(call, durations[i])) for i, call in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    end[0] = clock() + int(seconds * 1e9)
    ready.wait()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return durations, seconds


def first_of(path: str) -> Dict[str, Any]:
    """The first inference in an .npz."""
    import numpy as np

    with np.load(path) as arrays:
        return {name: arrays[name][0] for name in arrays.files}


def packed(values: "array.array[int]") -> str:
    """Little-endian int64 as base64."""
    if sys.byteorder == "big":
        values = array.array("q", values)
        values.byteswap()
    return base64.b64encode(values.tobytes()).decode()
