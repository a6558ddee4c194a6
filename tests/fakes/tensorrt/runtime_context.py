"""The runtime half: execution contexts, which compute on ONNX Runtime when their stream works."""

from __future__ import annotations

import ctypes
import time
from typing import Any

import numpy as np
from cuda.standin.machine import Fault, Stream, machine

from tensorrt.log import emit
from tensorrt.strict import Bound

NUMPY = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}


class IProfiler:
    """The base of profilers of one's own: override `report_layer_time`."""

    def __init__(self) -> None:
        self._constructed = True

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        text = 'Tried to call pure virtual function "IProfiler::reportLayerTime"'
        raise RuntimeError(text)


class IExecutionContext(Bound):
    """One context: the shapes and addresses of its tensors, its own activations on the card."""

    _reports_layers = True

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._profiler: Any = None
        self._emits = True
        self._ready = False
        self._taken = engine._header["device_memory_bytes"]
        machine.take(self._taken, engine._device)
        self._generation = machine.taken
        for name, tensor in engine._inputs.items():
            if all(size >= 0 for size in tensor["shape"]):
                self._shapes[name] = tuple(tensor["shape"])

    def __del__(self) -> None:
        if self.__dict__.get("_generation") is machine.taken:
            machine.calls.append(("~IExecutionContext",))
            machine.give(self._taken, self._engine._device)

    @property
    def engine(self) -> Any:
        return self._engine

    @property
    def profiler(self) -> Any:
        return self._profiler

    @profiler.setter
    def profiler(self, value: Any) -> None:
        if not getattr(value, "_constructed", False):
            msg = "(): incompatible function arguments: expected an IProfiler"
            raise TypeError(msg)
        self._profiler = value

    @property
    def enqueue_emits_profile(self) -> bool:
        return self._emits

    @enqueue_emits_profile.setter
    def enqueue_emits_profile(self, value: bool) -> None:
        self._emits = value

    def _error(self, text: str) -> bool:
        emit(self._engine._logger, "ERROR", text)
        return False

    def set_input_shape(self, name: str, shape: Any) -> bool:
        """False, with the reason logged, where the name or the shape is none of the engine's."""
        machine.calls.append(("set_input_shape", name, tuple(shape)))
        if name not in self._engine._inputs:
            return self._error(
                f"IExecutionContext::setInputShape: Error Code 3: {name} is no input"
            )
        given, wanted = tuple(shape), self._engine._inputs[name]["shape"]
        profile = self._engine._header["profiles"][0].get(name)
        fixed = {axis: size for axis, size in enumerate(wanted) if size != -1}
        if len(given) != len(wanted) or any(given[axis] != fixed[axis] for axis in fixed):
            return self._error(
                "IExecutionContext::setInputShape: Error Code 3: API Usage Error (Parameter check"
                f" failed, condition: engineDims.d[i] == dims.d[i]. Static dimension mismatch"
                f" while setting input shape for {name}. Set dimensions are {list(given)}."
                f" Expected dimensions are {list(wanted)}.)"
            )
        least, most = (profile or {}).get("min", given), (profile or {}).get("max", given)
        if any(not least[axis] <= size <= most[axis] for axis, size in enumerate(given)):
            return self._error(
                "IExecutionContext::setInputShape: Error Code 3: API Usage Error (Parameter check"
                f" failed, condition: satisfyProfile. Set dimension {list(given)} for tensor {name}"
                " does not satisfy any optimization profiles.)"
            )
        if self._shapes.get(name) != given:
            self._ready = False
        self._shapes[name] = given
        return True

    def infer_shapes(self) -> list[str]:
        """The inputs whose shapes are not known yet."""
        return [name for name in self._engine._inputs if name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._engine._inputs:
            return self._shapes.get(name, tuple(self._engine._inputs[name]["shape"]))
        shape = tuple(self._engine._outputs[name]["shape"])
        if all(size >= 0 for size in shape) or self.infer_shapes():
            return shape
        return self._engine._output_shapes(self._shapes)[name]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in {**self._engine._inputs, **self._engine._outputs}:
            return self._error(
                f"IExecutionContext::setTensorAddress: Error Code 3: no tensor {name}"
            )
        self._addresses[name] = int(memory)
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Queue one inference; False, with the reason logged, where something is missing."""
        stream_handle = int(stream_handle)
        machine.calls.append(("execute_async_v3", stream_handle))
        call = "IExecutionContext::enqueueV3: Error Code"
        if self.infer_shapes():
            return self._error(f"{call} 7: Internal Error (shapes unknown: {self.infer_shapes()})")
        tensors = {**self._engine._inputs, **self._engine._outputs}
        lacking = [name for name in tensors if not self._addresses.get(name)]
        if lacking:
            return self._error(
                f"{call} 3: API Usage Error (Neither address or allocator is set for tensor"
                f" {lacking[0]}. Call setTensorAddress before enqueue/execute.)"
            )
        try:
            if machine.lost is not None:
                raise Fault(machine.lost)
            machine.planned_fault("execute_async_v3")
            stream = machine.get(stream_handle, Stream) if stream_handle else None
            if stream is not None and stream.device != self._engine._device:
                raise Fault(400)
            if stream is not None and stream.captured is not None and not self._can_be_captured():
                stream.invalid = True
                raise Fault(900)
            machine.enqueue(stream_handle, self._work(dict(self._shapes), dict(self._addresses)))
            self._ready = True
            if self._profiler is not None and self._emits:
                begin = time.perf_counter_ns()
                machine.finish(stream)
                self._report((time.perf_counter_ns() - begin) / 1e6)
        except Fault as fault:
            return self._error(f"{call} 1: Cuda Runtime (cudaError {int(fault.code)})")
        return True

    def _can_be_captured(self) -> bool:
        """A shape's first inference waits for the device, as one with a profiler does."""
        return self._ready and self._profiler is None

    def _work(self, shapes: dict[str, Any], addresses: dict[str, int]) -> Any:
        """What the device does in its turn: read the inputs, compute, write the outputs."""

        def done() -> None:
            feed = {}
            for name, tensor in self._engine._inputs.items():
                dtype = np.dtype(NUMPY[tensor["dtype"]])
                size = int(np.prod(shapes[name], dtype=np.int64)) * dtype.itemsize
                text = ctypes.string_at(reached(addresses[name], size), size)
                feed[name] = np.frombuffer(text, dtype).reshape(shapes[name])
            time.sleep(machine.gpu()["latency_s"])
            for name, value in self._engine._compute(feed).items():
                array = np.ascontiguousarray(value)
                into = reached(addresses[name], array.nbytes)
                ctypes.memmove(into, array.ctypes.data, array.nbytes)

        return done

    def _report(self, total_ms: float) -> None:
        """Tell the profiler of each layer; its share is made up, the sum is the host's clock's."""
        names = [layer["Name"] for layer in self._engine._header["layers"]]
        if self._engine._header["profiling_verbosity"] == "NONE":
            names = [str(place) for place in range(len(names))]
        for name in names if self._reports_layers else ():
            self._profiler.report_layer_time(name, total_ms / len(names))


def reached(address: int, size: int) -> int:
    """The memory behind a device's address, as a kernel reaches it: else the device is lost."""
    try:
        return machine.device_range(address, size)
    except Fault as fault:
        raise Fault(700) from fault
