"""One configured model on the made-up chip: a queue of frames, ONNX Runtime behind it."""

import os
import threading
import time
import traceback
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy

from hailo_platform.standin.chip import machine
from hailo_platform.standin.hef import elements
from hailo_platform.standin.status import CODES, NAMES, check, fail, log

SHUTDOWN_S = 10.0


def session_of(model):
    """An ONNX Runtime session of these bytes: one thread, nothing optimised, so always the same."""
    try:
        import onnxruntime
    except ImportError as error:
        message = (
            "this hailo_platform is a stand-in and computes with onnxruntime, which cannot be"
            " imported here: install it beside the stand-in"
        )
        raise ImportError(message) from error
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.inter_op_num_threads = 1
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def to_chip(one, array):
    """A host array as the model of the HEF takes it: float32 (1, H, W, C), raw as on the wire."""
    values = numpy.asarray(array).astype(numpy.float32)
    if array.dtype != numpy.float32 and one.scale is not None:
        values = (values - one.zero_point) * one.scale
    return values.reshape(1, *one.shape)


def to_host(one, values, dtype):
    """The model's output in the host's format: dequantized, or quantized as on the chip."""
    flat = values.reshape(-1)
    if dtype == "float32":
        return flat.astype(numpy.float32)
    if one.scale is None:
        fail(
            "HAILO_INVALID_OPERATION",
            f"stand-in: the HEF says no quantization of {one.name!r}: ask for FLOAT32",
        )
    most = numpy.iinfo(dtype).max
    return numpy.clip(numpy.rint(flat / one.scale + one.zero_point), 0, most).astype(dtype)


class Shared:
    """What all models on one virtual device share: its chip, and whose turn it is."""

    def __init__(self, chip, scheduled):
        self.chip = chip
        self.scheduled = scheduled
        self.turn = threading.Lock()
        self.active = None
        self.released = False

    def state(self):
        """The chip as the state file has it now."""
        return next(one for one in machine().devices if one.id == self.chip.id)

    def activate(self, who):
        """Give the chip to one model; refused under a scheduler or while another has it."""
        check(
            not self.scheduled,
            "HAILO_INVALID_OPERATION",
            "Manually activate a core-op is not allowed when the core-op scheduler is active!",
        )
        check(
            self.active is None,
            "HAILO_INVALID_OPERATION",
            "Cant activate network because a network is already activated",
        )
        self.active = who

    def deactivate(self, who):
        """Take the chip back from that model."""
        if self.active is who:
            self.active = None


class Engine:
    """A model in the chip: `submit` queues frames, one after the other is computed."""

    def __init__(self, hef, shared):
        self.hef = hef
        self.shared = shared
        self.queue_size = shared.chip.queue_size
        self.status = 0
        self._session = session_of(hef.model)
        self._pending = deque()
        self._change = threading.Condition()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="hailo-standin")
        self._caller = ThreadPoolExecutor(1, thread_name_prefix="hailo-standin-callback")

    def compute(self, inputs, formats):
        """One frame: arrays by stream name in, flat arrays in the host's formats out."""
        feed = {one.onnx: to_chip(one, inputs[one.name]) for one in self.hef.inputs}
        names = [one.onnx for one in self.hef.outputs]
        with self.shared.turn:
            values = self._session.run(names, feed)
            if self.shared.chip.latency_s:
                time.sleep(self.shared.chip.latency_s)
        return {
            one.name: to_host(one, values[place], formats[one.name])
            for place, one in enumerate(self.hef.outputs)
        }

    def wait_ready(self, timeout_s, frames):
        """Wait until so many more frames fit into the queue; raises the status of a timeout."""
        with self._change:
            ready = self._change.wait_for(
                lambda: self.status or len(self._pending) + frames <= self.queue_size, timeout_s
            )
        self.usable()
        check(
            ready,
            "HAILO_TIMEOUT",
            f"Got timeout in `wait_for_async_ready` ({int(timeout_s * 1000)}ms) - the edge"
            f" '{self.hef.inputs[0].name}' could not receive {frames} transfer-requests",
        )

    def usable(self):
        """Refuse once the pipeline failed or was shut down, or the device was released."""
        if self.shared.released:
            fail("HAILO_INVALID_OPERATION", "stand-in: the VDevice of this model was released")
        if self.status:
            name = NAMES[self.status]
            fail(name, f"Can't handle inference request since pipeline status is {name}.")

    def submit(self, frames, callback):
        """Queue [(inputs, outputs)], arrays by stream name; the job is done after the callback."""
        self.usable()
        if not self.shared.scheduled and self.shared.active is not self:
            fail("HAILO_STREAM_NOT_ACTIVATED", f"Stream of {self.hef.name} is not activated")
        job = SimpleNamespace(computed=threading.Event(), called=threading.Event())
        with self._change:
            check(
                len(self._pending) + len(frames) <= self.queue_size,
                "HAILO_QUEUE_IS_FULL",
                "Can't handle infer request since a queue in the pipeline is full.",
            )
            self._pending.extend(frames)
        self._worker.submit(self._work, frames, callback, job)
        return job

    def _work(self, frames, callback, job):
        status = self.status or self.shared.state().infer_status
        try:
            for inputs, outputs in frames if not status else ():
                formats = {name: str(array.dtype) for name, array in outputs.items()}
                for name, values in self.compute(inputs, formats).items():
                    outputs[name].reshape(-1)[:] = values
        except Exception:
            traceback.print_exc()
            status = CODES["HAILO_INTERNAL_FAILURE"]
        with self._change:
            self.status = status
            for _ in frames:
                self._pending.popleft()
            self._change.notify_all()
        job.computed.set()
        self._caller.submit(self._call, callback, status, job)

    def _call(self, callback, status, job):
        try:
            callback(status)
        except BaseException:
            # an exception in a callback ends the process of the real library
            traceback.print_exc()
            os._exit(134)
        job.called.set()

    def shutdown(self):
        """Take no more frames; waits for those under way."""
        with self._change:
            done = self._change.wait_for(lambda: not self._pending, SHUTDOWN_S)
            self.status = self.status or CODES["HAILO_STREAM_ABORT"]
        if not done:
            log("critical", "Could not finish async infer request! status = HAILO_TIMEOUT(4)")
        self.shared.deactivate(self)
        # its last act is to hand the callback on
        self._worker.shutdown(wait=done)
        self._caller.shutdown(wait=False)


def check_sizes(hef, inputs, outputs):
    """Refuse arrays whose bytes are not those of a frame; sizes by stream name are `wanted`."""
    for kind, streams, arrays in (("Input", hef.inputs, inputs), ("Output", hef.outputs, outputs)):
        for one in streams:
            array, dtype = arrays[one.name]
            if array is None:
                side = kind.lower()
                fail("HAILO_NOT_FOUND", f"Couldnt find {side} buffer for '{one.name}'")
            size = elements(one) * numpy.dtype(dtype).itemsize
            check(
                array.nbytes == size,
                "HAILO_INVALID_OPERATION",
                f"{kind} buffer size {array.nbytes} is different than expected {size}"
                f" for {kind.lower()} '{one.name}'",
            )
