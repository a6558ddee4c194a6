# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=2.6,<3"]
# ///
"""PyTorch's own program of a model, to run eagerly or by torch.compile on a GPU: nothing is built.

It starts from the model as PyTorch captured it, not from ONNX. torch.compile makes its kernels for
the card it finds, so that this happens where the artifact is loaded.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

Table = dict[str, Any]
# the type that weights and activations have; tf32 is float32 in memory
TYPES = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class Unsupported(Exception):
    """This cannot be had from a PyTorch program, and nothing is broken; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(Exception):
    """A program or an option that is wrong; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def probe() -> Table:
    """The version of PyTorch, which is not imported: the program is taken as it is."""
    return {"tools": {"torch": importlib.metadata.version("torch")}}


def compile_model(
    model: str,
    output: str,
    precision: str,
    calibration: str | None,
    options: Table,
    *,
    source: str,
) -> Table:
    """`output/model.pt2` (`.ts` of TorchScript) and `output/model.json`, which names the precision.

    `source` is the program that PyTorch captured, with `program.json` beside it. What `model` is,
    the ONNX of the same in this precision, goes to `kept/model.onnx`, so that its accuracy can be
    told where no GPU is. There are no options. Raises `Unsupported`, `BadInput`.
    """
    if precision not in TYPES:
        msg = f"precision {precision!r}: a PyTorch program runs in {', '.join(TYPES)}"
        raise Unsupported(msg, "Take one of these for this target.")
    if options:
        msg = f"option {sorted(options)[0]!r} is not known to compiler torch_gpu: it has none"
        raise BadInput(msg, "Options of the run, such as mode, are `run_options`.")
    program, record = Path(source), Path(source).with_name("program.json")
    if not program.is_file() or not record.is_file():
        msg = f"{program} and {record.name} beside it are not both there"
        raise BadInput(msg, "Export the model again.")
    told = json.loads(record.read_text(encoding="utf-8"))
    path = Path(output, f"model{program.suffix}")
    shutil.copyfile(program, path)
    artifact = {
        "format": 1,
        "flavour": "pytorch",
        "program": told["format"],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "precision": precision,
        "dtype": TYPES[precision],
        "inputs": told["inputs"],
        "outputs": told["outputs"],
        "torch": told["tools"]["torch"],
    }
    path.with_name("model.json").write_text(json.dumps(artifact, indent=1), encoding="utf-8")
    kept = Path(output).parent / "kept"
    kept.mkdir(exist_ok=True)
    shutil.copyfile(model, kept / "model.onnx")
    weights = Path(model + ".data")
    if weights.is_file():
        shutil.copyfile(weights, kept / weights.name)
    note = f"PyTorch's own program ({told['format'].replace('_', ' ')}), made for no card"
    return {
        "path": str(path),
        "kept": str(kept),
        "format": path.suffix.lstrip("."),
        "options": {},
        "warnings": [],
        "notes": [note],
        **probe(),
    }
