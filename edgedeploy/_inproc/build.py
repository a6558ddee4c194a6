"""Compile where the device is, and pack what was made: the folder has to go to another host.

Standard library only, Python 3.8 and later. Functions are called by serve.py with the compiler's
program.
"""

from __future__ import annotations

import inspect
import os
import tempfile
import zipfile
from typing import TYPE_CHECKING, Any, Callable, Dict

if TYPE_CHECKING:
    from types import ModuleType


def compile_packed(
    program: ModuleType,
    emit: Callable[[Dict[str, Any]], None],
    model: str,
    packed: str,
    **asked: Any,
) -> Dict[str, Any]:
    """`compile_model` in a folder of its own, which becomes the archive `packed`.

    `path` and `kept` of the answer are then relative to it. States that stay between calls lie in
    the user's cache on this host.
    """
    with tempfile.TemporaryDirectory(prefix="edgedeploy-build-") as folder:
        output = os.path.join(folder, "artifact")
        os.mkdir(output)
        if "states" in inspect.signature(program.compile_model).parameters:
            asked["states"] = states(os.path.splitext(os.path.basename(str(program.__file__)))[0])
        answer: Dict[str, Any] = program.compile_model(
            model=model, output=output, calibration=None, **asked
        )
        for key in ("path", "kept"):
            if answer.get(key) is not None:
                answer[key] = os.path.relpath(answer[key], folder)
        pack(folder, packed)
    return answer


def states(name: str) -> str:
    """The folder of a program's states on this host."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.path.join(root, "edgedeploy", "states", name)
    os.makedirs(folder, exist_ok=True)
    return folder


def pack(folder: str, packed: str) -> None:
    """All files of a folder as an archive, by their path below it."""
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for at, _, names in os.walk(folder):
            for name in sorted(names):
                path = os.path.join(at, name)
                archive.write(path, os.path.relpath(path, folder))
