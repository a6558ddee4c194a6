"""Model + Target -> Artifact: compiled, or what a missing compiler would be given; cached."""

import hashlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from edgedeploy.cache import Cached, cache_folder, storage_error
from edgedeploy.calibrate import resolve_inputs
from edgedeploy.compile_there import CompilerThere
from edgedeploy.compilers import Compilers
from edgedeploy.digest import file_sha256
from edgedeploy.errors import UnsupportedError, WorkerError
from edgedeploy.export import source_program
from edgedeploy.prepare import exact_fit
from edgedeploy.quantize import ready_model
from edgedeploy.records import Artifact, Calibration, Model, Preparation, Target
from edgedeploy.share import parameters
from edgedeploy.target import compiler_program
from edgedeploy.toolchain import kept, merged_options, tool_parts
from edgedeploy.workload import Workload

QUANTIZED = "int8"
LOG_BYTES = 4000


def precisions_of(target: Target, model: Model, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """The precisions to deploy in; an already quantized model has only its own."""
    if asked is None:
        return (QUANTIZED,) if model.quantized else target.by_default or target.precisions
    return asked


def compile_model(
    model: Model,
    target: Target,
    precision: str,
    workload: Workload,
    *,
    compilers: Compilers,
    calibration: Callable[[], Calibration],
    use_cache: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Artifact, list[Cached]]:
    """The artifact of a model for a target in one precision.

    `calibration` is asked only where quantizing needs data. Raises `UnsupportedError` for a
    precision the target or the model does not have and for what `prepare` finds, `MissingError`
    for an absent toolchain, `WorkerError` for a compiler that failed.
    """
    if precision not in target.precisions:
        msg = f"target {target.name} has no precision {precision!r}"
        raise UnsupportedError(msg, hint=f"It has: {', '.join(target.precisions)}.")
    if model.quantized and precision != QUANTIZED:
        msg = f"the model is already quantized: {precision} cannot be had from it"
        raise UnsupportedError(msg, hint=f"Deploy it in {QUANTIZED}, or give the float model.")
    ready = ready_model(
        model,
        target,
        precision,
        workload,
        compilers=compilers,
        calibration=calibration,
        use_cache=use_cache,
        progress=progress,
    )
    source, data, prepared = ready.path, ready.data, ready.prepared
    progress("compile")
    program = compiler_program(target.compiler)
    requested = merged_options(target.compile_options, workload.compile_options, target)
    there = CompilerThere(target, program) if target.compile_on == "device" else None
    pass_data = data is not None and target.quantizer is None
    more = _more_arguments(program, "compile_model", model, workload, use_cache=use_cache)
    asked: dict[str, Any] = {"precision": precision, "options": requested, **more}

    def make(folder: Path) -> dict[str, Any]:
        output = folder / "artifact"
        start = time.perf_counter()
        if there is not None:
            answer = there.compile_model(source, folder, **asked)
        else:
            output.mkdir()
            answer = compilers.call(
                program,
                "compile_model",
                model=str(source),
                output=str(output),
                calibration=data.path if data and pass_data else None,
                **asked,
            )
        path = Path(answer["path"])
        if not path.is_file():
            msg = f"{program.stem} answered artifact {path}, which does not exist"
            raise WorkerError(msg, hint="Its log is in the row.", log=answer["log"])
        files = sorted(p for p in output.rglob("*") if p.is_file())
        sha256, size = hash_files(path if files == [path] else output)
        artifact = Artifact(
            path=str(path),
            format=answer["format"],
            sha256=sha256,
            size_bytes=size,
            precision=precision,
            model_sha256=model.sha256,
            folder=None if files == [path] else str(output),
            kept=answer.get("kept"),
            calibration_fingerprint=data.fingerprint if data else None,
            requested_options=requested,
            options=answer.get("options", {}),
            tools=answer.get("tools", {}),
            duration_s=time.perf_counter() - start,
            peak_memory_bytes=answer["worker"].get("peak_memory_bytes"),
            log=answer["log"][-LOG_BYTES:],
            warnings=tuple(answer.get("warnings", ())),
            downgrades=tuple(answer.get("downgrades", ())),
            script=answer.get("script", ""),
            virtual=bool(answer.get("virtual")),
            notes=tuple(answer.get("notes", ())),
        )
        built: dict[str, Any] = msgspec.to_builtins(artifact)
        return built

    parts = {
        "model": file_sha256(source),
        "precision": precision,
        "calibration": data.fingerprint if data and pass_data else "",
        **({"inputs": repr(more["inputs"])} if "inputs" in more else {}),
        **({"source": file_sha256(Path(more["source"]))} if "source" in more else {}),
        **(
            there.parts(requested)
            if there is not None
            else tool_parts(program, compilers, requested)
        ),
    }
    cached = kept(
        "compile",
        # not by target: boards that one compiler serves with the same options share what it made
        f"{workload.name}-{target.compiler}-{precision}",
        parts,
        make,
        unlisted=dict if there is not None else partial(compilers.unlisted, program),
        use_cache=use_cache,
    )
    artifact = msgspec.convert(cached.answer, Artifact)
    return msgspec.structs.replace(
        artifact,
        quantized_path=ready.quantized_path,
        model_sha256=model.sha256,
        calibration_fingerprint=data.fingerprint if data else None,
        tail_path=prepared.tail_path,
        fit=exact_fit(prepared, target, precision, artifact.size_bytes),
        notes=(*prepared.notes, *artifact.notes),
    ), [*ready.events, cached]


def prepare_without_toolchain(
    model: Model,
    target: Target,
    precision: str,
    workload: Workload,
    *,
    compilers: Compilers,
    calibration: Callable[[], Calibration],
    folder: Path,
) -> Preparation | None:
    """What the target's compiler would be given, written into `folder` while its toolchain is
    missing; None where its program does not tell.

    Raises `InputError` and `UnsupportedError` for what can be told to be wrong already.
    """
    program = compiler_program(target.compiler)
    if parameters(program, "prepare_model") is None:
        return None
    ready = ready_model(
        model, target, precision, workload, compilers=compilers, calibration=calibration
    )
    requested = merged_options(target.compile_options, workload.compile_options, target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise storage_error(err, folder) from err
    answer = compilers.call_alone(
        program,
        "prepare_model",
        model=str(ready.path),
        output=str(folder),
        precision=precision,
        calibration=ready.data.path if ready.data and not target.quantizer else None,
        options=requested,
        **_more_arguments(program, "prepare_model", model, workload),
    )
    return Preparation(
        folder=str(folder),
        files=tuple(answer["files"]),
        options=answer.get("options", {}),
        script=answer.get("script", ""),
        notes=(*ready.prepared.notes, *answer.get("notes", ())),
        warnings=tuple(answer.get("warnings", ())),
    )


def toolchain_rungs(
    artifact: Artifact, target: Target, compilers: Compilers, inputs: str, output: str
) -> dict[str, Any]:
    """The toolchain's own steps of the parity ladder: `rungs` with `name` and `path`, `meanings`.

    Empty where the compiler's program tells none.
    """
    program = compiler_program(target.compiler)
    if artifact.kept is None or parameters(program, "rungs") is None:
        return {"rungs": [], "meanings": {}}
    return compilers.call(
        program, "rungs", kept=artifact.kept, inputs=inputs, output=output, options={}
    )


def _more_arguments(
    program: Path, function: str, model: Model, workload: Workload, *, use_cache: bool = True
) -> dict[str, Any]:
    """What a compiler gets only where its function names it: `inputs`, `states`, `source`."""
    named, more = parameters(program, function) or (), dict[str, Any]()
    if "inputs" in named:
        fields = ("name", "dtype", "shape", "layout", "color", "value_range", "mean", "std")
        resolved = msgspec.to_builtins(resolve_inputs(workload, model.inputs))
        more["inputs"] = [{field: each[field] for field in fields} for each in resolved]
    if "states" in named:
        folder = cache_folder() / "states" / program.stem
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise storage_error(err, folder) from err
        more["states"] = str(folder)
    if "source" in named:
        more["source"] = str(source_program(workload, use_cache=use_cache)[0])
    return more


def layer_errors(
    model: Model, artifact: Artifact, target: Target, compilers: Compilers, inputs: str
) -> tuple[list[dict[str, Any]], str | None]:
    """Per-layer SNR of a quantized model by what quantized it, or an empty list and why."""
    quantized = artifact.quantized_path
    options: dict[str, Any] = {}
    if artifact.kept is not None:
        name, quantized, options = target.compiler, artifact.path, {"kept": artifact.kept}
    elif quantized is None or model.quantized or target.quantizer is None:
        return [], "only a model quantized here has a float one to be held against"
    else:
        name = target.quantizer
    program = compiler_program(name)
    if parameters(program, "layer_errors") is None:
        return [], f"quantizer {name} does not tell errors by layer"
    answer = compilers.call(
        program,
        "layer_errors",
        model=model.path,
        quantized=quantized,
        inputs=inputs,
        options=options,
    )
    return answer["layers"], None


def hash_files(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file or of a folder's files, as `serve.sha256` gives them."""
    if path.is_file():
        return file_sha256(path, memo=False), path.stat().st_size
    digest, size = hashlib.sha256(), 0
    for file in sorted((p for p in path.rglob("*") if p.is_file()), key=os.fspath):
        length = file.stat().st_size
        digest.update(f"{file.relative_to(path).as_posix()}\0{length}\0".encode())
        digest.update(file.read_bytes())
        size += length
    return digest.hexdigest(), size
