"""The builder: refuses what the real one does, and writes engines that nothing was timed for."""

from __future__ import annotations

from typing import Any

from tensorrt import plan
from tensorrt.config import IBuilderConfig, IBuilderConfigOfMajor
from tensorrt.engine_file import write
from tensorrt.enums import OLD, BuilderFlag, MemoryPoolType
from tensorrt.host import MAJOR, VERSION, capability, gpu
from tensorrt.log import ILogger, emit
from tensorrt.memory import IHostMemory
from tensorrt.network import INetworkDefinition
from tensorrt.profile import IOptimizationProfile
from tensorrt.strict import Bound, arguments, need_driver

ENDS = ("min", "opt", "max")
PRECISIONS = ("FP16", "BF16", "INT8", "FP8", "INT4") if OLD else ()
# ONNX type -> its name, the least compute capability with it
NEEDS = {16: ("BF16", (8, 0)), 17: ("FP8", (8, 9))}


class Refused(Exception):
    """What the builder logs in the place of an engine."""


class Builder(Bound):
    """Makes networks, configurations and engines on the GPU that is here."""

    max_threads = 1
    error_recorder = None

    def __init__(self, logger: ILogger) -> None:
        need_driver(logger, gpu())
        self._logger = logger

    logger = property(lambda self: self._logger)
    num_DLA_cores = property(lambda _: 0)

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        arguments("create_network", (flags, int))
        return INetworkDefinition(self, int(flags))

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfigOfMajor(self._logger)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile(self._logger)

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        arguments(
            "build_serialized_network", (network, INetworkDefinition), (config, IBuilderConfig)
        )
        here = gpu()
        try:
            if here is None:
                text = "Error Code 1: Cuda Runtime (no CUDA-capable device is detected)"
                raise Refused(text)
            return self._built(network, config, here)
        except Refused as fault:
            emit(self._logger, "ERROR", f"IBuilder::buildSerializedNetwork: {fault}")
            return None

    def _built(
        self, network: INetworkDefinition, config: IBuilderConfig, here: dict[str, Any]
    ) -> IHostMemory:
        check_network(network, config)
        profiles = checked_profiles(network, config)
        check_platform(network, config, here)
        layers = plan.layers(network._model)
        self._tell(network, config, layers)
        weights = plan.weights_bytes(network._model)
        header = {
            "standin": True,
            "version": VERSION,
            "gpu": here["name"],
            "compute_capability": here["compute_capability"],
            "hardware_compatibility": config.hardware_compatibility_level.name,
            "version_compatible": config.get_flag(BuilderFlag.VERSION_COMPATIBLE),
            "strongly_typed": network._strongly_typed,
            "name": network.name,
            "flags": sorted(flag.name for flag in BuilderFlag if config.get_flag(flag)),
            "workspace_bytes": config.get_memory_pool_limit(MemoryPoolType.WORKSPACE),
            "optimization_level": config.builder_optimization_level,
            "profiling_verbosity": plan.verbosity(config),
            "inputs": [told(each) for each in network._inputs],
            "outputs": [told(each) for each in network._outputs],
            "profiles": profiles,
            "layers": layers,
            "device_memory_bytes": plan.largest(network._model)[1],
            "weights_bytes": weights,
        }
        return IHostMemory(write(header, network._bytes))

    def _tell(
        self, network: INetworkDefinition, config: IBuilderConfig, layers: list[dict[str, Any]]
    ) -> None:
        cache, here = config.get_timing_cache(), "Local"
        if cache is not None:
            here = "Global"
            cache._keys.extend(row["Name"] for row in layers if row["Name"] not in cache._keys)
        stored = "will" if cache is not None else "will not"
        counts = f"{network.num_inputs} inputs and {network.num_outputs} output"
        rows = [
            f"{here} timing cache in use. Profiling results in this builder pass {stored} be"
            " stored.",
            f"Detected {counts} network tensors.",
            f"Total Activation Memory: {plan.largest(network._model)[1]} bytes",
            f"Total Weights Memory: {plan.weights_bytes(network._model)} bytes",
        ]
        if config.get_flag(BuilderFlag.SPARSE_WEIGHTS):
            rows.append("(Sparsity) Layers that can be sparse are chosen among by the weights")
        for row in rows:
            emit(self._logger, "INFO", row)
        lines = [
            f"Layer({row['LayerType']}): {row['Name']}, Tactic: 0x0000000000000000, "
            for row in layers
        ]
        emit(self._logger, "VERBOSE", "\n".join(["Engine Layer Information:", *lines]))


class Builder10(Builder):
    """What 11 has no more."""

    platform_has_tf32 = property(
        lambda _: capability((gpu() or {})["compute_capability"]) >= (8, 0)
    )
    platform_has_fast_fp16 = property(lambda _: True)
    platform_has_fast_int8 = property(lambda _: True)


BuilderOfMajor = Builder10 if OLD else Builder
BuilderOfMajor.__name__ = "Builder"


def told(tensor: Any) -> dict[str, Any]:
    """A network's end as the engine's header tells it."""
    return {"name": tensor.name, "dtype": tensor.dtype.name, "shape": list(tensor.shape)}


def check_network(network: INetworkDefinition, config: IBuilderConfig) -> None:
    """Refuse an empty network, and flags that a strongly typed one does not take."""
    if not network.num_outputs:
        text = "Error Code 4: API Usage Error (Network must have at least one output. )"
        raise Refused(text)
    for name in PRECISIONS:
        if network._strongly_typed and config.get_flag(BuilderFlag[name]):
            text = (
                "Error Code 3: API Usage Error (Parameter check failed, condition:"
                f" !config.getFlag(BuilderFlag::k{name}). )"
            )
            raise Refused(text)
    if OLD and config.int8_calibrator is not None and network._strongly_typed:
        text = (
            "Error Code 3: API Usage Error (Parameter check failed, condition:"
            " !config.getInt8Calibrator(). )"
        )
        raise Refused(text)


def checked_profiles(network: INetworkDefinition, config: IBuilderConfig) -> list[dict[str, Any]]:
    """The profiles of all inputs, static ones too; refuses those that the network does not fit."""
    dynamic = [each for each in network._inputs if -1 in each.shape]
    if dynamic and not config._profiles:
        text = (
            "Error Code 4: API Usage Error (Network has dynamic or shape inputs, but no"
            " optimization profile has been defined. )"
        )
        raise Refused(text)
    found = []
    for number, profile in enumerate(config._profiles or [IOptimizationProfile(None)]):
        row = {}
        for each in network._inputs:
            shapes = profile._shapes.get(each.name)
            if shapes is None and -1 in each.shape:
                text = (
                    f"Error Code 4: API Usage Error (Dynamic input tensor {each.name} is missing"
                    f" dimensions in profile {number}. )"
                )
                raise Refused(text)
            shapes = shapes or {end: list(each.shape) for end in ENDS}
            check_shapes(each, shapes, number)
            row[each.name] = shapes
        found.append(row)
    return found


def check_shapes(tensor: Any, shapes: dict[str, list[int]], number: int) -> None:
    """Refuse a profile whose sizes are not the input's own where these are fixed."""
    for axis, size in enumerate(tensor.shape):
        low, likely, high = (
            shapes[key][axis] if axis < len(shapes[key]) else 0 for key in ("min", "opt", "max")
        )
        if size != -1 and (low, likely, high) != (size, size, size):
            text = (
                f"Error Code 4: API Usage Error (Dimension mismatch for tensor {tensor.name} and"
                f" profile {number}. At dimension axis {axis}, profile has min={low}, opt={likely},"
                f" max={high} but tensor has {size}. )"
            )
            raise Refused(text)


def check_platform(
    network: INetworkDefinition, config: IBuilderConfig, here: dict[str, Any]
) -> None:
    """Refuse what this GPU, its memory or the installed libraries cannot do."""
    model = network._model
    found = capability(here["compute_capability"])
    for kind in sorted(plan.types(model)):
        if kind in NEEDS and found < NEEDS[kind][1]:
            name = NEEDS[kind][0]
            text = (
                f"Error Code 9: API Usage Error (Networks with {name} precision require hardware"
                f" with {name} support. )"
            )
            raise Refused(text)
    if config.hardware_compatibility_level.name != "NONE" and here["integrated"]:
        text = (
            "Error Code 9: API Usage Error (Hardware compatibility mode is not supported on this"
            " platform. )"
        )
        raise Refused(text)
    if config.get_flag(BuilderFlag.VERSION_COMPATIBLE) and not here["lean_library"]:
        library = f"libnvinfer_lean.so.{MAJOR}"
        text = (
            f"Error Code 6: API Usage Error (Unable to load library: {library}: {library}: cannot"
            " open shared object file: No such file or directory )"
        )
        raise Refused(text)
    node, need = plan.largest(model)
    if need > config.get_memory_pool_limit(MemoryPoolType.WORKSPACE):
        text = (
            f"Error Code 10: Internal Error (Could not find any implementation for node {node}. )"
        )
        raise Refused(text)
    wanted = plan.weights_bytes(model) + need
    if wanted > here["free_bytes"]:
        emit(
            network.builder.logger,
            "WARNING",
            f"Requested amount of GPU memory ({wanted} bytes) could not be allocated. There may not"
            " be enough free memory for allocation to succeed.",
        )
        text = f"Error Code 2: OutOfMemory (Requested size was {wanted} bytes.)"
        raise Refused(text)
