"""The stand-in of cuda-python refuses what CUDA refuses, and does nothing before its time."""

import ctypes
import importlib
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import trt_standin


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """cuda.bindings.runtime of the stand-in, on a machine with one GPU of 1 MB."""
    monkeypatch.syspath_prepend(str(trt_standin.FAKES))
    monkeypatch.setenv("CUDA_STANDIN_LAYOUT", "13")
    monkeypatch.setenv("TENSORRT_STANDIN_GPU", "{}")
    trt_standin.forget()
    trt_standin.gpu(free_bytes=1_000_000)
    yield importlib.import_module("cuda.bindings.runtime")
    trt_standin.forget()


def code(answer: tuple[Any, ...]) -> str:
    """The name of the code of an answer, in which all else is then None."""
    assert answer[0].value == 0 or all(each is None for each in answer[1:])
    name: str = answer[0].name
    return name.removeprefix("cudaError").removeprefix("cuda")


def given(answer: tuple[Any, ...]) -> Any:
    """The one value of an answer that went well."""
    assert answer[0].value == 0
    return answer[1]


class Copy:
    """Four bytes on the host and on the card, and a stream."""

    def __init__(self, cuda: ModuleType) -> None:
        self.cuda = cuda
        self.stream = given(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking))
        self.host = given(cuda.cudaHostAlloc(8, 0))
        self.device = given(cuda.cudaMalloc(8))
        self.bytes = np.ctypeslib.as_array((ctypes.c_ubyte * 8).from_address(self.host))
        self.bytes[:] = range(8)

    def up(self, size: int = 8) -> tuple[Any, ...]:
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        answer = self.cuda.cudaMemcpyAsync(self.device, self.host, size, kind, self.stream)
        return tuple(answer)

    def down(self, size: int = 8) -> tuple[Any, ...]:
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        answer = self.cuda.cudaMemcpyAsync(self.host, self.device, size, kind, self.stream)
        return tuple(answer)

    def done(self) -> tuple[Any, ...]:
        return tuple(self.cuda.cudaStreamSynchronize(self.stream))


def test_without_a_gpu_or_with_an_old_driver_every_call_ends_alike(
    cuda: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORRT_STANDIN_GPU", "")
    assert code(cuda.cudaGetDeviceCount()) == "InsufficientDriver"
    assert code(cuda.cudaMalloc(8)) == "InsufficientDriver"
    assert cuda.cudaMemGetInfo()[1:] == (None, None)
    assert given(cuda.cudaDriverGetVersion()) == 0
    assert given(cuda.cudaGetErrorName(cuda.cudaError_t(35))) == b"cudaErrorInsufficientDriver"
    trt_standin.gpu(cuda=12080)
    assert code(cuda.cudaGetDeviceCount()) == "InsufficientDriver"
    assert given(cuda.cudaDriverGetVersion()) == 12080
    trt_standin.gpu(count=0)
    assert code(cuda.cudaGetDeviceCount()) == "NoDevice"


def test_work_is_done_when_it_is_waited_for(cuda: ModuleType) -> None:
    copy = Copy(cuda)
    copy.up()
    copy.down()
    copy.bytes[:] = 9
    copy.done()
    assert copy.bytes.tolist() == [9] * 8  # the copy up ran after the 9s were written
    given(cuda.cudaEventCreateWithFlags(0))
    copy.bytes[:] = 1
    copy.down()
    assert copy.bytes.tolist() == [1] * 8
    copy.done()
    assert copy.bytes.tolist() == [9] * 8


def test_memory_is_counted_and_bounded(cuda: ModuleType) -> None:
    assert cuda.cudaMemGetInfo()[1] == 1_000_000
    assert code(cuda.cudaMalloc(1_000_001)) == "MemoryAllocation"
    copy = Copy(cuda)
    assert cuda.cudaMemGetInfo()[1] == 1_000_000 - 512
    assert code(copy.up(9)) == "InvalidValue"
    assert code(copy.down(9)) == "InvalidValue"
    kinds = cuda.cudaMemcpyKind
    swapped = cuda.cudaMemcpyAsync(
        copy.host, copy.device, 8, kinds.cudaMemcpyHostToDevice, copy.stream
    )
    assert code(swapped) == "InvalidValue"
    with pytest.raises(TypeError, match="must be a cudaMemcpyKind"):
        cuda.cudaMemcpyAsync(copy.device, copy.host, 8, 1, copy.stream)
    assert code(cuda.cudaFree(copy.device + 4)) == "InvalidValue"
    assert code(cuda.cudaFree(copy.device)) == "Success"
    assert code(cuda.cudaFree(copy.device)) == "InvalidValue"
    assert code(copy.up()) == "InvalidValue"
    assert cuda.cudaMemGetInfo()[1] == 1_000_000
    assert code(cuda.cudaFreeHost(copy.host)) == "Success"
    assert copy.bytes.tolist() == [0xDD] * 8


def test_handles_are_of_one_kind_and_die(cuda: ModuleType) -> None:
    stream = given(cuda.cudaStreamCreateWithFlags(1))
    event = given(cuda.cudaEventCreateWithFlags(0))
    assert code(cuda.cudaStreamSynchronize(event)) == "InvalidResourceHandle"
    assert code(cuda.cudaEventRecord(stream, stream)) == "InvalidResourceHandle"
    assert code(cuda.cudaStreamDestroy(stream)) == "Success"
    assert code(cuda.cudaStreamSynchronize(stream)) == "InvalidResourceHandle"
    assert code(cuda.cudaEventRecord(event, stream)) == "InvalidResourceHandle"
    assert code(cuda.cudaEventDestroy(event)) == "Success"
    assert code(cuda.cudaEventSynchronize(event)) == "InvalidResourceHandle"
    assert code(cuda.cudaStreamCreateWithFlags(2)) == "InvalidValue"
    assert code(cuda.cudaSetDeviceFlags(3)) == "InvalidValue"
    assert code(cuda.cudaSetDevice(1)) == "InvalidDevice"


def test_events_have_times_once_they_are_recorded_and_done(cuda: ModuleType) -> None:
    copy = Copy(cuda)
    begin, end, untimed = (given(cuda.cudaEventCreateWithFlags(flags)) for flags in (0, 1, 2))
    assert code(cuda.cudaEventElapsedTime(begin, end)) == "InvalidResourceHandle"
    assert code(cuda.cudaEventSynchronize(begin)) == "Success"  # nothing to wait for
    cuda.cudaEventRecord(begin, copy.stream)
    copy.up()
    cuda.cudaEventRecord(end, copy.stream)
    cuda.cudaEventRecord(untimed, copy.stream)
    assert code(cuda.cudaEventQuery(end)) == "NotReady"
    assert code(cuda.cudaEventElapsedTime(begin, end)) == "NotReady"
    assert code(cuda.cudaEventSynchronize(end)) == "Success"
    assert 0 < given(cuda.cudaEventElapsedTime(begin, end)) < 1000
    assert code(cuda.cudaEventElapsedTime(begin, untimed)) == "InvalidResourceHandle"
    cuda.cudaEventRecord(end, copy.stream)
    assert code(cuda.cudaEventElapsedTime(begin, end)) == "NotReady"


def test_a_graph_is_what_was_queued_while_it_was_captured(cuda: ModuleType) -> None:
    copy = Copy(cuda)
    modes = cuda.cudaStreamCaptureMode
    assert code(cuda.cudaStreamEndCapture(copy.stream)) == "StreamCaptureUnmatched"
    cuda.cudaStreamBeginCapture(copy.stream, modes.cudaStreamCaptureModeThreadLocal)
    assert code(cuda.cudaStreamBeginCapture(copy.stream, modes(1))) == "InvalidValue"
    copy.up()
    graph = given(cuda.cudaStreamEndCapture(copy.stream))
    executable = given(cuda.cudaGraphInstantiateWithFlags(graph, 0))
    assert code(cuda.cudaGraphLaunch(graph, copy.stream)) == "InvalidResourceHandle"
    assert code(cuda.cudaGraphDestroy(graph)) == "Success"
    copy.bytes[:] = 5
    assert code(cuda.cudaGraphLaunch(executable, copy.stream)) == "Success"
    copy.done()
    copy.bytes[:] = 0
    copy.down()
    copy.done()
    assert copy.bytes.tolist() == [5] * 8
    assert code(cuda.cudaGraphExecDestroy(executable)) == "Success"
    assert code(cuda.cudaGraphLaunch(executable, copy.stream)) == "InvalidResourceHandle"


@pytest.mark.parametrize("call", ["wait", "malloc", "event"])
def test_what_waits_spoils_a_capture(cuda: ModuleType, call: str) -> None:
    copy = Copy(cuda)
    event = given(cuda.cudaEventCreateWithFlags(0))
    cuda.cudaStreamBeginCapture(copy.stream, cuda.cudaStreamCaptureMode(1))
    copy.up()
    if call == "wait":
        answer = copy.done()
    elif call == "malloc":
        answer = cuda.cudaMalloc(8)
    else:
        cuda.cudaEventRecord(event, copy.stream)
        answer = cuda.cudaEventSynchronize(event)
    assert code(answer) == "StreamCaptureUnsupported"
    assert code(copy.up()) == "StreamCaptureInvalidated"
    assert code(cuda.cudaStreamEndCapture(copy.stream)) == "StreamCaptureInvalidated"
    assert code(copy.up()) == "Success"


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_other_threads_may_go_on_unless_a_capture_is_global(cuda: ModuleType, mode: int) -> None:
    copy = Copy(cuda)
    answers = []

    def work() -> None:
        answers.append(code(cuda.cudaMalloc(8)))
        answers.append(code(cuda.cudaStreamEndCapture(copy.stream)))

    cuda.cudaStreamBeginCapture(copy.stream, cuda.cudaStreamCaptureMode(mode))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    allocated = "StreamCaptureUnsupported" if mode == 0 else "Success"
    assert answers == [allocated, "Success" if mode == 2 else "StreamCaptureWrongThread"]


def test_a_lost_device_stays_lost(cuda: ModuleType) -> None:
    state = trt_standin.machine()
    copy = Copy(cuda)

    def kernel() -> None:
        raise importlib.import_module("cuda.standin.machine").Fault(700)

    state.enqueue(copy.stream, kernel)
    assert code(copy.done()) == "IllegalAddress"
    assert code(cuda.cudaMalloc(8)) == "IllegalAddress"
    assert code(copy.done()) == "IllegalAddress"
    state.reset()
    assert code(cuda.cudaMalloc(8)) == "Success"


@pytest.mark.parametrize(
    ("layout", "bindings", "old"), [("11", False, True), ("12", True, True), ("13", True, False)]
)
def test_each_layout_has_its_modules(
    monkeypatch: pytest.MonkeyPatch, layout: str, *, bindings: bool, old: bool
) -> None:
    monkeypatch.syspath_prepend(str(trt_standin.FAKES))
    monkeypatch.setenv("CUDA_STANDIN_LAYOUT", layout)
    for name, there in (("cuda.bindings.runtime", bindings), ("cuda.cudart", old)):
        trt_standin.forget()
        if not there:
            with pytest.raises(ImportError):
                importlib.import_module(name)
        elif (layout, name) == ("12", "cuda.cudart"):
            with pytest.warns(FutureWarning, match="deprecated"):
                importlib.import_module(name)
        else:
            assert hasattr(importlib.import_module(name), "cudaMalloc")
    trt_standin.forget()
