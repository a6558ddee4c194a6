"""CUDA's functions as cuda-python has them: a tuple of a code and what they answer, or None."""

from __future__ import annotations

import ctypes
import functools
import threading

from cuda.standin.codes import TEXTS, cudaDeviceAttr, cudaError_t, cudaMemcpyKind
from cuda.standin.layout import runtime
from cuda.standin.machine import Event, Fault, Stream, host, machine

Code = cudaError_t
H2D, D2H, D2D = (
    cudaMemcpyKind.cudaMemcpyHostToDevice,
    cudaMemcpyKind.cudaMemcpyDeviceToHost,
    cudaMemcpyKind.cudaMemcpyDeviceToDevice,
)


class Handle:
    """What the package gives for a stream, an event, a graph: opaque, but for its number."""

    def __init__(self, init_value: int = 0) -> None:
        self.value = int(init_value)

    def __int__(self) -> int:
        return self.value


class cudaStream_t(Handle):
    pass


class cudaEvent_t(Handle):
    pass


class cudaGraph_t(Handle):
    pass


class cudaGraphExec_t(Handle):
    pass


class Graph:
    def __init__(self, work: list) -> None:
        self.work = work


class GraphExec(Graph):
    pass


class cudaDeviceProp:
    """The fields of a card that are asked for."""

    def __init__(self, gpu: dict) -> None:
        self.name = gpu["name"].encode()
        self.major, self.minor = host.capability(gpu["compute_capability"])
        self.totalGlobalMem = gpu["memory_bytes"]
        self.multiProcessorCount = gpu["sm_count"]
        self.integrated = int(gpu["integrated"])
        self.ECCEnabled = int(gpu["ecc"])


def call(results: int = 0, *, needs_gpu: bool = True):
    """A function of the package: noted, ended by a lost device or a planned fault, not raising."""

    def around(function):
        @functools.wraps(function)
        def called(*args, **named):
            machine.calls.append((function.__name__, *args, *named.values()))
            try:
                if needs_gpu:
                    machine.gpu()
                    if machine.lost is not None:
                        raise Fault(machine.lost)
                    machine.planned_fault(function.__name__)
                answer = function(*args, **named)
            except Fault as fault:
                return (fault.code, *[None] * results)
            if results == 0:
                return (Code.cudaSuccess,)
            return (Code.cudaSuccess, *(answer if results > 1 else [answer]))

        return called

    return around


def _check_device(device: int) -> None:
    if not 0 <= device < machine.gpu()["count"]:
        raise Fault(Code.cudaErrorInvalidDevice)


@call(1)
def cudaGetDeviceCount():
    return machine.gpu()["count"]


@call(1, needs_gpu=False)
def cudaDriverGetVersion():
    found = host.gpu()
    return 0 if found is None else found["cuda"]


@call(1, needs_gpu=False)
def cudaRuntimeGetVersion():
    return runtime()


@call(1, needs_gpu=False)
def cudaGetErrorName(error):
    return Code(int(error)).name.encode()


@call(1, needs_gpu=False)
def cudaGetErrorString(error):
    return TEXTS.get(Code(int(error)), "unknown error").encode()


@call()
def cudaSetDevice(device):
    _check_device(device)
    machine.here.device = device


@call(1)
def cudaGetDevice():
    return machine.current()


@call()
def cudaSetDeviceFlags(flags):
    if flags & ~0x1F or flags & 7 not in {0, 1, 2, 4}:
        raise Fault(Code.cudaErrorInvalidValue)
    machine.flags[machine.current()] = flags


@call(1)
def cudaGetDeviceFlags():
    return machine.flags.get(machine.current(), 0) | 8  # mapping the host's memory is implied


@call(1)
def cudaGetDeviceProperties(device):
    _check_device(device)
    return cudaDeviceProp(machine.gpu())


@call(1)
def cudaDeviceGetAttribute(attr, device):
    _check_device(device)
    gpu = machine.gpu()
    major, minor = host.capability(gpu["compute_capability"])
    return {
        cudaDeviceAttr.cudaDevAttrClockRate: gpu["clock_hz"] // 1000,
        cudaDeviceAttr.cudaDevAttrMultiProcessorCount: gpu["sm_count"],
        cudaDeviceAttr.cudaDevAttrIntegrated: int(gpu["integrated"]),
        cudaDeviceAttr.cudaDevAttrEccEnabled: int(gpu["ecc"]),
        cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor: major,
        cudaDeviceAttr.cudaDevAttrComputeCapabilityMinor: minor,
    }[cudaDeviceAttr(attr)]


@call(1)
def cudaDeviceGetPCIBusId(length, device):
    _check_device(device)
    if length < 13:
        raise Fault(Code.cudaErrorInvalidValue)
    return b"0000:%02x:00.0" % (device + 1)


@call(2)
def cudaMemGetInfo():
    return machine.free_bytes(machine.current()), machine.gpu()["memory_bytes"]


@call(1)
def cudaMalloc(size):
    machine.refuse_in_capture()
    return machine.allocate(size).address


@call()
def cudaFree(devPtr):
    machine.refuse_in_capture()
    machine.drop(machine.device_blocks, int(devPtr))


@call(1)
def cudaHostAlloc(size, flags):
    machine.refuse_in_capture()
    if flags & ~7:
        raise Fault(Code.cudaErrorInvalidValue)
    return machine.pin(size).address


@call()
def cudaFreeHost(ptr):
    machine.refuse_in_capture()
    machine.drop(machine.pinned_blocks, int(ptr))


@call()
def cudaMemcpyAsync(dst, src, count, kind, stream):
    if not isinstance(kind, cudaMemcpyKind):
        message = f"'kind' must be a cudaMemcpyKind, not {kind!r}"
        raise TypeError(message)
    sides = {H2D: (True, False), D2H: (False, True), D2D: (True, True)}
    if kind not in sides:
        raise Fault(Code.cudaErrorInvalidMemcpyDirection)
    into, out_of = int(dst), int(src)
    onto_card, off_card = sides[kind]
    (machine.device_range if onto_card else machine.host_range)(into, count)
    (machine.device_range if off_card else machine.host_range)(out_of, count)

    def copied():
        there = machine.device_range(into, count) if onto_card else into
        here = machine.device_range(out_of, count) if off_card else out_of
        ctypes.memmove(there, here, count)

    if kind != D2D and not machine.pinned(into if off_card else out_of):
        if machine.capturing():
            raise Fault(Code.cudaErrorStreamCaptureUnsupported)
        machine.finish_all()  # copies from and to memory that is not pinned wait
        machine.do(copied)
        return
    machine.enqueue(stream, copied)


@call(1)
def cudaStreamCreateWithFlags(flags):
    if flags not in {0, 1}:
        raise Fault(Code.cudaErrorInvalidValue)
    return cudaStream_t(machine.add(Stream(machine.current())))


@call()
def cudaStreamDestroy(stream):
    found = machine.get(stream, Stream)
    if found.captured is None:
        machine.finish(found)
    machine.remove(stream, Stream)


@call()
def cudaStreamSynchronize(stream):
    if int(stream) == 0:
        machine.refuse_in_capture()
        machine.finish_all()
        return
    found = machine.get(stream, Stream)
    if found.captured is not None:
        found.invalid = True
        raise Fault(Code.cudaErrorStreamCaptureUnsupported)
    machine.finish(found)


@call()
def cudaDeviceSynchronize():
    machine.refuse_in_capture()
    machine.finish_all()


@call(1)
def cudaEventCreateWithFlags(flags):
    if flags & ~7:
        raise Fault(Code.cudaErrorInvalidValue)
    return cudaEvent_t(machine.add(Event(flags)))


@call()
def cudaEventDestroy(event):
    machine.remove(event, Event)


@call()
def cudaEventRecord(event, stream):
    found = machine.get(event, Event)
    queue = machine.get(stream, Stream) if int(stream) else None
    if queue is not None and queue.captured is not None:
        found.in_graph = True
        machine.enqueue(stream, lambda: None)
        return
    found.in_graph = False
    found.recorded += 1
    turn = found.recorded
    found.stream = queue
    machine.enqueue(stream, lambda: machine.stamp(found, turn))


@call()
def cudaEventSynchronize(event):
    found = machine.get(event, Event)
    if found.in_graph:
        machine.refuse_in_capture()
        raise Fault(Code.cudaErrorCapturedEvent)
    if found.recorded and found.done < found.recorded:
        machine.finish(found.stream)


@call()
def cudaEventQuery(event):
    found = machine.get(event, Event)
    if found.in_graph:
        raise Fault(Code.cudaErrorCapturedEvent)
    if found.done < found.recorded:
        raise Fault(Code.cudaErrorNotReady)


@call(1)
def cudaEventElapsedTime(start, end):
    events = [machine.get(event, Event) for event in (start, end)]
    if any(event.flags & 2 or not event.recorded for event in events):
        raise Fault(Code.cudaErrorInvalidResourceHandle)
    if any(event.done < event.recorded for event in events):
        raise Fault(Code.cudaErrorNotReady)
    return (events[1].time_ns - events[0].time_ns) / 1e6


@call()
def cudaStreamBeginCapture(stream, mode):
    if int(stream) == 0:
        raise Fault(Code.cudaErrorStreamCaptureUnsupported)
    found = machine.get(stream, Stream)
    if found.captured is not None:
        raise Fault(Code.cudaErrorInvalidValue)
    found.captured, found.invalid = [], False
    found.mode, found.thread = int(mode), threading.get_ident()


@call(1)
def cudaStreamEndCapture(stream):
    found = machine.get(stream, Stream)
    if found.captured is None:
        raise Fault(Code.cudaErrorStreamCaptureUnmatched)
    if found.mode != 2 and found.thread != threading.get_ident():
        raise Fault(Code.cudaErrorStreamCaptureWrongThread)
    work, found.captured = found.captured, None
    if found.invalid:
        raise Fault(Code.cudaErrorStreamCaptureInvalidated)
    return cudaGraph_t(machine.add(Graph(work)))


@call(1)
def cudaGraphInstantiateWithFlags(graph, flags):
    machine.refuse_in_capture()
    found = machine.get(graph, Graph)
    return cudaGraphExec_t(machine.add(GraphExec(list(found.work))))


@call()
def cudaGraphLaunch(graphExec, stream):
    for work in machine.get(graphExec, GraphExec).work:
        machine.enqueue(stream, work)


@call()
def cudaGraphDestroy(graph):
    machine.remove(graph, Graph)


@call()
def cudaGraphExecDestroy(graphExec):
    machine.remove(graphExec, GraphExec)


__all__ = [name for name in list(globals()) if name.startswith("cuda")]
