"""The one loop that times, for every runtime: warm-up, windows, samples, memory.

A program with a function `timed` stands for a device with a clock of its own: there the device's
loop times, and this process's memory says nothing.

Standard library only, Python 3.8 and later (numpy only to move tensors, as every runtime has it).
Functions are called by serve.py with the runtime's program and a way to report progress.
Times are `time.perf_counter_ns` readings of this host.
"""

from __future__ import annotations

import array
import base64
import collections
import gc
import importlib.util
import os
import statistics
import sys
import threading
import time
import zipfile
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

if TYPE_CHECKING:
    from types import ModuleType


def neighbour(name: str) -> ModuleType:
    """A module of this folder, which is on no path: nothing here may shadow a vendor's."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    spec = importlib.util.spec_from_file_location("edgedeploy_inproc_" + name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


host = neighbour("host")
Emit = Callable[[Dict[str, Any]], None]
Call = Callable[[], Any]
clock = time.perf_counter_ns

BLOCK_MIN_S = 0.03
BLOCK_MAX_S = 1.0
BLOCK_MIN_COUNT = 5
STEADY_BLOCKS = 3
STEADY_WITHIN = 0.05
GAIN_WORTH_MORE_STREAMS = 1.1
PROBE_S = 0.1
# Inferences an emulator counts the instructions of: they are the same each time, or it is told.
COUNTED = 3
# A slow model's stream runs on for these many inferences, but not longer than so often the time.
STREAM_MIN_COUNT = 10
STREAM_MAX_STRETCH = 4


def prepare(
    program: ModuleType, emit: Emit, artifact: str, options: Dict[str, Any]
) -> Dict[str, Any]:
    """Load the artifact, and say what memory it took beyond the empty runtime's."""
    tools = program.probe().get("tools", {})
    here = not hasattr(program, "timed")
    empty = host.resident_bytes() if here else None
    forgotten = here and host.reset_peak()
    start = clock()
    loaded = program.load(artifact=artifact, options=options)
    load_s = (clock() - start) / 1e9
    memory: Dict[str, int] = {}
    peak = host.peak_bytes() if forgotten else None
    if empty is not None and peak is not None:
        memory = {"empty_runtime": empty, "load_peak": max(0, peak - empty)}
    return {"loaded": loaded, "load_s": load_s, "memory_bytes": memory, "tools": tools}


def infer(program: ModuleType, emit: Emit, inputs: str, outputs: str) -> Dict[str, Any]:
    """Run every sample of an .npz (arrays of N samples, each with the model's own axes)."""
    import numpy as np

    with np.load(inputs) as arrays:
        samples = {name: arrays[name] for name in arrays.files}
    count = len(next(iter(samples.values())))
    start = clock()
    if hasattr(program, "run_many"):
        stacked: Dict[str, Any] = program.run_many(samples)
    else:
        stacked = _one_by_one(program, emit, samples, count)
    elapsed_s = (clock() - start) / 1e9
    with zipfile.ZipFile(outputs, "w", allowZip64=True) as archive:
        for name, value in stacked.items():  # numpy.savez refuses an output called `file`
            with archive.open(name + ".npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, value, allow_pickle=False)
    return {"count": count, "elapsed_s": elapsed_s}


def _one_by_one(
    program: ModuleType, emit: Emit, samples: Dict[str, Any], count: int
) -> Dict[str, Any]:
    import numpy as np

    collected: Dict[str, List[Any]] = {}
    for i in range(count):
        result = program.run({name: values[i] for name, values in samples.items()})
        for name, value in result.items():
            # a copy: some runtimes give the same memory again for the next outputs
            collected.setdefault(name, []).append(np.array(value))
        if i % 64 == 63:
            emit({"event": "progress", "phase": "infer", "done": i + 1, "total": count})
    return {name: np.stack(values) for name, values in collected.items()}


def profile(program: ModuleType, emit: Emit, inputs: str, plan: Dict[str, Any]) -> Dict[str, Any]:
    """Idle, warm-up until steady, latency with one in flight, throughput, cool-down."""
    import numpy as np

    with np.load(inputs) as arrays:
        sample = {name: arrays[name][0] for name in arrays.files}

    def progress(phase: str) -> None:
        emit({"event": "progress", "phase": phase})

    if hasattr(program, "timed"):
        return _timed_on_device(program, progress, sample, plan)
    facts = _facts(program)
    windows: List[Dict[str, Any]] = []
    progress("idle")
    windows.append(_rest("idle", plan["idle_s"]))
    call = program.bind(sample)
    progress("warm_up")
    windows.append(warm_up(call, plan["warm_up_min_s"], plan["warm_up_max_s"]))
    forgotten = host.reset_peak()
    progress("latency")
    before = time.process_time_ns()
    window, starts, durations = latency(
        call,
        plan["latency_min_s"],
        plan["latency_max_s"],
        plan["latency_min_count"],
        plan["latency_count"],
    )
    cpu_s = (time.process_time_ns() - before) / 1e9
    steady_peak = host.peak_bytes() if forgotten else None
    windows.append(window)
    emit({"event": "latency", "start_ns": _packed(starts), "duration_ns": _packed(durations)})
    progress("throughput")
    windows += throughput(
        program.bind,
        call,
        sample,
        plan["throughput_s"],
        plan["concurrency"],
        bind_async=getattr(program, "bind_async", None),
    )
    progress("cool_down")
    windows.append(_rest("cool_down", plan["cool_down_s"]))
    return {
        "windows": windows,
        "facts": facts,
        "facts_after": _facts(program),
        "cpu_s_per_inference": cpu_s / max(1, window["count"]),
        "steady_peak_bytes": steady_peak,
        "device_memory_bytes": program.memory(),
    }


def _facts(program: ModuleType) -> Dict[str, Any]:
    """This host's facts and the program's, temperatures of both."""
    here, own = host.host_facts(), program.facts()
    temperatures = {**here["temperatures_c"], **own.get("temperatures_c", {})}
    return {**here, **own, "temperatures_c": temperatures}


def _timed_on_device(
    program: ModuleType,
    progress: Callable[[str], None],
    sample: Dict[str, Any],
    plan: Dict[str, Any],
) -> Dict[str, Any]:
    """What the device's own loop timed; windows are this host's, for instruments beside it."""
    facts = program.facts()
    progress("idle")
    windows = [_rest("idle", plan["idle_s"])]
    progress("warm_up")
    start = clock()
    first = program.timed(sample, 0, 1)
    windows.append(_window("warm_up", start, clock(), 1))
    progress("latency")
    count, warm_up_count = _device_counts(first, plan)
    start = clock()
    found = program.timed(sample, warm_up_count, count) if count else first
    done = max(len(found.get(key) or ()) for key in ("latency_s", "cycles", "instructions"))
    windows.append(_window("latency", start, clock(), done))
    progress("cool_down")
    windows.append(_rest("cool_down", plan["cool_down_s"]))
    return {
        "windows": windows,
        "facts": {**facts, "host": host.host_facts()},
        "facts_after": {**program.facts(), "host": host.host_facts()},
        "timed": found,
        "cpu_s_per_inference": None,
        "steady_peak_bytes": None,
        "device_memory_bytes": program.memory(),
    }


def _device_counts(first: Dict[str, Any], plan: Dict[str, Any]) -> Tuple[int, int]:
    """How many inferences the device is to time and to warm up with, from what one took."""
    if first.get("latency_s"):
        one_s = max(first["latency_s"][0], 1e-6)
        most = max(1, int(plan["latency_max_s"] / one_s))
        least = max(plan["latency_min_count"], int(plan["latency_min_s"] / one_s))
        return plan["latency_count"] or min(least, most), max(1, int(plan["warm_up_min_s"] / one_s))
    if first.get("instructions"):
        return plan["latency_count"] or COUNTED, 0
    return 0, 0


def layers(program: ModuleType, emit: Emit, inputs: str, count: int) -> Dict[str, Any]:
    """Mean time of each layer, in a run apart from the timed one."""
    import numpy as np

    with np.load(inputs) as arrays:
        sample = {name: arrays[name][0] for name in arrays.files}
    return {"layers": program.layers(sample, count)}


def device_times(program: ModuleType, emit: Emit, inputs: str, count: int) -> Dict[str, Any]:
    """What the device's own clock says of single inferences, in a run apart from the timed one."""
    import numpy as np

    with np.load(inputs) as arrays:
        sample = {name: arrays[name][0] for name in arrays.files}
    told: Dict[str, Any] = program.device_times(sample, count)
    return told


def warm_up(call: Call, min_s: float, max_s: float) -> Dict[str, Any]:
    """Run in blocks until the medians of the last ones agree, or `max_s` is over."""
    start = clock()
    medians: List[float] = []
    count, steady = 0, False
    while True:
        block: List[int] = []
        block_start = clock()
        block_s = 0.0
        while block_s < BLOCK_MIN_S or (len(block) < BLOCK_MIN_COUNT and block_s < BLOCK_MAX_S):
            before = clock()
            call()
            after = clock()
            block.append(after - before)
            block_s = (after - block_start) / 1e9
            if after - start > max_s * 1e9:
                break
        count += len(block)
        medians.append(statistics.median(block))
        elapsed_s = (clock() - start) / 1e9
        last = medians[-STEADY_BLOCKS:]
        steady = len(last) == STEADY_BLOCKS and max(last) <= min(last) * (1 + STEADY_WITHIN)
        if (steady and elapsed_s >= min_s) or elapsed_s >= max_s:
            break
    return _window("warm_up", start, clock(), count, steady=steady)


def latency(
    call: Call,
    min_s: float,
    max_s: float,
    min_count: int,
    count: Optional[int],
) -> Tuple[Dict[str, Any], "array.array[int]", "array.array[int]"]:
    """Time single inferences, one in flight: `count` of them, else until time and number do."""
    starts, durations = array.array("q"), array.array("q")
    keep_start, keep_duration = starts.append, durations.append
    min_ns, max_ns = int(min_s * 1e9), int(max_s * 1e9)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        first = clock()
        if count is not None:
            for _ in range(count):
                before = clock()
                call()
                after = clock()
                keep_start(before)
                keep_duration(after - before)
        else:
            done, elapsed = 0, 0
            while elapsed < max_ns and (elapsed < min_ns or done < min_count):
                before = clock()
                call()
                after = clock()
                keep_start(before)
                keep_duration(after - before)
                done += 1
                elapsed = after - first
        last = clock()
    finally:
        if collecting:
            gc.enable()
    return _window("latency", first, last, len(durations)), starts, durations


def throughput(
    bind: Callable[[Dict[str, Any]], Call],
    call: Call,
    sample: Dict[str, Any],
    seconds: float,
    concurrency: Optional[List[int]],
    *,
    bind_async: Optional[Callable[[Dict[str, Any]], Callable[[], Call]]] = None,
) -> List[Dict[str, Any]]:
    """Saturate: try 1, 2, 4, … in flight while each doubling pays, then measure the best.

    Each is a thread of its own, unless the program starts inferences without waiting for them. One
    more that there is no memory for (MemoryError) is not tried: those before it stand.
    """
    if seconds <= 0:
        return []
    calls: List[Call] = [call]
    starts: List[Callable[[], Call]] = []

    def rate(streams: int, duration_s: float) -> Tuple[float, Dict[str, Any]]:
        if bind_async is not None:
            while len(starts) < streams:
                starts.append(bind_async(sample))
            window = _saturate_async(starts[:streams], duration_s)
        else:
            while len(calls) < streams:
                calls.append(bind(sample))
            window = _saturate(calls[:streams], duration_s)
        return window["count"] / (window["end_ns"] - window["start_ns"]), window

    candidates = concurrency or [1 << i for i in range(6)]
    best, best_rate = candidates[0], 0.0
    for streams in candidates:
        try:
            found, _ = rate(streams, min(PROBE_S, seconds))
        except MemoryError:
            if not best_rate:
                raise
            break
        if found <= best_rate * GAIN_WORTH_MORE_STREAMS and concurrency is None:
            break
        if found > best_rate:
            best, best_rate = streams, found
    return [rate(best, seconds)[1]]


def _saturate(calls: List[Call], seconds: float) -> Dict[str, Any]:
    counts = [0] * len(calls)
    errors: List[BaseException] = []
    ready = threading.Barrier(len(calls) + 1)
    end, last = [0], [0]

    def work(index: int) -> None:
        call, done = calls[index], 0
        try:
            ready.wait()
            while clock() < end[0] or (done < STREAM_MIN_COUNT and clock() < last[0]):
                call()
                done += 1
        except BaseException as err:
            errors.append(err)
        counts[index] = done

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    start = clock()
    end[0] = start + int(seconds * 1e9)
    last[0] = start + int(seconds * STREAM_MAX_STRETCH * 1e9)
    ready.wait()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return _window("throughput", start, clock(), sum(counts), concurrency=len(calls))


def _saturate_async(starts: List[Callable[[], Call]], seconds: float) -> Dict[str, Any]:
    """Keep one inference of each in flight, from this thread; those under way are waited for."""
    begin = clock()
    end, last = begin + int(seconds * 1e9), begin + int(seconds * STREAM_MAX_STRETCH * 1e9)
    under_way = collections.deque((start, start()) for start in starts)
    done = 0
    while under_way:
        start, wait = under_way.popleft()
        wait()
        done += 1
        now = clock()
        if now < end or (done < STREAM_MIN_COUNT * len(starts) and now < last):
            under_way.append((start, start()))
    return _window("throughput", begin, clock(), done, concurrency=len(starts))


def _rest(phase: str, seconds: float) -> Dict[str, Any]:
    start = clock()
    time.sleep(seconds)
    return _window(phase, start, clock(), 0)


def _window(
    phase: str,
    start: int,
    end: int,
    count: int,
    *,
    concurrency: int = 1,
    steady: Optional[bool] = None,
) -> Dict[str, Any]:
    return {
        "phase": phase,
        "start_ns": start,
        "end_ns": end,
        "count": count,
        "concurrency": concurrency,
        "steady": steady,
    }


def _packed(values: "array.array[int]") -> str:
    """Little-endian int64 as base64: a JSON list of a million numbers would be slow."""
    if sys.byteorder == "big":
        values = array.array("q", values)
        values.byteswap()
    return base64.b64encode(values.tobytes()).decode()
