"""Workload -> Model, through the export program in a process of its own, cached."""

import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import msgspec

from edgedeploy import __version__
from edgedeploy.cache import Cached, build, lookup
from edgedeploy.calibrate import data_spec, fingerprint, open_sample
from edgedeploy.errors import UnsupportedError
from edgedeploy.records import Model, Record
from edgedeploy.source import source_files
from edgedeploy.trace import Seen, recall, remember
from edgedeploy.worker import SERVE, Worker
from edgedeploy.workload import InputSpec, Workload

PROGRAM = Path(__file__).with_name("exporter.py")
IN_MEMORY = "in memory"
PACKAGES = ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "numpy", "safetensors")


class Exported(Record):
    """A model, and its inputs as the workload and the model together declare them."""

    model: Model
    inputs: tuple[InputSpec, ...]


def export(
    workload: Workload,
    opset: int,
    *,
    use_cache: bool = True,
    timeout_s: float = 600.0,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Exported, Cached]:
    """Export a workload's model at an opset.

    The entry is keyed by the specification, the versions, the bytes of every file that was read
    while the model was made, and the data behind its reference outputs. Raises `InputError` and
    its kinds for whatever is wrong with the workload.
    """
    cached = _made(
        "export",
        "export_model",
        workload,
        {"opset": str(opset)},
        {"opset": opset},
        use_cache=use_cache,
        timeout_s=timeout_s,
        progress=progress,
    )
    return msgspec.convert(cached.answer, Exported), cached


def source_program(
    workload: Workload, *, use_cache: bool = True, timeout_s: float = 600.0
) -> tuple[Path, Cached]:
    """The workload's PyTorch model kept as data (see `torch_program.py`): its file, and the entry.

    Keyed as an export is. Raises `UnsupportedError` where there is no PyTorch model to keep.
    """
    if workload.model.source.startswith(IN_MEMORY):
        msg = "the model is a module in memory: its PyTorch program is not kept"
        raise UnsupportedError(msg, hint="Name it in a workload, as 'file.py:build'.")
    cached = _made(
        "source",
        "export_source",
        workload,
        {},
        {},
        use_cache=use_cache,
        timeout_s=timeout_s,
        progress=lambda _: None,
    )
    return Path(cached.answer["program"]["path"]), cached


def _made(
    stage: str,
    function: str,
    workload: Workload,
    own: dict[str, str],
    arguments: dict[str, Any],
    *,
    use_cache: bool,
    timeout_s: float,
    progress: Callable[[str], None],
) -> Cached:
    """What a function of the export program made in a folder: from the cache, or in a process."""
    fixed = {**_fixed_parts(workload), **own}
    subject = workload.name
    if use_cache:
        known = _known_parts(stage, fixed, workload)
        if known is not None and (hit := lookup(stage, subject, known)):
            return hit
    progress(stage)
    start_ns = time.time_ns()
    with tempfile.TemporaryDirectory(prefix="edgedeploy-export-") as scratch:
        command = [sys.executable, str(SERVE), str(PROGRAM)]
        with Worker("export", command, timeout_s=timeout_s, grace_s=0.0) as worker:
            answer = worker.call(
                function, workload=msgspec.to_builtins(workload), folder=scratch, **arguments
            )
        seen = msgspec.convert(answer.pop("seen"), Seen)
        parts = _parts_after(
            stage, fixed, workload, seen, inputs=answer["inputs"], start_ns=start_ns
        )

        def place(folder: Path) -> dict[str, Any]:
            copytree(scratch, folder, dirs_exist_ok=True)
            text = json.dumps(answer).replace(
                json.dumps(scratch)[1:-1], json.dumps(str(folder))[1:-1]
            )
            moved: dict[str, Any] = json.loads(text)
            return moved

        return build(stage, subject, parts, place, use=use_cache)


def _fixed_parts(workload: Workload) -> dict[str, str]:
    """What is known to determine an export before anything was loaded."""
    spec = {
        "model": workload.model,
        "inputs": workload.inputs,
        "data": msgspec.structs.replace(data_spec(workload), count=None),
        "samples": workload.verify_samples,
        "folder": workload.folder,
    }
    parts = {
        name: msgspec.json.encode(value, order="sorted").decode() for name, value in spec.items()
    }
    for name in PACKAGES:
        parts[name] = importlib.metadata.version(name)
    return parts | {
        "sources": json.dumps([str(p) for p in source_files(workload.model, workload.folder)]),
        "import path": os.environ.get("PYTHONPATH", ""),
        "python": platform.python_version(),
        "edgedeploy": __version__,
    }


def _parts_after(
    stage: str,
    fixed: dict[str, str],
    workload: Workload,
    seen: Seen,
    *,
    inputs: list[Any],
    start_ns: int,
) -> dict[str, str]:
    """All parts of the key of an export just made.

    A file that changed meanwhile may have been read before or after: such an export is not to be
    found again.
    """
    files = {name: Path(name).stat() for name in seen.files if Path(name).is_file()}
    changed = [name for name, stat in files.items() if stat.st_mtime_ns > start_ns]
    if not changed:
        seen = msgspec.structs.replace(seen, files=tuple(files), more={"inputs": inputs})
        remember(stage, fixed, seen)
        if parts := _known_parts(stage, fixed, workload):
            return parts
    return {**fixed, "changed while it was read": f"{changed} at {start_ns}"}


def _known_parts(stage: str, fixed: dict[str, str], workload: Workload) -> dict[str, str] | None:
    """All parts of the key, if it is known which files an export of these reads."""
    known = recall(stage, fixed)
    if known is None:
        return None
    parts, more = known
    inputs = msgspec.convert(more["inputs"], tuple[InputSpec, ...])
    dataset = open_sample(data_spec(workload), inputs, workload.folder, workload.verify_samples)
    return {**parts, **fingerprint(dataset)}
