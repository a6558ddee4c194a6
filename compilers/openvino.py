# /// script
# requires-python = ">=3.10"
# dependencies = ["openvino>=2026.1,<2027"]
# ///
"""OpenVINO on the host's CPU: an ONNX model, in float or with Q/DQ nodes, as OpenVINO IR."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from types import ModuleType

Node = Any  # OpenVINO's class has no types, and is imported too late to be named
UNCONVERTED = re.compile(r"(?:No conversion rule found for operations|is failed for): (.+)")


class Missing(Exception):
    """OpenVINO is not there; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Unsupported(Exception):
    """OpenVINO cannot run this model here, and nothing is broken; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(Exception):
    """A model or an option that is wrong; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@functools.cache
def toolkit() -> ModuleType:
    """The openvino package, kept from reporting its use.

    Its converter of PyTorch and TensorFlow models sends an event over the network and writes to the
    user's home as soon as it is imported; the package does without it where it is absent, as here.
    """
    sys.modules.setdefault("openvino.tools.ovc", cast("ModuleType", None))
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        msg = f"OpenVINO cannot be imported: {error}"
        raise Missing(msg, "pip install 'openvino>=2026.1,<2027'") from error


def probe() -> dict[str, Any]:
    """The version of OpenVINO."""
    return {"tools": {"openvino": toolkit().__version__.partition("-")[0]}}


def compile_model(
    model: str, output: str, precision: str, calibration: str | None, options: dict[str, Any]
) -> dict[str, Any]:
    """`output/model.xml` and the weights in `output/model.bin` beside it, uncompressed.

    OpenVINO makes machine code and integer operators when it loads these. int8 takes a model with
    Q/DQ nodes; `calibration` is not used, and there are no options. Raises `Unsupported` naming the
    operators that cannot be converted, `BadInput`.
    """
    if precision not in {"fp32", "int8"}:
        msg = f"precision {precision!r}: this compiler makes fp32 or int8"
        raise Unsupported(msg, "Take fp32 or int8 for this target.")
    if options:
        msg = f"option {sorted(options)[0]!r} is not known to compiler openvino: it has none"
        raise BadInput(msg, "Options of the run, such as threads, are `run_options`.")
    if not Path(model).is_file():
        msg = f"model {model} does not exist"
        raise BadInput(msg, "Check the path.")
    try:
        graph = toolkit().Core().read_model(model)
    except RuntimeError as error:
        raise explained(error, model) from error
    if precision == "int8" and not any(is_integer(node) for node in graph.get_ops()):
        msg = f"int8: {Path(model).name} has neither Q/DQ nor integer operators"
        raise BadInput(msg, "Quantize it first; a target with int8 names a `quantizer`.")
    path = Path(output, "model.xml")
    toolkit().save_model(graph, str(path), compress_to_fp16=False)
    return {"path": str(path), "format": "openvino-ir", "options": {}, "warnings": [], **probe()}


def is_integer(node: Node) -> bool:
    """Whether a node of OpenVINO's graph quantizes, or holds weights of 8 bits."""
    if node.get_type_name() == "FakeQuantize":
        return True
    kind = node.get_output_element_type(0).get_type_name() if node.get_output_size() else ""
    return node.get_type_name() == "Constant" and kind in {"i8", "u8"}


def explained(error: RuntimeError, model: str) -> Exception:
    """What OpenVINO's report of a model that it did not read means."""
    operators = sorted(
        {o.strip() for found in UNCONVERTED.findall(str(error)) for o in found.split(",")}
    )
    if operators:
        msg = f"OpenVINO has no conversion for {', '.join(operators)} (operator-opset)"
        return Unsupported(msg, "Export without it, or take a target that has it.")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    msg = f"{Path(model).name} is no model OpenVINO can read: {lines[-1]}"
    return BadInput(msg, "Check the export; onnx.checker may tell more.")
