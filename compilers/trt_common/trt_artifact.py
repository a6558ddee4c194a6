"""What a build leaves: engine and description for the device, model and findings for people."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_faults import BadInput
from trt_layers import counted

if TYPE_CHECKING:
    from trt_build import Engine
    from trt_parse import Parsed

    Table = dict[str, Any]

ENGINE, SIDECAR = "model.engine", "model.json"
MODEL, LOG, FINDINGS, LAYERS = "model.onnx", "build.log", "build.json", "layers.json"


def sidecar(
    parsed: Parsed,
    engine: Engine,
    *,
    flavour: str,
    version: str,
    precision: str,
    compute_capability: list[str],
) -> Table:
    """What the runtime has to know of an engine; nothing in it differs between two equal builds."""
    return {
        "format": 1,
        "flavour": flavour,
        "version": version,
        "compute_capability": compute_capability,
        "precision": precision,
        "inputs": [{**each, "profile": engine.profiles[each["name"]]} for each in parsed.inputs],
        "outputs": parsed.outputs,
    }


def written(output: str, description: Table, engine: Engine) -> Path:
    """`model.engine` and `model.json` in the folder `output`; the engine's path."""
    path = Path(output, ENGINE)
    path.write_bytes(engine.data)
    Path(output, SIDECAR).write_text(json.dumps(description, indent=1), encoding="utf-8")
    return path


def kept_model(model: str, kept: Path) -> Path:
    """The ONNX file as the builder gets it, its external weights too, in the folder `kept`."""
    path, source = kept / MODEL, Path(model)
    if not source.is_file():
        msg = f"model {model} does not exist"
        raise BadInput(msg, "Check the path.")
    kept.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(str(source), str(path))
    for beside in sorted(source.parent.glob(source.name + ".data*")):
        shutil.copyfile(str(beside), str(kept / beside.name))
    return path


def keep_findings(kept: Path, parsed: Parsed, engine: Engine, inspection: Table) -> Table:
    """`build.json` and `layers.json` in `kept`: what is known of an engine, and of its layers.

    Layers by kind and type, bytes by kind, seconds, and what the inspection adds; the layers are as
    the builder's log had them.
    """
    figures = dict(engine.figures)
    layers = figures.pop("layers", [])
    findings = {
        "network_layers": parsed.layers,
        "network_types": dict(sorted(parsed.types.items())),
        "engine_layers": len(layers),
        **counted(layers),
        "engine_bytes": len(engine.data),
        "build_s": engine.seconds,
        **figures,
        **inspection,
    }
    for name, table in ((FINDINGS, findings), (LAYERS, layers)):
        Path(kept, name).write_text(json.dumps(table, indent=1), encoding="utf-8")
    return findings


def noted(findings: Table, chips: str, why: str) -> list[str]:
    """What is worth a line in the report; `why` is the reason that no card read the engine back."""
    text = f"{findings['network_layers']} layers of the network"
    kinds = ", ".join(f"{count} {kind}" for kind, count in findings["engine_kinds"].items())
    if kinds:
        taken = (f"{count} take {kind}" for kind, count in findings["engine_inputs"].items())
        text += f", {findings['engine_layers']} of the engine ({', '.join([kinds, *taken])})"
    text += f"; engine for {chips}" if chips else ""
    if "weight_bytes" in findings:
        text += f"; weights {findings['weight_bytes']:,} bytes"
    text += f"; built in {findings['build_s']:.1f} s"
    return [text + (f"; not read back: {why}" if why else "")]
