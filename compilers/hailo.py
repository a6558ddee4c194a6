# /// script
# requires-python = ">=3.8"
# dependencies = ["numpy>=1.23"]
# ///
"""Hailo-8 by the vendor's Dataflow Compiler 3.33: an ONNX model parsed, optimized, compiled."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).resolve().with_suffix("")))
from dfc_faults import BadInput, Missing, Unsupported
from dfc_options import RUNTIMES, checked
from dfc_states import surroundings

if TYPE_CHECKING:
    from types import ModuleType

    Table = dict[str, Any]

__all__ = ["BadInput", "Missing", "Unsupported"]
TOOL = "hailo-dataflow-compiler"
NAME = "Hailo Dataflow Compiler 3.33"
PYTHONS = ((3, 10), (3, 12))
REMEDY = (
    "Download it from the vendor's developer zone (behind a login; x86-64 Linux, Python 3.10 to"
    " 3.12), install it into an environment of its own and set"
    " EDGEDEPLOY_PYTHON_HAILO=/path/to/venv/bin/python, or run it in the vendor's container image"
    " hailo_ai_sw_suite by --container."
)
MEANINGS = {
    "native": "parsing: the network that the compiler read is not the model (end nodes, layouts, an"
    " operator read in another way)",
    "optimized": "model script: normalization, colour order or a changed activation",
    "emulated": "quantization: calibration data, optimization level, or layers that need 16 bits",
    "deployed": "compilation, runtime, or how inputs are prepared and outputs read on the device",
}


def probe() -> Table:
    """The compiler's version; raises `Missing` where it is not there or cannot run here.

    Its import takes long, so it is left to the first call where the package tells its version.
    """
    found = ".".join(str(part) for part in sys.version_info[:3])
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        msg = f"{NAME} runs on Python 3.10 to 3.12, and this is {found} ({sys.executable})"
        raise Missing(msg, REMEDY)
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        here = f"{platform.system()} on {platform.machine()}"
        msg = f"{NAME} runs on x86-64 Linux only, and this is {here}"
        hint = f"Compile on an x86-64 host; the device may be another machine. {REMEDY}"
        raise Missing(msg, hint)
    if importlib.util.find_spec("hailo_sdk_client") is None:
        msg = f"{NAME} is not installed in {sys.executable} (Python {found})"
        raise Missing(msg, REMEDY)
    try:
        version = importlib.metadata.version(TOOL)
    except importlib.metadata.PackageNotFoundError:
        version = str(sdk().__version__)
    check_version(version)
    return {"tools": {TOOL: version, **surroundings()}}


def check_version(version: str) -> None:
    """Refuse a compiler that is not for Hailo-8, or whose runtime is not known."""
    short = ".".join(version.partition("+")[0].split(".")[:2])
    if short in RUNTIMES:
        return
    pairs = ", ".join(f"{key} with HailoRT {value}" for key, value in RUNTIMES.items())
    msg = f"{NAME} is wanted, and {version} is installed"
    if short.split(".", maxsplit=1)[0] not in ("3", ""):
        msg += ": that line is for Hailo-10H and Hailo-15, not for Hailo-8"
    raise Missing(msg, f"Known are {pairs}. {REMEDY}")


def sdk() -> ModuleType:
    """The vendor's package; it has to be imported before TensorFlow."""
    try:
        return importlib.import_module("hailo_sdk_client")
    except Exception as error:
        msg = f"{NAME} is installed and cannot be imported: {type(error).__name__}: {error}"
        raise Missing(msg, f"Install it again in an environment of its own. {REMEDY}") from error


def compile_model(
    model: str,
    output: str,
    precision: str,
    calibration: str | None,
    options: Table,
    *,
    inputs: list[Table] | None = None,
    states: str | None = None,
) -> Table:
    """`output/model.hef` for one chip, and `model.json`: what goes in and comes out of it, and how.

    `precision` is "int8", "int16" (all layers) or "mixed" (int8, with the layers of `a16_w16` and
    `a8_w4`). `calibration` is an .npz, one array an input, (N, *model shape) in the model's own
    units; `inputs` say how raw values became these, which the chip then does. `states` is a folder
    where each step's result is kept, by all that determines it: parsed, optimized, compiled. Beside
    the folder `output`, in `kept`, lie the model script, the HAR of each step and the log. Raises
    `Missing`, `Unsupported`, `BadInput`.
    """
    tools = probe()
    chosen = checked(options, precision)
    from dfc_artifact import described, effective, kept_files, ready
    from dfc_calibration import content_sha256
    from dfc_script import asked, generated
    from dfc_states import States
    from dfc_steps import Job, layers_named
    from dfc_wire import check_shape

    place = Path(output).resolve().parent
    with tempfile.TemporaryDirectory(prefix="hailo-", dir=str(place)) as folder:
        work = Path(folder)
        prepared = ready(model, calibration, inputs, chosen, work)
        if not prepared.count:
            msg = f"{precision} needs calibration data, and none was given"
            raise BadInput(msg, "Give `--calibration`, or `[calibration]` in the workload.")
        entries, data = prepared.entries, prepared.load()
        job = Job(
            sdk(),
            States(Path(states).resolve() if states else work / "states"),
            prepared.network,
            name=prepared.name,
            arch=chosen["hw_arch"],
            work=work,
        )
        ends = job.parse()
        for each in entries:
            each["layer"], shape = ends["inputs"][each["name"]]
            check_shape(each, shape)
        layers = layers_named(chosen, precision, ends, prepared.network)
        script = generated(entries, chosen, layers, samples=prepared.count)
        sidecar = described(prepared, ends, tools["tools"][TOOL], chosen)
        print(script.text)
        job.optimize(script, data, content_sha256(prepared.files()))
        hef = job.compile(script)
        path = Path(output, "model.hef")
        shutil.copyfile(str(hef), str(path))
        text = json.dumps(sidecar, indent=1)
        path.with_suffix(".json").write_text(text, encoding="utf-8")
        kept = kept_files(job, script.text, text, place / "kept")
        done = effective(job.logs, asked(script, chosen), chosen, prepared)
        other = [f"{mode} {', '.join(names)}" for mode, names in layers.items() if names]
        if precision == "int8" and other:
            done["warnings"].insert(0, f"not all of it is int8: {'; '.join(other)}")
    return {
        "path": str(path),
        "format": "hef",
        "kept": str(kept),
        "script": script.text,
        "states": job.made,
        **done,
        **tools,
        **({"virtual": True} if "standin" in tools["tools"][TOOL].partition("+")[2] else {}),
    }


def prepare_model(
    model: str,
    output: str,
    precision: str,
    calibration: str | None,
    options: Table,
    *,
    inputs: list[Table] | None = None,
) -> Table:
    """All that the compiler would be given, written into `output` without it.

    `model.onnx` with all nodes named, `model.alls`, a calibration set an input as the chip takes
    it, `model.json` (layers unknown), `commands.txt`: the vendor's own commands for these files.
    """
    chosen = checked(options, precision)
    from dfc_artifact import commands, described, ready
    from dfc_script import asked, generated

    folder = Path(output).resolve()
    prepared = ready(model, calibration, inputs, chosen, folder)
    for place, each in enumerate(prepared.entries, 1):
        each["layer"] = f"{prepared.name}/input_layer{place}"
    layers: Table = {mode: list(chosen[mode]) for mode in ("a16_w16", "a8_w4")}
    notes = []
    if precision == "int16":
        layers = {"a16_w16": ["*"]}
    elif any(layers.values()):
        notes.append("names of ONNX nodes in a16_w16 and a8_w4 become names of layers once parsed")
    script = generated(prepared.entries, chosen, layers, samples=max(prepared.count, 1))
    for each in prepared.entries:
        each["layer"] = None
    prepared.save(folder / "model.onnx")
    sidecar = described(prepared, None, "", chosen)
    written = {
        "model.alls": script.text,
        "model.json": json.dumps(sidecar, indent=1),
        "commands.txt": commands(prepared, chosen),
    }
    for name, text in written.items():
        Path(folder, name).write_text(text, encoding="utf-8")
    warnings = list(prepared.warnings)
    level = asked(script, chosen)["optimization_level"]
    if not prepared.count:
        warnings.append("no calibration data was given: none is written out")
    elif prepared.count < 1024 and level >= 2:
        warnings.append(
            f"{prepared.count} calibration samples: optimization level {level} wants 1024 or more,"
            " and a GPU, or the compiler takes a lower one"
        )
    return {
        "files": sorted(["model.onnx", *written, *(path.name for path in prepared.files())]),
        "options": {key: value for key, value in chosen.items() if key != "given"},
        "script": script.text,
        "notes": notes,
        "warnings": warnings,
    }


def rungs(kept: str, inputs: str, output: str, options: Table) -> Table:
    """The model's outputs by the SDK's own steps in float: as parsed, and with the model script.

    `kept` is the folder that `compile_model` answered, `inputs` an .npz as for calibration. Writes
    an .npz a step into `output`: arrays (N, *model shape) by the ONNX outputs' names.
    """
    probe()
    from dfc_artifact import step_outputs

    found = step_outputs(sdk(), Path(kept).resolve(), inputs, Path(output).resolve())
    return {"rungs": found, "meanings": MEANINGS}
