"""Workload -> Model, through the export program in a process of its own, cached."""

import importlib.metadata
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import msgspec

from edgedeploy import __version__
from edgedeploy.cache import Cached, build, cache_folder, digest_of, lookup
from edgedeploy.calibrate import data_spec, fingerprint, open_sample
from edgedeploy.digest import file_sha256
from edgedeploy.records import Model, Record
from edgedeploy.worker import SERVE, Worker
from edgedeploy.workload import InputSpec, Workload

PROGRAM = Path(__file__).with_name("exporter.py")
PACKAGES = ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "numpy", "safetensors")


class Exported(Record):
    """A model, and its inputs as the workload and the model together declare them."""

    model: Model
    inputs: tuple[InputSpec, ...]
    files: tuple[str, ...] = ()


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
    fixed = _fixed_parts(workload, opset)
    subject = workload.name
    if use_cache:
        known = _known_parts(fixed, workload)
        if known is not None and (hit := lookup("export", subject, known)):
            return msgspec.convert(hit.answer, Exported), hit
    progress("export")
    with tempfile.TemporaryDirectory(prefix="edgedeploy-export-") as scratch:
        command = [sys.executable, str(SERVE), str(PROGRAM)]
        with Worker("export", command, timeout_s=timeout_s) as worker:
            answer = worker.call(
                "export_model",
                workload=msgspec.to_builtins(workload),
                opset=opset,
                folder=scratch,
            )
        made = msgspec.convert(answer, Exported)
        _remember(fixed, made)

        def place(folder: Path) -> dict[str, Any]:
            copytree(scratch, folder, dirs_exist_ok=True)
            text = json.dumps(answer).replace(
                json.dumps(scratch)[1:-1], json.dumps(str(folder))[1:-1]
            )
            moved: dict[str, Any] = json.loads(text)
            return moved

        parts = _known_parts(fixed, workload)
        assert parts is not None
        cached = build("export", subject, parts, place, use=use_cache)
    return msgspec.convert(cached.answer, Exported), cached


def _fixed_parts(workload: Workload, opset: int) -> dict[str, str]:
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
        "opset": str(opset),
        "python": platform.python_version(),
        "edgedeploy": __version__,
    }


def _index(fixed: dict[str, str]) -> Path:
    return cache_folder() / "export-files" / f"{digest_of(fixed)[:32]}.json"


def _remember(fixed: dict[str, str], made: Exported) -> None:
    path = _index(fixed)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{id(made)}.part")
    part.write_bytes(msgspec.json.encode({"files": made.files, "inputs": made.inputs}))
    part.replace(path)


def _known_parts(fixed: dict[str, str], workload: Workload) -> dict[str, str] | None:
    """All parts of the key, if it is known which files an export of these reads."""
    try:
        stored = json.loads(_index(fixed).read_text(encoding="utf-8"))
        inputs = msgspec.convert(stored["inputs"], tuple[InputSpec, ...])
        files = {str(path): file_sha256(Path(path)) for path in stored["files"]}
    except (OSError, ValueError, KeyError):
        return None
    dataset = open_sample(data_spec(workload), inputs, workload.folder, workload.verify_samples)
    return {
        **fixed,
        **{f"file {path}": sha256 for path, sha256 in files.items()},
        **fingerprint(dataset),
    }
