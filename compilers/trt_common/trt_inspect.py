"""A finished engine read back: its layers, its device memory. Only where a driver is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trt_card import card

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from trt_log import Log

    Table = dict[str, Any]

READ_BACK = "inspector.json"


def inspected(
    trt: ModuleType, log: Log, data: bytes, kept: Path, *, host_code: bool = False
) -> tuple[Table, str]:
    """What the engine says of itself, and why it says nothing where it does not.

    `kept/inspector.json` is what the library's inspector tells of each layer. An engine that holds
    a runtime of its own, `host_code`, has to be allowed to run it.
    """
    here = card()
    if here.why:
        return {}, here.why
    runtime = trt.Runtime(log.logger)
    if host_code:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        return {}, f"the card here, {here.name} of compute capability {here.capability}, refuses it"
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    (kept / READ_BACK).write_text(text, encoding="utf-8")
    try:
        layers = json.loads(text).get("Layers", [])
    except ValueError:
        layers = []
    found: Table = {"inspected_layers": len(layers) or engine.num_layers}
    memory = getattr(engine, "device_memory_size_v2", None)
    if memory is not None:
        found["device_memory_bytes"] = int(memory)
    return found, ""
