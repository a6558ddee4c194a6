"""The vendor's own command for a build: what a user runs where its Python package is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trt_artifact import ENGINE, MODEL
from trt_options import ENDS

if TYPE_CHECKING:
    Table = dict[str, Any]

MEBIBYTE = 1024 * 1024


def command_line(tool: str, chosen: Table, more: list[str]) -> str:
    """A command, a line an option, for files in the folder it is run in."""
    words = [tool, f"--onnx={MODEL}", f"--saveEngine={ENGINE}"]
    if chosen["workspace_bytes"]:
        words.append(f"--memPoolSize=workspace:{chosen['workspace_bytes'] / MEBIBYTE:g}M")
    if chosen["optimization_level"] != "default":
        words.append(f"--builderOptimizationLevel={chosen['optimization_level']}")
    for end in ENDS if chosen["profiles"] else ():
        shapes = (
            f"{name}:{'x'.join(map(str, profile[end]))}"
            for name, profile in chosen["profiles"].items()
        )
        words.append(f"--{end}Shapes={','.join(shapes)}")
    return " \\\n  ".join([*words, *more]) + "\n"
