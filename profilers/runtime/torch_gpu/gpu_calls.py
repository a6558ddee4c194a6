"""One inference of a program on inputs that are already there: started, waited for, timed."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

Tensor = torch.Tensor
Forward = Any  # tensors in, a tuple of tensors out: eager, compiled
GRAPH_WARM_UP = 3
EVENT_WARM_UP = 10


class Bound:
    """Inputs at fixed places on the device, a stream, and the program's run on them.

    `host` are the inputs in the host's memory. With `transfers` they go to the device in each
    inference and the outputs come back, both through pinned memory; on a CPU there is neither.
    """

    def __init__(
        self,
        forward: Forward,
        host: list[Tensor],
        device: torch.device,
        *,
        transfers: bool,
        graph: bool = False,
        own_stream: bool = False,
        steps: bool = False,
    ) -> None:
        self.forward = forward
        self.on_card = device.type == "cuda"
        self.transfers = transfers and self.on_card
        self.steps = steps
        self.stream: Any = None
        self.within: Callable[[], Any] = contextlib.nullcontext
        self.host = [value.pin_memory() for value in host] if self.on_card else host
        self.inputs = [value.to(device) for value in self.host]
        self.replay: Callable[[], None] | None = None
        self.outputs: tuple[Tensor, ...] = ()
        if self.on_card:
            torch.cuda.synchronize(device)
            current = torch.cuda.default_stream(device)
            self.stream = torch.cuda.Stream(device) if own_stream else current
            if own_stream:
                self.within = lambda: torch.cuda.stream(self.stream)
        with self.within():
            self.outputs = self.forward(*self.inputs)
            if graph:
                self.record()
        self.back = [
            torch.empty(value.shape, dtype=value.dtype, pin_memory=self.on_card)
            for value in self.outputs
        ]
        self.wait()

    def record(self) -> None:
        """Record the run as a CUDA graph: kernels are then launched at once, on fixed places."""
        side = torch.cuda.Stream(self.inputs[0].device)
        side.wait_stream(self.stream)
        with torch.cuda.stream(side):
            for _ in range(GRAPH_WARM_UP):
                self.forward(*self.inputs)
        self.stream.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.outputs = self.forward(*self.inputs)
        self.replay = graph.replay

    def infer(self) -> None:
        """Start the program on what lies on the device."""
        if self.replay is not None:
            self.replay()
            return
        if self.steps:  # what the run before gave may be written over
            torch.compiler.cudagraph_mark_step_begin()
        self.outputs = self.forward(*self.inputs)

    def start(self) -> Callable[[], None]:
        """Start one inference; answers what waits for it."""
        with self.within():
            if self.transfers:
                for here, there in zip(self.inputs, self.host, strict=True):
                    here.copy_(there, non_blocking=True)
            self.infer()
            if self.transfers:
                for there, here in zip(self.back, self.outputs, strict=True):
                    there.copy_(here, non_blocking=True)
        return self.wait

    def wait(self) -> None:
        """Until all that was started here is done."""
        if self.stream is not None:
            self.stream.synchronize()

    def __call__(self) -> None:
        """One inference from start to end."""
        self.start()
        self.wait()

    def values(self) -> list[Tensor]:
        """The outputs of the last inference, in the host's memory, for itself."""
        return [value.detach().to("cpu", copy=True) for value in self.outputs]

    def device_times(self, count: int) -> tuple[list[float], list[float]]:
        """Seconds of `count` inferences between two events, and of starting each, by the host.

        Another inference is started ahead of each, so that the card is busy while the host starts
        this one: else the host's time would lie between the events.
        """
        found, starting = [], []
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with self.within():
            for turn in range(EVENT_WARM_UP + count):
                self.infer()
                begin.record(self.stream)
                before = time.perf_counter_ns()
                self.infer()
                started = time.perf_counter_ns() - before
                end.record(self.stream)
                end.synchronize()
                if turn >= EVENT_WARM_UP:
                    found.append(begin.elapsed_time(end) / 1e3)
                    starting.append(started / 1e9)
        return found, starting
