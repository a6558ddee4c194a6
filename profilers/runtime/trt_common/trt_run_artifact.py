"""An engine's folder as the compilers write it: model.engine, and model.json that tells of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trt_run_faults import BadInput

FORMAT = 1
ENGINE, MANIFEST = "model.engine", "model.json"
HINT = "Compile it again: the artifact is the folder with model.engine and model.json."
FLAVOURS = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}


class Artifact:
    """What model.json says, checked; the engine's bytes are read when they are asked for."""

    def __init__(self, path: str) -> None:
        given = Path(path)
        self.folder = given if given.is_dir() else given.parent
        self.engine = self.folder / ENGINE
        manifest = self.folder / MANIFEST
        for file in (self.engine, manifest):
            if not file.is_file():
                msg = f"{file} is not there"
                raise BadInput(msg, HINT)
        try:
            said = json.loads(manifest.read_text(encoding="utf-8"))
        except ValueError as error:
            msg = f"{manifest} is not JSON: {error}"
            raise BadInput(msg, HINT) from error
        if not isinstance(said, dict) or said.get("format") != FORMAT:
            found = said.get("format") if isinstance(said, dict) else type(said).__name__
            msg = f"{manifest} is of format {found!r}, expected {FORMAT}"
            raise BadInput(msg, HINT)
        lacking = [key for key in ("flavour", "version", "inputs", "outputs") if key not in said]
        if lacking:
            msg = f"{manifest} does not tell {', '.join(lacking)}"
            raise BadInput(msg, HINT)
        self.flavour: str = said["flavour"]
        self.version: str = str(said["version"])
        self.precision: str = str(said.get("precision", ""))
        self.version_compatible = bool(said.get("version_compatible", False))
        capabilities = said.get("compute_capability") or []
        self.capabilities: list[str] = (
            [capabilities] if isinstance(capabilities, str) else list(capabilities)
        )
        self.inputs: list[dict[str, Any]] = said["inputs"]
        self.outputs: list[dict[str, Any]] = said["outputs"]

    @property
    def name(self) -> str:
        """The library that the engine is for."""
        return FLAVOURS.get(self.flavour, self.flavour)

    def read(self) -> bytes:
        """The engine."""
        return self.engine.read_bytes()
