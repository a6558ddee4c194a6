"""Model + Target -> Artifact: quantize where the target's quantizer does, compile; both cached."""

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from edgedeploy import container
from edgedeploy.cache import Cached, build, cache_folder, lookup, storage_error
from edgedeploy.calibrate import resolve_inputs
from edgedeploy.compile_there import CompilerThere
from edgedeploy.digest import file_sha256, files_sha256
from edgedeploy.errors import EdgeDeployError, InputError, UnsupportedError, WorkerError
from edgedeploy.export import source_program
from edgedeploy.interpreter import Interpreter, choose, read_header, unmet
from edgedeploy.inventory import base_name
from edgedeploy.prepare import Prepared, exact_fit, prepare
from edgedeploy.records import Artifact, Calibration, Model, Preparation, Target
from edgedeploy.share import parameters, program_files
from edgedeploy.target import compiler_program
from edgedeploy.worker import SERVE, Worker
from edgedeploy.workload import Workload

QUANTIZED = "int8"
FLOATS = ("fp", "bf", "tf")
FP8 = "fp8"
LOG_BYTES = 4000


class Compilers:
    """Compiler programs being served, started early and kept for the next call; a context."""

    def __init__(self, *, timeout_s: float = 600.0) -> None:
        self._timeout_s = timeout_s
        self._workers: dict[Path, Worker] = {}
        self._waiting: set[Path] = set()
        self._interpreters: dict[Path, Interpreter] = {}
        self._tools: dict[Path, dict[str, str]] = {}

    def __enter__(self) -> "Compilers":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close(grace_s=0.5)

    def interpreter(self, program: Path) -> Interpreter:
        """The interpreter of a program, on this host or in a container; chosen once."""
        if program not in self._interpreters:
            self._interpreters[program] = container.choose(program)
        return self._interpreters[program]

    def warm(self, program: Path) -> None:
        """Start a program and let it import its toolchain while something else goes on."""
        if program not in self._workers:
            chosen = self.interpreter(program)
            worker = container.serve(program, chosen, timeout_s=self._timeout_s)
            self._workers[program] = worker
            worker.start("probe")
            self._waiting.add(program)

    def unlisted(self, program: Path) -> dict[str, str]:
        """Versions of tools that no installed package tells, as parts of a cache key."""
        self.ready(program)
        listed = self.interpreter(program).versions
        found = {name: v for name, v in self._tools[program].items() if name not in listed}
        return {f"unlisted tool {name}": version for name, version in found.items()}

    def call(self, program: Path, function: str, **arguments: Any) -> dict[str, Any]:
        """Call a function of a program; a worker that broke is started anew next time."""
        worker = self.ready(program)
        try:
            answer = worker.call(function, **arguments)
        except WorkerError:
            self._workers.pop(program).close(grace_s=0.0)
            raise
        return answer | {"log": worker.log(), "worker": worker.meta}

    def call_alone(self, program: Path, function: str, **arguments: Any) -> dict[str, Any]:
        """Call a function in a process of its own on this host, that needs no toolchain."""
        # the interpreter named for the toolchain may be what is wrong
        here = not unmet(read_header(program))
        command = [sys.executable if here else choose(program).path, str(SERVE), str(program)]
        with Worker(program.stem, command, timeout_s=self._timeout_s) as worker:
            return worker.call(function, **arguments)

    def ready(self, program: Path) -> Worker:
        """The worker of a program, its toolchain imported."""
        self.warm(program)
        worker = self._workers[program]
        if program in self._waiting:
            self._waiting.discard(program)
            try:
                self._tools[program] = worker.finish().get("tools", {})
            except EdgeDeployError:
                self._workers.pop(program).close(grace_s=0.0)
                raise
        return worker


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
            else _tool_parts(program, compilers, requested)
        ),
    }
    cached = _kept(
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
            events.append(_to_fp8(path, workload, use_cache=use_cache))
            path = Path(events[-1].answer["path"])
            quantized_path = str(path)
    elif model.quantized:
        quantized_path = model.path
    return Ready(prepared, path, quantized_path, data, events)


def is_float(precision: str) -> bool:
    """Whether a precision needs no calibration: a float type of 16 bits or more."""
    return precision.startswith(FLOATS) and precision != FP8


def _to_fp8(quantized: Path, workload: Workload, *, use_cache: bool) -> Cached:
    """The int8 Q/DQ graph with 8-bit floats in the place of the integers."""

    def make(folder: Path) -> dict[str, Any]:
        from edgedeploy.graph.read import read_onnx, write_onnx
        from edgedeploy.graph.typed import to_fp8

        graph, notes = to_fp8(read_onnx(quantized))
        write_onnx(graph, folder / "model.onnx")
        return {"path": str(folder / "model.onnx"), "notes": notes}

    code = sorted(Path(__file__).with_name("graph").glob("*.py"))
    parts = {"model": file_sha256(quantized), "code": files_sha256(code)}
    return build("prepare", f"{workload.name}-{FP8}", parts, make, use=use_cache)


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
        **_tool_parts(program, compilers, requested),
    }
    return _kept(
        "quantize",
        workload.name,
        parts,
        make,
        unlisted=partial(compilers.unlisted, program),
        use_cache=use_cache,
    )


def _kept(
    stage: str,
    subject: str,
    parts: dict[str, str],
    make: Callable[[Path], dict[str, Any]],
    *,
    unlisted: Callable[[], dict[str, str]],
    use_cache: bool,
) -> Cached:
    """An entry of the cache, or made by a program.

    An entry whose tools are all installed packages is found without starting the program; versions
    that only the program can tell, which `unlisted` asks it for, make it start each time.
    """
    hit = lookup(stage, subject, parts) if use_cache else None
    if hit is not None:
        return hit
    return build(stage, subject, {**parts, **unlisted()}, make, use=use_cache)


def merged_options(
    board: dict[str, Any], options: dict[str, Any], target: Target
) -> dict[str, Any]:
    """A target's options, then a workload's for all, then those in a table of the target's name,
    then those in one of its name with the device's.
    """
    merged = {**board, **{k: value for k, value in options.items() if not isinstance(value, dict)}}
    for name in dict.fromkeys((base_name(target.name), target.name)):
        own = options.get(name, {})
        if not isinstance(own, dict):
            msg = f"the options for target {name} are {own!r}, expected a table"
            raise InputError(msg, hint=f"Write them as a table named {name}.")
        merged |= own
    return merged


def _tool_parts(program: Path, compilers: Compilers, options: dict[str, Any]) -> dict[str, str]:
    return {
        "options": msgspec.json.encode(options, order="sorted").decode(),
        "program": files_sha256(program_files(program)),
        **{f"file {key}": file_sha256(path) for key, path in _named_files(options)},
        **{
            f"tool {name}": version
            for name, version in compilers.interpreter(program).versions.items()
        },
    }


def _named_files(options: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Options that name a file there is: its bytes count, not its name alone."""
    for key, value in options.items():
        if isinstance(value, str) and value and "\n" not in value:
            path = Path(value).expanduser()
            with contextlib.suppress(OSError):  # a text too long for a name, for example
                if path.is_file():
                    yield key, path
