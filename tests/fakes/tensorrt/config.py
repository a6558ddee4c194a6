"""The builder's configuration: flags, pools, profiles, cache, level."""

from __future__ import annotations

from typing import Any

from tensorrt.cache import ITimingCache, fresh, opened
from tensorrt.enums import (
    OLD,
    BuilderFlag,
    DeviceType,
    EngineCapability,
    HardwareCompatibilityLevel,
    MemoryPoolType,
    PreviewFeature,
    ProfilingVerbosity,
    QuantizationFlag,
    RuntimePlatform,
    TilingOptimizationLevel,
)
from tensorrt.host import gpu
from tensorrt.log import emit
from tensorrt.profile import IOptimizationProfile
from tensorrt.strict import Bound, arguments

TOP_LEVEL = 5


class IBuilderConfig(Bound):
    """What both majors have; `IBuilderConfig10` has the rest of the older one."""

    profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
    engine_capability = EngineCapability.STANDARD
    default_device_type = DeviceType.GPU
    runtime_platform = RuntimePlatform.SAME_AS_BUILD
    avg_timing_iterations = 1
    max_aux_streams = -1
    progress_monitor = None
    profile_stream = 0
    hardware_compatibility_level = HardwareCompatibilityLevel.NONE

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._flags = 1 << int(BuilderFlag.TF32)
        self._level = 3
        self._pools: dict[Any, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._cache: ITimingCache | None = None
        self._previews: set[Any] = set()

    flags = property(
        lambda self: self._flags, lambda self, value: setattr(self, "_flags", int(value))
    )
    num_optimization_profiles = property(lambda self: len(self._profiles))

    def set_flag(self, flag: Any) -> None:
        arguments("set_flag", (flag, BuilderFlag))
        self._flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        arguments("clear_flag", (flag, BuilderFlag))
        self._flags &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        arguments("get_flag", (flag, BuilderFlag))
        return bool(self._flags >> int(flag) & 1)

    @property
    def builder_optimization_level(self) -> int:
        return self._level

    @builder_optimization_level.setter
    def builder_optimization_level(self, value: int) -> None:
        arguments("builder_optimization_level", (value, int))
        self._level = min(int(value), TOP_LEVEL)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        arguments("set_memory_pool_limit", (pool, MemoryPoolType), (pool_size, int))
        if pool_size < 0:
            msg = "set_memory_pool_limit(): incompatible function arguments."
            raise TypeError(msg)
        self._pools[pool] = int(pool_size)

    def get_memory_pool_limit(self, pool: Any) -> int:
        arguments("get_memory_pool_limit", (pool, MemoryPoolType))
        whole = (gpu() or {}).get("memory_bytes", 0)
        return self._pools.get(pool, whole if pool is MemoryPoolType.WORKSPACE else 0)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        arguments("add_optimization_profile", (profile, IOptimizationProfile))
        if not profile:
            text = (
                "IBuilderConfig::addOptimizationProfile: Error Code 3: API Usage Error (Parameter"
                " check failed, condition: profile->isValid(). )"
            )
            emit(self._logger, "ERROR", text)
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        found = opened(bytes(serialized_timing_cache))
        if found is not None:
            return found
        for text in (
            "The timing cache will not be used!",
            "Failed to deserialize timing cache. Returning an empty timing cache.",
        ):
            emit(self._logger, "WARNING", text)
        return ITimingCache(fresh())

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        arguments("set_timing_cache", (cache, ITimingCache))
        if not ignore_mismatch and cache.device != ITimingCache(fresh()).device:
            text = "Timing cache was made on another device or by another version: not taken"
            emit(self._logger, "WARNING", text)
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        arguments("set_preview_feature", (feature, PreviewFeature))
        (self._previews.add if enable else self._previews.discard)(feature)

    def get_preview_feature(self, feature: Any) -> bool:
        return feature in self._previews

    def reset(self) -> None:
        self.__init__(self._logger)


class IBuilderConfig10(IBuilderConfig):
    """What 11 has no more: calibrators and what belongs to them."""

    int8_calibrator = None
    algorithm_selector = None
    quantization_flags = 0

    def set_quantization_flag(self, flag: Any) -> None:
        arguments("set_quantization_flag", (flag, QuantizationFlag))
        self.quantization_flags |= 1 << int(flag)

    def set_calibration_profile(self, profile: IOptimizationProfile) -> bool:
        arguments("set_calibration_profile", (profile, IOptimizationProfile))
        return True


class IBuilderConfig11(IBuilderConfig):
    """What 10.3 does not have yet."""

    max_num_tactics = -1
    tiling_optimization_level = TilingOptimizationLevel.NONE
    l2_limit_for_tiling = 0


IBuilderConfigOfMajor = IBuilderConfig10 if OLD else IBuilderConfig11
IBuilderConfigOfMajor.__name__ = "IBuilderConfig"
