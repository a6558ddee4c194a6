"""Network and options -> the bytes of an engine, with what the log told of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from trt_faults import of_builder
from trt_profiles import profiled

if TYPE_CHECKING:
    from types import ModuleType

    from trt_log import Log
    from trt_parse import Parsed

    Table = dict[str, Any]
    Thing = Any  # of the library, which is an argument: its classes cannot be named


class Engine:
    """A serialized engine: its profiles by input, seconds to build, figures of the log."""

    def __init__(self, data: bytes, profiles: Table, seconds: float, figures: Table) -> None:
        self.data, self.profiles, self.seconds, self.figures = data, profiles, seconds, figures


def configured(trt: ModuleType, builder: Thing, chosen: Table, *, tf32: bool = False) -> Thing:
    """A configuration with what both products know: workspace, optimization level, 2:4 sparsity,
    and layers described in detail, so that they can be told by name later.

    TF32 is the library's default: it rounds the inputs of products to 10 bits of mantissa, which
    is not what float32 promises, so it is taken where it is asked for.
    """
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if chosen["workspace_bytes"]:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, chosen["workspace_bytes"])
    if chosen["optimization_level"] != "default":
        config.builder_optimization_level = chosen["optimization_level"]
    if chosen.get("sparsity"):
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if not tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    return config


def built(builder: Thing, parsed: Parsed, config: Thing, chosen: Table, log: Log) -> Engine:
    """The engine of a parsed network; `config` gets its profiles here.

    Raises `Missing`, `Unsupported` or `BadInput` for what the log explains, else `RuntimeError`.
    """
    profiles = profiled(builder, parsed.network, config, chosen)
    start = time.perf_counter()
    data = builder.build_serialized_network(parsed.network, config)
    seconds = time.perf_counter() - start
    if data is None:
        raise of_builder(log.errors() + log.warnings(), chosen)
    return Engine(bytes(data), profiles, seconds, log.figures())
