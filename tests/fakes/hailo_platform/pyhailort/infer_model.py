"""The InferModel interface: a model is set up, configured, and run with buffers bound to it."""

from collections import deque
from datetime import timedelta

import numpy

from hailo_platform.pyhailort import _pyhailort
from hailo_platform.pyhailort._pyhailort import FormatOrder, FormatType
from hailo_platform.pyhailort.errors import ExceptionWrapper, HailoRTException
from hailo_platform.pyhailort.models import HEF
from hailo_platform.standin import engine, hef
from hailo_platform.standin.status import check, fail, standin, wanted, whole


def one_of(streams, name, kind):
    """The stream of that name, or the only one where none is named."""
    if name == "":
        check(len(streams) == 1, "HAILO_INVALID_OPERATION", f"Model has more than one {kind}!")
        return next(iter(streams.values()))
    check(name in streams, "HAILO_NOT_FOUND", f"{kind.capitalize()} {name} not found!")
    return streams[name]


class AsyncInferCompletionInfo:
    """What a callback is given: the exception of a job that failed, or None."""

    def __init__(self, exception):
        self._exception = exception

    @property
    def exception(self):
        return self._exception


class AsyncInferJob:
    """Inferences under way. Waiting tells the end, not the success: that is the callback's."""

    def __init__(self, job):
        self._job = job

    def wait(self, timeout_ms):
        with ExceptionWrapper():
            timeout = timedelta(milliseconds=timeout_ms)
            for event in (self._job.computed, self._job.called):
                check(
                    event.wait(timeout.total_seconds()),
                    "HAILO_TIMEOUT",
                    f"Waiting for async job to finish has failed with timeout ({timeout_ms}ms)",
                )


class Stream:
    """One input or output of an InferModel, in the format the host wants."""

    def __init__(self, one):
        self._one = one
        kind = FormatType[one.dtype.upper()]
        self._format = _pyhailort.HailoFormat(kind, FormatOrder[one.order])

    @property
    def name(self):
        return self._one.name

    @property
    def shape(self):
        return list(hef.host_shape(self._one))

    @property
    def format(self):
        return self._format

    @property
    def quant_infos(self):
        return [_pyhailort.quant_info(self._one)]

    @property
    def is_nms(self):
        return False

    def set_format_type(self, type):  # the name is the real one's
        with ExceptionWrapper():
            wanted(type, FormatType, "set_format_type")
            native = FormatType[self._one.dtype.upper()]
            self._format.type = native if type is FormatType.AUTO else type

    def set_format_order(self, order):
        with ExceptionWrapper():
            wanted(order, FormatOrder, "set_format_order")
            if order.name not in ("AUTO", self._one.order):
                standin(f"it knows no order but {self._one.order} for {self.name!r}")

    @property
    def dtype(self):
        """Not in the real package: for this module only."""
        return _pyhailort.get_dtype(self._format.type)


class InferModel:
    """A model in a virtual device, to be set up and then configured."""

    InferStream = Stream

    def __init__(self, inner, shared, hef_source):
        self._inner = inner
        self._shared = shared
        self._hef_source = hef_source
        self._hef = None
        self._batch_size = 0
        self._inputs = {one.name: Stream(one) for one in inner.inputs}
        self._outputs = {one.name: Stream(one) for one in inner.outputs}

    @property
    def hef(self):
        if self._hef is None:
            self._hef = HEF(self._hef_source)
        return self._hef

    def set_batch_size(self, batch_size):
        with ExceptionWrapper():
            whole(batch_size, 65535, "set_batch_size")
            self._batch_size = batch_size

    def set_power_mode(self, power_mode):
        with ExceptionWrapper():
            wanted(power_mode, _pyhailort.PowerMode, "set_power_mode")

    def configure(self):
        with ExceptionWrapper():
            if self._shared.released:
                fail("HAILO_INVALID_OPERATION", "stand-in: the VDevice was released")
            hef.check_chip(self._inner, self._shared.chip)
            most = self._shared.chip.queue_size
            check(
                self._batch_size <= most,
                "HAILO_INVALID_OPERATION",
                f"Trying to configure a model with a batch={self._batch_size} bigger than"
                f" internal_queue_size={most}, which is not supported. Try using a smaller batch.",
            )
            made = engine.Engine(self._inner, self._shared)
            return ConfiguredInferModel(made, self)

    @property
    def input_names(self):
        return list(self._inputs)

    @property
    def output_names(self):
        return list(self._outputs)

    @property
    def inputs(self):
        return list(self._inputs.values())

    @property
    def outputs(self):
        return list(self._outputs.values())

    def input(self, name=""):
        with ExceptionWrapper():
            return one_of(self._inputs, name, "input")

    def output(self, name=""):
        with ExceptionWrapper():
            return one_of(self._outputs, name, "output")


class BoundStream:
    """One input or output of a request, and its buffer."""

    def __init__(self, one, dtype):
        self._one = one
        self._dtype = dtype
        self._buffer = None

    def set_buffer(self, buffer):
        """Bind a C-contiguous, writable array of the stream's shape and the format's dtype.

        The real library takes any bytes of the right size; the stand-in refuses what they cannot
        mean. A wrong size is refused when the request is launched, there as here.
        """
        with ExceptionWrapper():
            if not buffer.flags.c_contiguous:
                message = "Buffer must be C_CONTIGUOUS"
                raise HailoRTException(message)
            if not buffer.flags.writeable:
                message = "array is not writeable"
                raise ValueError(message)
            shape = hef.host_shape(self._one)
            size = hef.elements(self._one) * numpy.dtype(self._dtype).itemsize
            name = self._one.name
            if buffer.nbytes == size and str(buffer.dtype) != self._dtype:
                standin(f"buffer of {name!r} is {buffer.dtype}, its format type {self._dtype}")
            if buffer.nbytes == size and long_axes(buffer.shape) != long_axes(shape):
                standin(f"buffer of {name!r} is {buffer.shape}, the stream's shape {shape}")
        self._buffer = buffer

    def get_buffer(self, tf_format=False):
        return self._buffer


def long_axes(shape):
    """The axes longer than 1, which tell (H, W, C) from (C, H, W) whatever batch axis there is."""
    return [size for size in shape if size != 1]


class Bindings:
    """The buffers of one frame."""

    InferStream = BoundStream

    def __init__(self, model, formats):
        self._inputs = {one.name: BoundStream(one, formats[one.name]) for one in model.inputs}
        self._outputs = {one.name: BoundStream(one, formats[one.name]) for one in model.outputs}

    def input(self, name=""):
        with ExceptionWrapper():
            return one_of(self._inputs, name, "input")

    def output(self, name=""):
        with ExceptionWrapper():
            return one_of(self._outputs, name, "output")


class ConfiguredInferModel:
    """A model in the chip. Formats are those set when it was configured."""

    Bindings = Bindings

    def __init__(self, made, model):
        self._configured_infer_model = made
        self._formats = {one.name: one.dtype for one in (*model.inputs, *model.outputs)}
        self._buffer_guards = deque()

    def __enter__(self):
        return self

    def __exit__(self, *args):
        made = self._configured_infer_model
        # as in the real package: from now on every call is one on None
        self._configured_infer_model = None
        if made is not None:
            made.shutdown()

    def activate(self):
        with ExceptionWrapper():
            made = self._configured_infer_model
            made.shared.activate(made)

    def deactivate(self):
        with ExceptionWrapper():
            made = self._configured_infer_model
            made.shared.deactivate(made)

    def create_bindings(self, input_buffers=None, output_buffers=None):
        with ExceptionWrapper():
            bindings = Bindings(self._configured_infer_model.hef, self._formats)
        for name, buffer in (input_buffers or {}).items():
            bindings.input(name).set_buffer(buffer)
        for name, buffer in (output_buffers or {}).items():
            bindings.output(name).set_buffer(buffer)
        return bindings

    def wait_for_async_ready(self, timeout_ms=1000, frames_count=1):
        with ExceptionWrapper():
            timeout = timedelta(milliseconds=timeout_ms)
            self._configured_infer_model.wait_ready(timeout.total_seconds(), frames_count)

    def run(self, bindings, timeout):
        with ExceptionWrapper():
            job = self.run_async(bindings)
            job.wait(timeout)

    def run_async(self, bindings, callback=None):
        """Launch one frame a binding; the callback is given `completion_info` by keyword."""
        made = self._configured_infer_model

        def call(status):
            error = ExceptionWrapper.create_exception_from_status(status) if status else None
            if callback:
                callback(completion_info=AsyncInferCompletionInfo(error))
            self._buffer_guards.popleft()

        with ExceptionWrapper():
            frames = [self._frame(made.hef, binding) for binding in bindings]
            self._buffer_guards.append(frames)
            try:
                job = made.submit(frames, call)
            except Exception:
                self._buffer_guards.pop()
                raise
            return AsyncInferJob(job)

    def set_scheduler_timeout(self, timeout_ms):
        with ExceptionWrapper():
            timedelta(milliseconds=timeout_ms)
            self._scheduled("timeout")

    def set_scheduler_threshold(self, threshold):
        with ExceptionWrapper():
            whole(threshold, _pyhailort.MOST_32, "set_scheduler_threshold")
            self._scheduled("threshold")

    def set_scheduler_priority(self, priority):
        with ExceptionWrapper():
            whole(priority, 255, "set_scheduler_priority")
            check(priority <= 31, "HAILO_INVALID_ARGUMENT", "priority is greater than 31")
            self._scheduled("priority")

    def get_async_queue_size(self):
        with ExceptionWrapper():
            return self._configured_infer_model.queue_size

    def shutdown(self):
        with ExceptionWrapper():
            self._configured_infer_model.shutdown()

    def _scheduled(self, what):
        check(
            self._configured_infer_model.shared.scheduled,
            "HAILO_INVALID_OPERATION",
            f"Cannot set scheduler {what}, as the core op is not scheduled",
        )

    def _frame(self, model, binding):
        inputs = {one.name: binding.input(one.name).get_buffer() for one in model.inputs}
        outputs = {one.name: binding.output(one.name).get_buffer() for one in model.outputs}
        engine.check_sizes(
            model,
            {name: (array, self._formats[name]) for name, array in inputs.items()},
            {name: (array, self._formats[name]) for name, array in outputs.items()},
        )
        return inputs, outputs
