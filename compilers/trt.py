# /// script
# requires-python = ">=3.8"
# dependencies = ["numpy>=1.17"]
#
# [tool.edgedeploy]
# modules = ["trt_common"]
# ///
"""TensorRT 10 and 11: a typed ONNX model as an engine for the card of this host, a Jetson's too."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).resolve().with_name("trt_common")))
sys.path.append(str(Path(__file__).resolve().with_suffix("")))
from trt_artifact import LOG, MODEL, keep_findings, kept_model, noted, sidecar, written
from trt_build import built, configured
from trt_card import card
from trt_commands import command_line
from trt_faults import NO_DRIVER, BadInput, Missing, Unsupported, require
from trt_inspect import inspected
from trt_log import log_of
from trt_onnx import read
from trt_options import COMMON, check_precision, checked
from trt_parse import REWRITE, check_types, parsed
from trt_place import DRIVER, remedy
from trt_profiles import shapes_for
from trt_sparsity import sparsity
from trt_timing import Timings

if TYPE_CHECKING:
    from types import ModuleType

    from trt_card import Card
    from trt_onnx import Graph

    Table = dict[str, Any]
    Thing = Any  # of the library: its classes cannot be named where it is not installed

__all__ = ["BadInput", "Missing", "Unsupported"]
TOOL = "tensorrt"
NAME = "TensorRT"
MAJORS = ("10", "11")
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")
# the least compute capability that has the arithmetic
LEAST = {"tf32": "8.0", "bf16": "8.0", "fp8": "8.9"}
COMPATIBLE = {"ampere_plus": "ampere+", "same_compute_capability": "sameComputeCapability"}
OPTIONS: Table = {
    **COMMON,
    "sparsity": True,  # where the weights of the model have it: they are looked at
    "timing_cache": True,
    "version_compatible": False,
    "hardware_compatible": ("none", *COMPATIBLE),
}
# ONNX operators without an importer, by onnx-tensorrt's docs/operators.md of 10.1-GA
NO_IMPORTER = frozenset(
    (
        *("AffineGrid", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr"),
        *("BitwiseXor", "BlackmanWindow", "CenterCropPad", "Col2Im", "Compress"),
        *("ConcatFromSequence", "ConvInteger", "DFT", "Det", "DynamicQuantizeLinear"),
        *("HammingWindow", "HannWindow", "ImageDecoder", "MatMulInteger", "MaxRoiPool"),
        *("MaxUnpool", "MelWeightMatrix", "Multinomial", "NegativeLogLikelihoodLoss", "Optional"),
        *("OptionalGetElement", "OptionalHasElement", "QLinearConv", "QLinearMatMul"),
        *("RegexFullMatch", "STFT", "SequenceAt", "SequenceConstruct", "SequenceEmpty"),
        *("SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap"),
        *("SoftmaxCrossEntropyLoss", "SplitToSequence", "StringConcat", "StringNormalizer"),
        *("StringSplit", "TfIdfVectorizer", "Unique"),
    )
)


@functools.lru_cache(maxsize=1)
def library() -> ModuleType:
    """The tensorrt package, of a major that this program knows."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    if importlib.util.find_spec(TOOL) is None:
        msg = f"{NAME} is not installed in {sys.executable} (Python {found})"
        raise Missing(msg, remedy())
    try:
        trt = importlib.import_module(TOOL)
    except (ImportError, OSError) as error:
        msg = f"{NAME} is installed in {sys.executable} and cannot be imported: {error}"
        raise Missing(
            msg, f"Its libraries are missing, or of another version. {remedy()}"
        ) from error
    version = str(trt.__version__)
    if version.partition(".")[0] not in MAJORS:
        msg = f"{NAME} 10 or 11 is wanted, and {version} is installed"
        raise Missing(msg, remedy())
    return trt


def probe() -> Table:
    """The version of TensorRT and the card: an engine is made by timing on it, and for it."""
    version = str(library().__version__)
    here = card()
    if here.why:
        msg = f"{NAME} {version} is here, and nothing to build on: {here.why}"
        raise Missing(msg, DRIVER)
    return {"tools": {TOOL: version, "card": f"{here.name} ({here.capability})"}}


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
    """`output/model.engine` and `model.json`, for the card of this host.

    The network is strongly typed: it computes in the types that `model` has, so a model in float16
    makes fp16, one with symmetric Q/DQ nodes int8 or fp8; `precision` is what that has to be. fp32
    is without TF32. Nothing is calibrated. In `states` the timing cache stays, by card and version.
    In `kept` beside `output` lie the ONNX file that was built, the log, what the engine's inspector
    tells. Raises `Missing`, `Unsupported`, `BadInput`.
    """
    trt, tools = library(), probe()
    here, version = card(), tools["tools"][TOOL]
    chosen = choose(options, precision)
    check_card(trt, chosen, precision, here)
    sparse = sparsity(read(model), Path(model).parent)
    kept = Path(output).resolve().parent / "kept"
    source = kept_model(model, kept)
    use_sparse = bool(chosen["sparsity"] and sparse.names)
    timings = Timings(states if chosen["timing_cache"] else None, here, version)
    log = log_of(trt)
    with log.into(kept / LOG):
        builder = builder_of(trt, log.logger)
        network = parsed(trt, builder, log.logger, str(source))
        check_types(network, precision, Path(model).name)
        settings = {**chosen, "sparsity": use_sparse}
        config = configured(trt, builder, settings, tf32=precision == "tf32")
        make_compatible(trt, config, chosen)
        timings.start(config)
        engine = built(builder, network, config, chosen, log)
        timed = timings.finish(config)
        warnings = log.warnings() + timings.warnings
        inspection, why = inspected(
            trt, log, engine.data, kept, host_code=chosen["version_compatible"]
        )
    described = sidecar(
        network,
        engine,
        flavour=TOOL,
        version=version,
        precision=precision,
        compute_capability=[here.capability],
    )
    described["version_compatible"] = chosen["version_compatible"]
    described["hardware_compatible"] = chosen["hardware_compatible"]
    path = written(output, described, engine)
    findings = keep_findings(kept, network, engine, inspection)
    notes = noted(findings, f"{here.name} ({here.capability})", why)
    notes += [timed] if timed else []
    notes += told_of(sparse, used=use_sparse)
    if options.get("sparsity") and not sparse.names:
        warnings.append("sparsity: no layer has 2:4 sparse weights, so it is left out")
    profiles = {name: shapes for name, shapes in engine.profiles.items() if shapes}
    return {
        "path": str(path),
        "format": "tensorrt-engine",
        "kept": str(kept),
        "options": {**chosen, "sparsity": use_sparse, "tf32": precision == "tf32"},
        "script": trtexec({**settings, "profiles": profiles}, precision),
        "notes": notes,
        "warnings": warnings,
        **tools,
        **({"virtual": True} if "+" in version else {}),
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
    """`model.onnx` as the builder would get it, and `commands.txt`: trtexec, to be run on the card.

    Operators that TensorRT has no importer for are refused by node, as its parser would.
    """
    chosen, graph = choose(options, precision), read(model)
    check_operators(graph)
    sparse = sparsity(graph, Path(model).parent)
    use_sparse = bool(chosen["sparsity"] and sparse.names)
    require(chosen["profiles"], [name for name, _ in graph.inputs], "profiles: input")
    found = {name: shapes_for(name, shape, chosen) for name, shape in graph.inputs}
    profiles = {name: shapes for name, shapes in found.items() if shapes}
    script = trtexec({**chosen, "sparsity": use_sparse, "profiles": profiles}, precision)
    folder = Path(output).resolve()
    kept_model(model, folder)
    Path(folder, "commands.txt").write_text(script, encoding="utf-8")
    return {
        "files": ["commands.txt", MODEL],
        "options": {**chosen, "sparsity": use_sparse, "tf32": precision == "tf32"},
        "script": script,
        "notes": told_of(sparse, used=use_sparse),
        "warnings": [],
    }


def choose(options: Table, precision: str) -> Table:
    """The options over the defaults; an unknown name, value or type is refused."""
    check_precision(precision, PRECISIONS, NAME)
    if "compute_capability" in options:
        msg = f"option compute_capability: {NAME} builds for the card that it runs on"
        raise Unsupported(msg, "Leave it out, or take hardware_compatible = 'ampere_plus'.")
    return checked(options, OPTIONS)


def check_card(trt: ModuleType, chosen: Table, precision: str, here: Card) -> None:
    """Refuse what the card here, or this version, does not have."""
    level = chosen["hardware_compatible"]
    least = LEAST.get(precision, "8.0" if level == "ampere_plus" else "0.0")
    if number(here.capability) < number(least):
        what = precision if precision in LEAST else f"hardware_compatible = {level!r}"
        msg = f"{what} needs compute capability {least}, and {here.name} has {here.capability}"
        raise Unsupported(msg, "Take fp16, int8 or fp32, or another card.")
    if level == "none":
        return
    if here.integrated:
        msg = f"hardware_compatible = {level!r}: a Jetson's engines run on its own kind only"
        raise Unsupported(msg, "Leave it out, and build on each kind of device.")
    if not hasattr(trt.HardwareCompatibilityLevel, level.upper()):
        msg = f"hardware_compatible = {level!r}: {NAME} {trt.__version__} does not have it"
        raise Unsupported(msg, "Take 'ampere_plus', or a newer version.")


def make_compatible(trt: ModuleType, config: Thing, chosen: Table) -> None:
    """Tell the builder which other versions and cards the engine is for."""
    if chosen["version_compatible"]:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if chosen["hardware_compatible"] != "none":
        level = getattr(trt.HardwareCompatibilityLevel, chosen["hardware_compatible"].upper())
        config.hardware_compatibility_level = level


def builder_of(trt: ModuleType, logger: Thing) -> Thing:
    """A builder; without a driver the library's constructor gives nothing."""
    try:
        return trt.Builder(logger)
    except TypeError as error:
        if "nullptr" not in str(error):
            raise
        msg = f"{NAME} {trt.__version__} finds {NO_DRIVER} that it can use, or no card"
        raise Missing(msg, DRIVER) from error


def check_operators(graph: Graph) -> None:
    """Refuse operators that TensorRT has no importer for, by node."""
    standard = ("", "ai.onnx")
    lacking = [
        f"node {node['name'] or node['outputs'][0]!r} ({node['op']})"
        for node in graph.nodes
        if node["op"] in NO_IMPORTER and node["domain"] in standard
    ]
    if lacking:
        listed = "; ".join(lacking[:3]) + ("; and more" if len(lacking) > 3 else "")
        msg = f"{NAME} has no such operator: {listed}"
        raise Unsupported(msg, REWRITE)


def told_of(sparse: Thing, *, used: bool) -> list[str]:
    """A line about 2:4 sparsity where a model has it."""
    if not sparse.names:
        return []
    text = f"2:4 sparse weights in {sparse}"
    return [text + (": sparse kernels allowed" if used else ", not made use of: sparsity = false")]


def trtexec(chosen: Table, precision: str) -> str:
    """The same build by the vendor's own command, of either major."""
    more = ["--stronglyTyped", "--profilingVerbosity=detailed", "--exportLayerInfo=layers.json"]
    if precision != "tf32":
        more.append("--noTF32")
    if chosen["sparsity"]:
        more.append("--sparsity=enable")
    if chosen["version_compatible"]:
        more.append("--versionCompatible")
    if chosen["hardware_compatible"] != "none":
        more.append(f"--hardwareCompatibilityLevel={COMPATIBLE[chosen['hardware_compatible']]}")
    if chosen["timing_cache"]:
        more.append("--timingCacheFile=timing.cache")
    return command_line("trtexec", chosen, [*more, "--skipInference"])


def number(capability: str) -> tuple[int, ...]:
    """What compute capabilities are ordered by."""
    return tuple(int(part) for part in capability.split("."))
