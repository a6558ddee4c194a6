"""Model + Target -> the model that its compiler takes: prepared, and quantized where asked."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from edgedeploy.cache import Cached, build
from edgedeploy.compilers import Compilers
from edgedeploy.digest import file_sha256, files_sha256
from edgedeploy.prepare import Prepared, prepare
from edgedeploy.records import Calibration, Model, Target
from edgedeploy.target import compiler_program
from edgedeploy.toolchain import kept, merged_options, tool_parts
from edgedeploy.workload import Workload

FLOATS = ("fp", "bf", "tf")
FP8 = "fp8"


@dataclass
class Ready:
    """A model as a compiler takes it: prepared, and quantized where the target's quantizer does."""

    prepared: Prepared
    path: Path
    quantized_path: str | None
    data: Calibration | None
    events: list[Cached]


def ready_model(
    model: Model,
    target: Target,
    precision: str,
    workload: Workload,
    *,
    compilers: Compilers,
    calibration: Callable[[], Calibration],
    use_cache: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Ready:
    """The model that the target's compiler gets in one precision; raises as `compile_model`."""
    events: list[Cached] = []
    prepared, done = prepare(model, target, precision, workload, use_cache=use_cache)
    events += [done] if done else []
    path, quantized_path = Path(prepared.path), None
    needs_data = not is_float(precision) and not model.quantized
    data = calibration() if needs_data else None
    if data is not None and target.quantizer:
        progress("quantize")
        quantized = _quantize(
            path, data, target, workload, compilers=compilers, use_cache=use_cache
        )
        events.append(quantized)
        path = Path(quantized.answer["path"])
        quantized_path = str(path)
        if precision == FP8:
            eight = _to_fp8(path, Path(prepared.path), workload, use_cache=use_cache)
            events.append(eight)
            path = Path(eight.answer["path"])
            quantized_path = str(path)
            told = (*prepared.notes, *eight.answer["notes"])
            prepared = msgspec.structs.replace(prepared, notes=told)
    elif model.quantized:
        quantized_path = model.path
    return Ready(prepared, path, quantized_path, data, events)


def is_float(precision: str) -> bool:
    """Whether a precision needs no calibration: a float type of 16 bits or more."""
    return precision.startswith(FLOATS) and precision != FP8


def _to_fp8(quantized: Path, floats: Path, workload: Workload, *, use_cache: bool) -> Cached:
    """The int8 Q/DQ graph with 8-bit floats in the place of the integers, of the float weights."""

    def make(folder: Path) -> dict[str, Any]:
        from edgedeploy.graph.read import read_onnx, write_onnx
        from edgedeploy.graph.typed import to_fp8

        graph, notes = to_fp8(read_onnx(quantized), read_onnx(floats))
        write_onnx(graph, folder / "model.onnx")
        return {"path": str(folder / "model.onnx"), "notes": notes}

    code = sorted(Path(__file__).with_name("graph").glob("*.py"))
    parts = {
        "model": file_sha256(quantized),
        "floats": file_sha256(floats),
        "code": files_sha256(code),
    }
    return build("prepare", f"{workload.name}-{FP8}", parts, make, use=use_cache)


def _quantize(
    model: Path,
    data: Calibration,
    target: Target,
    workload: Workload,
    *,
    compilers: Compilers,
    use_cache: bool,
) -> Cached:
    assert target.quantizer is not None
    program = compiler_program(target.quantizer)
    requested = merged_options(target.quantize_options, workload.quantize_options, target)

    def make(folder: Path) -> dict[str, Any]:
        return compilers.call(
            program,
            "quantize_model",
            model=str(model),
            output=str(folder),
            calibration=data.path,
            options=requested,
        )

    parts = {
        "model": file_sha256(model),
        "calibration": data.fingerprint,
        **tool_parts(program, compilers, requested),
    }
    return kept(
        "quantize",
        workload.name,
        parts,
        make,
        unlisted=partial(compilers.unlisted, program),
        use_cache=use_cache,
    )
