# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "tensorrt-rtx>=1.7,<1.8", "onnx>=1.17,<1.20", "numpy>=1.26", "cuda-bindings>=13,<14",
# ]
#
# [tool.edgedeploy]
# modules = ["trt_common"]
# ///
"""TensorRT-RTX: a typed ONNX model as an engine for one or several generations of RTX cards."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).resolve().with_name("trt_common")))
from trt_artifact import LOG, MODEL, keep_findings, kept_model, noted, sidecar, written
from trt_batch import check_batch, free_batch, input_shapes
from trt_build import built, configured
from trt_card import card
from trt_commands import command_line
from trt_faults import BadInput, Missing, Unsupported, require
from trt_inspect import inspected
from trt_log import log_of
from trt_options import COMMON, check_precision, checked
from trt_parse import check_types, parsed
from trt_profiles import shapes_for

if TYPE_CHECKING:
    from types import ModuleType

    Table = dict[str, Any]

__all__ = ["BadInput", "Missing", "Unsupported"]
TOOL = "tensorrt-rtx"
NAME = "TensorRT-RTX"
FLAVOUR = "tensorrt_rtx"
INSTALL = "pip install 'tensorrt-rtx>=1.7,<1.8' (x86-64, Linux or Windows)"
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")
FOUND, PORTABLE = "found", "portable"
REMEDY = "Say which cards it is for: `--compute-capability 8.6,8.9`."
# what the vendor promises of an engine that names none
ANY = "compute capability 8.0 and later"
OPTIONS: Table = {
    **{key: value for key, value in COMMON.items() if key != "sparsity"},
    # as a list or with commas; "found" is the card here, "portable" names none
    "compute_capability": FOUND,
}
# what the other product takes and this one does not, and why
REFUSED = {
    "sparsity": "it makes the same engine with and without",
    "timing_cache": "its timing cache is without effect since 1.2",
    "hardware_compatible": "name several cards in `compute_capability`, or take 'portable'",
    "version_compatible": "the lean runtime that this needs is not in its packages",
}


@functools.lru_cache(maxsize=1)
def library() -> ModuleType:
    """The tensorrt_rtx package."""
    try:
        return importlib.import_module("tensorrt_rtx")
    except (ImportError, OSError) as error:
        msg = f"{NAME} cannot be imported: {error}"
        raise Missing(msg, INSTALL) from error


def probe() -> Table:
    """The version of TensorRT-RTX, and the card where there is one: it is what "found" means."""
    tools = {TOOL: str(library().__version__)}
    if card().capability:
        tools["card"] = card().capability
    return {"tools": tools}


def compile_model(
    model: str, output: str, precision: str, calibration: str | None, options: Table
) -> Table:
    """`output/model.engine` and `model.json`, for all cards of the option `compute_capability`.

    The network is strongly typed: it computes in the types that `model` has, so a model in float16
    makes fp16, one with symmetric Q/DQ nodes int8; `precision` is what that has to be. Nothing is
    calibrated or kept from build to build. In `kept` beside `output` lie the ONNX file that was
    built, the log, `build.json`. No card is needed. Raises `Missing`, `Unsupported`, `BadInput`.
    """
    trt, tools = library(), probe()
    chosen = choose(options, precision)
    capabilities = resolved(chosen["compute_capability"], known(trt))
    kept = Path(output).resolve().parent / "kept"
    source = kept_model(model, kept)
    freed = free_batch(source, chosen)
    log = log_of(trt)
    with log.into(kept / LOG):
        builder = trt.Builder(log.logger)
        network = parsed(trt, builder, log.logger, str(source))
        check_types(network, precision, Path(model).name)
        if freed:
            check_batch(network)
        config = configured(trt, builder, chosen, tf32=precision == "tf32")
        config.num_compute_capabilities = len(capabilities)
        for place, capability in enumerate(capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, sm(capability)), place)
        engine = built(builder, network, config, chosen, log)
        warnings = log.warnings()
        inspection, why = inspected(trt, log, engine.data, kept)
    path = written(
        output,
        sidecar(
            network,
            engine,
            flavour=FLAVOUR,
            version=tools["tools"][TOOL],
            precision=precision,
            compute_capability=capabilities,
        ),
        engine,
    )
    findings = keep_findings(kept, network, engine, inspection)
    chips = " and ".join(map(sm, capabilities)) or ANY
    return {
        "path": str(path),
        "format": "tensorrt-rtx-engine",
        "kept": str(kept),
        "options": {**chosen, "compute_capability": capabilities or PORTABLE},
        "notes": noted(findings, chips, why),
        "warnings": warnings,
        **tools,
        **({"virtual": True} if "+" in tools["tools"][TOOL] else {}),
    }


def prepare_model(
    model: str, output: str, precision: str, calibration: str | None, options: Table
) -> Table:
    """`model.onnx` as the builder would get it, and `commands.txt`: the vendor's own command."""
    chosen = choose(options, precision)
    folder = Path(output).resolve()
    source = kept_model(model, folder)
    free_batch(source, chosen)
    shapes = input_shapes(source)
    require(chosen["profiles"], shapes, "profiles: input")
    found = {name: shapes_for(name, shape, chosen) for name, shape in shapes.items()}
    profiles = {name: profile for name, profile in found.items() if profile}
    asked = chosen["compute_capability"]
    if asked == FOUND:
        how = ["--useGpu"]
    else:
        how = [] if asked == PORTABLE else ["--computeCapabilities=" + digits(asked)]
    if precision != "tf32":
        how.append("--noTF32")
    script = command_line(
        "tensorrt_rtx", {**chosen, "profiles": profiles}, [*how, "--skipInference"]
    )
    Path(folder, "commands.txt").write_text(script, encoding="utf-8")
    return {
        "files": ["commands.txt", MODEL],
        "options": chosen,
        "script": script,
        "notes": [],
        "warnings": [],
    }


def choose(options: Table, precision: str) -> Table:
    """The options over the defaults, with `compute_capability` as a list unless it is a word."""
    check_precision(precision, PRECISIONS, NAME)
    given = dict(options)
    for name, why in REFUSED.items():
        if given.pop(name, None) not in (None, False, "none"):
            msg = f"option {name}: {NAME} has none; {why}"
            raise Unsupported(msg, "Leave it out.")
    asked = given.pop("compute_capability", FOUND)
    chosen = checked(given, OPTIONS)
    words = asked.split(",") if isinstance(asked, str) else asked
    words = words if isinstance(words, (list, tuple)) else [words]
    names = [str(word).strip() for word in words]
    if names in ([FOUND], [PORTABLE]):
        return {**chosen, "compute_capability": names[0]}
    wrong = [name for name in names if not re.fullmatch(r"\d{1,2}\.\d", name)]
    if wrong or not names:
        msg = f"option compute_capability is {asked!r}, expected numbers such as 8.6, or {FOUND!r}"
        raise BadInput(msg, REMEDY)
    return {**chosen, "compute_capability": sorted(set(names), key=number)}


def resolved(asked: list[str] | str, names: list[str]) -> list[str]:
    """The compute capabilities to build for; none where the engine is to be portable.

    Raises `Missing` where the card here is meant and there is none, `Unsupported` for one that
    this version does not know.
    """
    if asked == PORTABLE:
        return []
    if asked == FOUND:
        here = card()
        if not here.capability:
            msg = f"compute_capability is {FOUND!r}, and no card was found: {here.why}"
            raise Missing(msg, REMEDY)
        asked = [here.capability]
    for capability in asked:
        if capability not in names:
            msg = f"{NAME} {library().__version__} has no compute capability {capability}"
            raise Unsupported(msg, f"It has {', '.join(names)}.")
    return list(asked)


def known(trt: ModuleType) -> list[str]:
    """The compute capabilities that this version builds for."""
    found = (re.fullmatch(r"SM(\d+)(\d)", name) for name in trt.ComputeCapability.__members__)
    return sorted((f"{match[1]}.{match[2]}" for match in found if match), key=number)


def number(capability: str) -> tuple[int, ...]:
    """What compute capabilities are ordered by."""
    return tuple(int(part) for part in capability.split("."))


def sm(capability: str) -> str:
    """8.6 as the library calls it: SM86."""
    return "SM" + capability.replace(".", "")


def digits(capabilities: list[str]) -> str:
    """8.6 and 8.9 as the vendor's command takes them: 86,89."""
    return ",".join(each.replace(".", "") for each in capabilities)
