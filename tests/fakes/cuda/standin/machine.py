"""The made-up machine behind the stand-in: memory, streams that work only when waited for, graphs.

Work is queued and done when somebody waits for it, so what reads too early reads what was there.
Addresses of the device are none of the host's: reading one there ends the process, as it should.
"""

from __future__ import annotations

import collections
import ctypes
import importlib.util
import threading
import time
from pathlib import Path

from cuda.standin.codes import STICKY, cudaError_t
from cuda.standin.layout import runtime

GRAIN = 512
FIRST_ADDRESS = 0x2_0000_0000
FRESH, FREED = 0xFF, 0xDD
_spec = importlib.util.spec_from_file_location(
    "cuda_standin_host", Path(__file__).parents[2] / "tensorrt" / "host.py"
)
host = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(host)


class Fault(Exception):
    """What ends a call: a code of CUDA's."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = cudaError_t(code)


class Block:
    """A piece of memory: of the device, at an address of its own, or pinned, at the host's."""

    def __init__(self, size: int, address: int | None = None, device: int | None = None) -> None:
        self.size = size
        self.memory = (ctypes.c_ubyte * max(1, size))()
        ctypes.memset(self.memory, FRESH, max(1, size))
        self.real = ctypes.addressof(self.memory)
        self.address = self.real if address is None else address
        self.device = device


class Stream:
    """Work in order, done when it is waited for; or, while it is captured, kept for a graph."""

    def __init__(self, device: int) -> None:
        self.device = device
        self.work = collections.deque()
        self.captured = None
        self.mode = 0
        self.thread = None
        self.invalid = False
        self.turn = threading.Lock()


class Event:
    """When the work before it was done, by the host's clock."""

    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.recorded = 0
        self.done = 0
        self.stream = None
        self.time_ns = None
        self.in_graph = False


class Machine:
    """All that the process has of the GPU; `reset` makes it new.

    `calls` are the names and arguments of what was called. `faults` of a test: a function's name
    to the code that it ends in, or to a pair of code and the number of calls before that go well.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        self.calls = []
        self.faults = {}
        self.device_blocks = {}
        self.pinned_blocks = {}
        self.freed = collections.deque(maxlen=64)
        self.handles = {}
        self.graphs = {}
        self.flags = {}
        self.taken = {}
        self.here = threading.local()
        self.lost = None
        self.next_address = FIRST_ADDRESS
        self.next_handle = 0x5000

    def gpu(self) -> dict:
        """The GPU; `Fault` where there is none, or its driver is older than this CUDA."""
        found = host.gpu()
        if found is None or found["cuda"] // 1000 < runtime() // 1000:
            raise Fault(cudaError_t.cudaErrorInsufficientDriver)
        if found["count"] == 0:
            raise Fault(cudaError_t.cudaErrorNoDevice)
        return found

    def current(self) -> int:
        """The device of the calling thread, 0 unless it set another."""
        return getattr(self.here, "device", 0)

    def planned_fault(self, name: str) -> None:
        """End the call where a test wants it to."""
        told = self.faults.get(name)
        if told is None:
            return
        code, before = told if isinstance(told, tuple) else (told, 0)
        if before:
            self.faults[name] = (code, before - 1)
            return
        raise Fault(code)

    def add(self, thing: object) -> int:
        """A handle of something."""
        self.next_handle += 0x10
        self.handles[self.next_handle] = thing
        return self.next_handle

    def get(self, handle: object, kind: type) -> object:
        """What a handle stands for; `Fault` where it is none, of another kind, or destroyed."""
        found = self.handles.get(int(handle))
        if not isinstance(found, kind):
            raise Fault(cudaError_t.cudaErrorInvalidResourceHandle)
        return found

    def remove(self, handle: object, kind: type) -> object:
        found = self.get(handle, kind)
        del self.handles[int(handle)]
        return found

    def free_bytes(self, device: int) -> int:
        return self.gpu()["free_bytes"] - self.taken.get(device, 0)

    def take(self, size: int, device: int) -> None:
        """Take memory of the card; `Fault` where there is none left."""
        if size > self.free_bytes(device):
            raise Fault(cudaError_t.cudaErrorMemoryAllocation)
        self.taken[device] = self.taken.get(device, 0) + size

    def give(self, size: int, device: int) -> None:
        self.taken[device] -= size

    def allocate(self, size: int) -> Block:
        device, whole = self.current(), -(-max(1, size) // GRAIN) * GRAIN
        self.take(whole, device)
        block = Block(size, self.next_address, device)
        self.next_address += whole + GRAIN
        self.device_blocks[block.address] = block
        return block

    def pin(self, size: int) -> Block:
        block = Block(size)
        self.pinned_blocks[block.address] = block
        return block

    def drop(self, blocks: dict, address: int) -> None:
        """Free a block: it must be one, by its first address, and is overwritten."""
        if address not in blocks:
            raise Fault(cudaError_t.cudaErrorInvalidValue)
        self.finish_all()
        block = blocks.pop(address)
        ctypes.memset(block.memory, FREED, max(1, block.size))
        if block.device is not None:
            self.give(-(-max(1, block.size) // GRAIN) * GRAIN, block.device)
        else:
            self.freed.append(block)  # who still reads it gets rubbish, not a crash of the tests

    def device_range(self, address: int, size: int) -> int:
        """The host's address behind a range of device memory; `Fault` if not all of it is there."""
        for block in self.device_blocks.values():
            inside = address - block.address
            if 0 <= inside < max(1, block.size):
                if inside + size > block.size:
                    raise Fault(cudaError_t.cudaErrorInvalidValue)
                return block.real + inside
        raise Fault(cudaError_t.cudaErrorInvalidValue)

    def host_range(self, address: int, size: int) -> int:
        """The same address, checked where it is pinned; device addresses are none of the host's."""
        if FIRST_ADDRESS <= address < self.next_address or not address:
            raise Fault(cudaError_t.cudaErrorInvalidValue)
        for block in self.pinned_blocks.values():
            inside = address - block.address
            if 0 <= inside < max(1, block.size) and inside + size > block.size:
                raise Fault(cudaError_t.cudaErrorInvalidValue)
        if any(0 <= address - block.address < max(1, block.size) for block in self.freed):
            raise Fault(cudaError_t.cudaErrorInvalidValue)
        return address

    def pinned(self, address: int) -> bool:
        blocks = self.pinned_blocks.values()
        return any(0 <= address - block.address < max(1, block.size) for block in blocks)

    def enqueue(self, handle: object, work: object) -> None:
        """Queue work in a stream, or in what is captured of it; stream 0 does it at once."""
        with self.lock:
            if int(handle) == 0:
                if self.capturing():
                    raise Fault(cudaError_t.cudaErrorStreamCaptureUnsupported)
                self.finish_all()
                self.do(work)
                return
            stream = self.get(handle, Stream)
            if stream.captured is not None:
                if stream.invalid:
                    raise Fault(cudaError_t.cudaErrorStreamCaptureInvalidated)
                stream.captured.append(work)
            else:
                stream.work.append(work)

    def do(self, work: object) -> None:
        """One piece of work; what goes wrong there is the device's, and stays."""
        if self.lost is not None:
            raise Fault(self.lost)
        try:
            work()
        except Fault as fault:
            if fault.code in STICKY:
                self.lost = fault.code
            raise

    def finish(self, stream: Stream) -> None:
        """Do all that is queued in a stream."""
        with stream.turn:
            while stream.work:
                self.do(stream.work.popleft())

    def finish_all(self) -> None:
        for thing in list(self.handles.values()):
            if isinstance(thing, Stream):
                self.finish(thing)

    def capturing(self) -> list:
        """The streams that are being captured."""
        streams = [thing for thing in self.handles.values() if isinstance(thing, Stream)]
        return [stream for stream in streams if stream.captured is not None]

    def refuse_in_capture(self) -> None:
        """End a call that a capture under way forbids, and make that capture worthless.

        A global one forbids it to all threads, one of a thread to that thread, a relaxed one never.
        """
        own = threading.get_ident()
        for stream in self.capturing():
            if stream.mode == 0 or (stream.mode == 1 and stream.thread == own):
                stream.invalid = True
                raise Fault(cudaError_t.cudaErrorStreamCaptureUnsupported)

    def stamp(self, event: Event, turn: int) -> None:
        """The event's moment has come."""
        event.done, event.time_ns = turn, time.perf_counter_ns()


machine = Machine()
