"""One inference at a time of an engine: context, buffers, stream, and what is called to run it."""

from __future__ import annotations

import ctypes
import functools
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from trt_run_faults import CAPTURE, OTHER_HINT, BadInput, Failed, Unsupported, last

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from trt_run_cuda import Card
    from trt_run_library import Library, Tensor

    Array = npt.NDArray[Any]
    Calls = Callable[[], object]
    Bound = Any  # an object of the bindings, which have no types


class Buffer:
    """A tensor's memory on the card and, page-locked, on the host, where numpy sees it."""

    def __init__(self, card: Card, dtype: str, shape: tuple[int, ...]) -> None:
        self.cuda = card.cuda
        kind = np.dtype(dtype)
        self.size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        room = max(1, self.size)
        self.host = self.device = 0
        self.array: Array = np.empty(0, kind)
        doing = f"taking {room} bytes of memory"
        self.device = int(self.cuda("cudaMalloc", room, doing=f"{doing} on the GPU"))
        try:
            self.host = int(self.cuda("cudaHostAlloc", room, 0, doing=f"{doing} on the host"))
        except BaseException:
            self.free()
            raise
        memory = (ctypes.c_ubyte * room).from_address(self.host)
        self.array = np.ndarray(shape, kind, buffer=memory)

    def free(self) -> None:
        """Give both back; faults are those of a device that is lost already."""
        module = self.cuda.module
        self.array = np.empty(0, self.array.dtype)
        if self.host:
            module.cudaFreeHost(self.host)
        if self.device:
            module.cudaFree(self.device)
        self.host = self.device = 0


class Slot:
    """A context with its own stream and buffers, on inputs of these shapes.

    `start` queues one inference and `wait` waits for it. With `transfers` that includes the copies
    from page-locked memory to the card and back; `graph` launches all of it as one CUDA graph,
    captured once. Where there is a `profiler`, the library reports its layers to it instead.
    """

    def __init__(
        self,
        library: Library,
        engine: Bound,
        card: Card,
        inputs: dict[str, Array],
        *,
        tensors: tuple[dict[str, Tensor], dict[str, Tensor]],
        transfers: bool,
        graph: bool = False,
        profiler: Bound = None,
    ) -> None:
        self.library, self.card, self.cuda = library, card, card.cuda
        self.buffers: dict[str, Buffer] = {}
        self.outputs = list(tensors[1])
        self.inputs = list(tensors[0])
        self.events: list[Any] = []
        self.captured: list[tuple[str, Any]] = []
        self.stream: Any = None
        self.context: Any = library.context(engine)
        self.start: Calls = closed
        self.wait: Calls = closed
        try:
            if profiler is not None:
                self.context.profiler = profiler
                self.profiler = profiler  # the context does not keep it alive in every version
            self._shape(tensors, inputs)
            self.stream = self.cuda("cudaStreamCreateWithFlags", self._flag("StreamNonBlocking"))
            self.upload = self._copies(self.inputs, to_card=True)
            self.download = self._copies(self.outputs, to_card=False)
            self.fill(inputs)
            self.wait = self._waited()
            self._copied(self.upload)
            self.start = self._queued(*((self.upload, self.download) if transfers else ([], [])))
            # the first inference makes ready what later ones find: kernels, memory, shapes
            self.start()
            self.wait()
            if graph:
                self.start = self._graphed(self.start)
                self.start()
                self.wait()
            if card.index:  # a thread's device is the first until it says otherwise
                self.start, self.wait = self._there(self.start), self._there(self.wait)
        except BaseException:
            self.close()
            raise

    def infer(self) -> None:
        """One inference from beginning to end: what is timed."""
        self.start()
        self.wait()

    def fill(self, inputs: dict[str, Array]) -> None:
        """Put these inputs into the host's buffers."""
        for name in self.inputs:
            np.copyto(self.buffers[name].array, inputs[name])

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Outputs of one inference on these inputs, as arrays of their own; needs `transfers`."""
        self.fill(inputs)
        self.infer()
        return {name: self.buffers[name].array.copy() for name in self.outputs}

    def timed(self, count: int, warm_up: int) -> tuple[list[float], list[float]]:
        """Seconds of `count` inferences between two events, and of queueing each, by the host.

        Another inference is queued ahead of each, so that the card is busy while the host queues.
        """
        cuda, record = self.cuda, self.cuda.module.cudaEventRecord
        flag = self._flag("EventBlockingSync" if self.card.wait == "block" else "EventDefault")
        while len(self.events) < 2:
            self.events.append(cuda("cudaEventCreateWithFlags", flag))
        begin, end = self.events
        for _ in range(warm_up):
            self.infer()
        seconds, queueing = [], []
        for _ in range(count):
            self.start()
            first = record(begin, self.stream)[0]
            before = time.perf_counter_ns()
            self.start()
            queueing.append((time.perf_counter_ns() - before) / 1e9)
            second = record(end, self.stream)[0]
            if first or second:
                raise cuda.fault(first or second, "recording an event")
            cuda("cudaEventSynchronize", end, doing="waiting for an inference")
            seconds.append(cuda("cudaEventElapsedTime", begin, end, doing="reading events") / 1e3)
        return seconds, queueing

    def close(self) -> None:
        """Give all back, in the order that each needs the next: graph, context, stream, memory."""
        module = self.cuda.module
        self.start = self.wait = closed
        if self.stream is not None:
            module.cudaStreamSynchronize(self.stream)
        for destroy, handle in reversed(self.captured):
            getattr(module, destroy)(handle)
        self.captured.clear()
        self.context = None
        for event in self.events:
            module.cudaEventDestroy(event)
        self.events.clear()
        if self.stream is not None:
            module.cudaStreamDestroy(self.stream)
            self.stream = None
        for buffer in self.buffers.values():
            buffer.free()
        self.buffers.clear()
        self.upload = self.download = []

    def _flag(self, name: str) -> int:
        return int(getattr(self.cuda.module, f"cuda{name}"))

    def _shape(
        self,
        tensors: tuple[dict[str, Tensor], dict[str, Tensor]],
        inputs: dict[str, Array],
    ) -> None:
        """Tell the context the shapes, make a buffer for each tensor and tell where it is."""
        context, lines = self.context, self.library.lines
        lines.clear()
        for name, tensor in tensors[0].items():
            if not context.set_input_shape(name, inputs[name].shape):
                msg = f"input {name!r} of shape {inputs[name].shape} was refused: {last(lines, 1)}"
                raise BadInput(msg, f"The engine takes {tensor.described()['shape']}.")
        unknown = list(context.infer_shapes())
        if unknown:
            msg = f"the engine does not know the shapes of {unknown}: {last(lines, 1)}"
            raise Failed(msg, OTHER_HINT)
        for name, tensor in {**tensors[0], **tensors[1]}.items():
            shape = tuple(context.get_tensor_shape(name))
            if any(size < 0 for size in shape):
                msg = f"output {name!r} has a shape that depends on the data: {shape}"
                raise Unsupported(msg, "End the model before that operator (end_nodes).")
            buffer = self.buffers[name] = Buffer(self.card, tensor.dtype, shape)
            if not context.set_tensor_address(name, buffer.device):
                msg = f"the engine does not take memory for {name!r}: {last(lines, 1)}"
                raise Failed(msg, OTHER_HINT)

    def _copies(self, names: list[str], *, to_card: bool) -> list[Callable[[], tuple[Any, ...]]]:
        """Calls that queue a copy each, of what has any bytes, and answer CUDA's code."""
        kinds = self.cuda.module.cudaMemcpyKind
        kind = kinds.cudaMemcpyHostToDevice if to_card else kinds.cudaMemcpyDeviceToHost
        found = []
        for name in names:
            buffer = self.buffers[name]
            ends = (buffer.device, buffer.host) if to_card else (buffer.host, buffer.device)
            if buffer.size:
                copy = self.cuda.module.cudaMemcpyAsync
                found.append(functools.partial(copy, *ends, buffer.size, kind, self.stream))
        return found

    def _copied(self, copies: list[Any]) -> None:
        """Queue copies; CUDA's code is looked at and nothing else done, since this is timed."""
        for copy in copies:
            code = copy()[0]
            if code:
                raise self.cuda.fault(code, "copying a tensor")

    def _queued(self, before: list[Any], after: list[Any]) -> Calls:
        """A call that queues copies, one inference and copies."""
        execute, stream, copied = self.context.execute_async_v3, int(self.stream), self._copied

        def queued() -> None:
            copied(before)
            if not execute(stream):
                raise self._failed()
            copied(after)

        return queued

    def _failed(self) -> Exception:
        """Why an inference could not be queued: the card's state tells more than the library."""
        code = self.cuda.module.cudaStreamSynchronize(self.stream)[0]
        if int(code):
            return self.cuda.fault(code, "queueing an inference")
        msg = f"{self.library.name} refused an inference: {last(self.library.lines)}"
        return Failed(msg, OTHER_HINT)

    def _waited(self) -> Calls:
        cuda, stream = self.cuda, self.stream
        synchronize = cuda.module.cudaStreamSynchronize

        def waited() -> None:
            code = synchronize(stream)[0]
            if code:
                raise cuda.fault(code, "waiting for an inference")

        return waited

    def _graphed(self, queue: Calls) -> Calls:
        """What `queue` queues, captured once: a call that launches it. Raises `Unsupported`."""
        cuda, module, stream = self.cuda, self.cuda.module, self.stream
        capturable = getattr(self.context, "is_stream_capturable", None)
        if capturable is not None and not capturable(int(stream)):
            msg = f"{CAPTURE[0]}: {self.library.name} says so"
            raise Unsupported(msg, CAPTURE[1])
        mode = module.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        doing = "capturing an inference"
        cuda("cudaStreamBeginCapture", stream, mode, doing=doing)
        try:
            queue()
        except BaseException:
            code, graph = module.cudaStreamEndCapture(stream)
            if not int(code) and int(graph):
                module.cudaGraphDestroy(graph)
            raise
        graph = cuda("cudaStreamEndCapture", stream, doing=doing)
        self.captured.append(("cudaGraphDestroy", graph))
        executable = cuda("cudaGraphInstantiateWithFlags", graph, 0, doing=doing)
        self.captured.append(("cudaGraphExecDestroy", executable))
        launch = module.cudaGraphLaunch

        def launched() -> None:
            code = launch(executable, stream)[0]
            if code:
                raise cuda.fault(code, "launching a CUDA graph")

        return launched

    def _there(self, call: Calls) -> Calls:
        """The call, in threads that have made this card their own first."""
        cuda, index, here = self.cuda, self.card.index, threading.local()

        def called() -> None:
            if not hasattr(here, "chosen"):
                cuda("cudaSetDevice", index, doing="taking the GPU")
                here.chosen = True
            call()

        return called


def closed() -> None:
    """Stands where a call was that an artifact loaded since has taken the memory of."""
    msg = "what was bound is gone: another artifact was loaded, or this one closed"
    raise BadInput(msg, "Call load(artifact, options), then bind(inputs) again.")
