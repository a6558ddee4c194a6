"""The blocking interface: a network group in the device, its streams, and inference over them."""

import time

import numpy

from hailo_platform.pyhailort import _pyhailort
from hailo_platform.pyhailort._pyhailort import FormatOrder, FormatType
from hailo_platform.pyhailort.errors import ExceptionWrapper, HailoRTException
from hailo_platform.pyhailort.models import infos_of
from hailo_platform.standin.hef import elements, host_shape
from hailo_platform.standin.status import check, fail, log, standin, wanted, whole

DEFAULT_VSTREAM_TIMEOUT_MS = 10000
DEFAULT_VSTREAM_QUEUE_SIZE = 2


class ConfiguredNetwork:
    """A network group in the device."""

    def __init__(self, engine):
        self._engine = engine

    @property
    def name(self):
        return self._engine.hef.name

    def get_networks_names(self):
        return [self._engine.hef.network]

    def get_input_vstream_infos(self, network_name=None):
        return infos_of(self._engine.hef.inputs, self._engine.hef.network, "H2D")

    def get_output_vstream_infos(self, network_name=None):
        return infos_of(self._engine.hef.outputs, self._engine.hef.network, "D2H")

    def get_all_vstream_infos(self, network_name=None):
        return self.get_input_vstream_infos() + self.get_output_vstream_infos()

    def get_sorted_output_names(self):
        return [one.name for one in self._engine.hef.outputs]

    @staticmethod
    def create_params():
        return _pyhailort.ActivateNetworkGroupParams.default()

    def activate(self, network_group_params=None):
        """A context in which the group has the chip; under a scheduler it does nothing."""
        if self._engine.shared.scheduled:
            log(
                "warning",
                "Calls to `activate()` when working with scheduler are deprecated!"
                " On future versions this call will raise an error.",
                "PyHailoRT",
            )
            return Activation(None)
        with ExceptionWrapper():
            params = network_group_params or self.create_params()
            wanted(params, _pyhailort.ActivateNetworkGroupParams, "activate")
        return Activation(self._engine)

    def set_scheduler_timeout(self, timeout_ms, network_name=None):
        whole(timeout_ms, _pyhailort.MOST_32, "set_scheduler_timeout")
        self._scheduled("timeout")

    def set_scheduler_threshold(self, threshold):
        whole(threshold, _pyhailort.MOST_32, "set_scheduler_threshold")
        self._scheduled("threshold")

    def set_scheduler_priority(self, priority):
        whole(priority, 31, "set_scheduler_priority")
        self._scheduled("priority")

    def _scheduled(self, what):
        check(
            self._engine.shared.scheduled,
            "HAILO_INVALID_OPERATION",
            f"Cannot set scheduler {what}, as the core op is not scheduled",
        )


class Activation:
    """The context of `activate`."""

    def __init__(self, engine):
        self._engine = engine

    def __enter__(self):
        if self._engine is None:
            return None
        with ExceptionWrapper():
            self._engine.shared.activate(self._engine)
        return self

    def __exit__(self, *args):
        if self._engine is not None:
            self._engine.shared.deactivate(self._engine)

    @property
    def name(self):
        return self._engine.hef.name

    def get_number_of_invalid_frames(self, clear=True):
        return 0

    def validate_all_frames_are_valid(self):
        """None is ever invalid."""


def stream_params(streams, format_type, timeout_ms, queue_size):
    """The params of each stream by its name."""
    with ExceptionWrapper():
        kind = FormatType.AUTO if format_type is None else format_type
        wanted(kind, FormatType, "make_vstream_params")
        timeout = DEFAULT_VSTREAM_TIMEOUT_MS if timeout_ms is None else timeout_ms
        size = DEFAULT_VSTREAM_QUEUE_SIZE if queue_size is None else queue_size
        whole(timeout, _pyhailort.MOST_32, "make_vstream_params")
        whole(size, _pyhailort.MOST_32, "make_vstream_params")
        return {
            one.name: _pyhailort.VStreamParams(
                user_buffer_format=_pyhailort.HailoFormat(kind, FormatOrder.AUTO),
                timeout_ms=timeout,
                queue_size=size,
            )
            for one in streams
        }


class InputVStreamParams:
    """Params of the streams to the device."""

    @staticmethod
    def make(
        configured_network,
        quantized=None,
        format_type=None,
        timeout_ms=None,
        queue_size=None,
        *,
        network_name=None,
    ):
        streams = configured_network._engine.hef.inputs
        return stream_params(streams, format_type, timeout_ms, queue_size)

    make_from_network_group = make


class OutputVStreamParams:
    """Params of the streams from the device."""

    @staticmethod
    def make(
        configured_network,
        quantized=None,
        format_type=None,
        timeout_ms=None,
        queue_size=None,
        *,
        network_name=None,
    ):
        streams = configured_network._engine.hef.outputs
        return stream_params(streams, format_type, timeout_ms, queue_size)

    make_from_network_group = make


class InferVStreams:
    """Blocking inference; to be entered, and the group to be activated where none schedules."""

    def __init__(
        self,
        configured_net_group,
        input_vstreams_params,
        output_vstreams_params,
        tf_nms_format=False,
    ):
        self._group = configured_net_group
        self._engine = configured_net_group._engine
        self._params = {**input_vstreams_params, **output_vstreams_params}
        self._wanted = (set(input_vstreams_params), set(output_vstreams_params))
        self._infer_pipeline = None
        self._total_time = None
        self._hw_time = None

    def __enter__(self):
        model = self._engine.hef
        streams = ((model.inputs, "inputs"), (model.outputs, "outputs"))
        for place, (ones, kind) in enumerate(streams):
            names = {one.name for one in ones}
            check(
                self._wanted[place] == names,
                "HAILO_INVALID_ARGUMENT",
                f"Found only partial {kind} for network {model.network}",
            )
        self._infer_pipeline = self._engine
        return self

    def __exit__(self, *args):
        self._infer_pipeline = None
        return False

    def infer(self, input_data):
        """Arrays (N, H, W, C) by input name to arrays (N, …) by output name."""
        began = time.perf_counter()
        model = self._engine.hef
        if not isinstance(input_data, dict):
            if len(model.inputs) != 1:
                message = (
                    "when there is more than one input, the input_data should be of type dict,"
                    " mapping between each input_name, and his input_data tensor."
                    f" number of inputs: {len(model.inputs)}"
                )
                raise HailoRTException(message)
            input_data = {model.inputs[0].name: input_data}
        frames = frames_of(input_data)
        for name in input_data:
            input_data[name] = self._prepared(name, input_data[name])
        with ExceptionWrapper():
            launched = time.perf_counter()
            outputs = self._computed(input_data, frames)
            self._hw_time = time.perf_counter() - launched
        self._total_time = time.perf_counter() - began
        return outputs

    def get_hw_time(self):
        return self._hw_time

    def get_total_time(self):
        return self._total_time

    def _dtype(self, one):
        kind = self._params[one.name].user_buffer_format.type
        return one.dtype if kind is FormatType.AUTO else _pyhailort.get_dtype(kind)

    def _prepared(self, name, array):
        with ExceptionWrapper():
            ones = [one for one in self._infer_pipeline.hef.inputs if one.name == name]
            check(ones, "HAILO_NOT_FOUND", f"Input {name} not found!")
            dtype = self._dtype(ones[0])
        if str(array.dtype) != dtype:
            log(
                "warning",
                f"Given input data dtype ({array.dtype}) is different than inferred dtype"
                f" ({dtype}). conversion for every frame will reduce performance",
                "PyHailoRT",
            )
            array = array.astype(dtype)
        if not array.flags.c_contiguous:
            log("warning", f"Converting {name} numpy array to be C_CONTIGUOUS", "PyHailoRT")
            array = numpy.asarray(array, order="C")
        return array

    def _computed(self, arrays, frames):
        engine, model = self._infer_pipeline, self._infer_pipeline.hef
        engine.usable()
        check(
            set(arrays) == {one.name for one in model.inputs},
            "HAILO_INVALID_ARGUMENT",
            f"Not all inputs have been provided for network {model.network}",
        )
        for one in model.inputs:
            array = arrays[one.name]
            size = frames * elements(one) * array.itemsize
            check(
                array.nbytes == size,
                "HAILO_INVALID_ARGUMENT",
                f"Memory size of vstream {one.name} does not match the frame count!"
                f" (Expected {size}, got {array.nbytes})",
            )
            if tuple(array.shape[1:]) != host_shape(one):
                standin(f"{one.name!r} is {array.shape}, its frames {host_shape(one)}")
        if not engine.shared.scheduled and engine.shared.active is not engine:
            fail(
                "HAILO_NETWORK_GROUP_NOT_ACTIVATED",
                "Trying to write to vstream before its network group is activated",
            )
        formats = {one.name: self._dtype(one) for one in model.outputs}
        found = [
            engine.compute({name: array[place] for name, array in arrays.items()}, formats)
            for place in range(frames)
        ]
        return {
            one.name: numpy.stack([values[one.name] for values in found]).reshape(
                frames, *host_shape(one)
            )
            for one in model.outputs
        }


def frames_of(arrays):
    """How many frames all inputs have."""
    if not arrays:
        message = "Input_data can't be empty"
        raise ValueError(message)
    first = next(iter(arrays.values())).shape[0]
    for array in arrays.values():
        if array.shape[0] != first:
            message = (
                "The number of frames on all input_tensors should be equal!"
                f" different sizes detected: {first} != {array.shape[0]}"
            )
            raise ValueError(message)
    return first
