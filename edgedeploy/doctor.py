"""What is there and what is not: every target, toolchain and instrument, with the remedy."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from edgedeploy.devices import open_device
from edgedeploy.errors import EdgeDeployError
from edgedeploy.interpreter import preview, variable
from edgedeploy.records import Record
from edgedeploy.share import shared_files
from edgedeploy.target import load_target, target_files
from edgedeploy.worker import SERVE, Worker

Kind = Literal["compiler", "runtime", "instrument"]
KINDS: tuple[tuple[Kind, str], ...] = (
    ("compiler", "compilers"),
    ("runtime", "profilers/runtime"),
    ("instrument", "profilers/instrument"),
)
PROBE_TIMEOUT_S = 60.0


class ProgramCheck(Record):
    """One program: found with versions, or the reason and the remedy, and its interpreter."""

    kind: Kind
    name: str
    found: bool
    versions: dict[str, str]
    interpreter: str
    interpreter_kind: Literal["named", "current", "isolated"]
    interpreter_why: str
    reason: str = ""
    remedy: str = ""


class TargetCheck(Record):
    """One target: whether it can be deployed to from here, and what it lacks."""

    name: str
    board: str
    ready: bool
    lacks: tuple[str, ...] = ()
    power: str = ""
    problem: str = ""


class Diagnosis(Record):
    """All checks of `edgedeploy doctor`."""

    targets: tuple[TargetCheck, ...]
    programs: tuple[ProgramCheck, ...]


def examine() -> Diagnosis:
    """Probe every program in the interpreter chosen for it; makes no environment."""
    found = [
        (kind, path) for kind, folder in KINDS for path in shared_files(folder, ".py").values()
    ]
    with ThreadPoolExecutor(max_workers=2) as pool:
        programs = tuple(pool.map(lambda pair: check(*pair), found))
    targets = tuple(_target(name, programs) for name in sorted(target_files()))
    return Diagnosis(targets=targets, programs=programs)


def check(kind: Kind, program: Path) -> ProgramCheck:
    """Probe one program."""
    try:
        interpreter_kind, path, why = preview(program)
    except EdgeDeployError as err:
        return ProgramCheck(
            kind=kind,
            name=program.stem,
            found=False,
            versions={},
            interpreter="",
            interpreter_kind="current",
            interpreter_why="its header cannot be read",
            reason=err.message,
            remedy=err.hint,
        )

    def result(versions: dict[str, str], reason: str = "", remedy: str = "") -> ProgramCheck:
        return ProgramCheck(
            kind=kind,
            name=program.stem,
            found=not reason,
            versions=versions,
            interpreter=path,
            interpreter_kind=interpreter_kind,
            interpreter_why=why,
            reason=reason,
            remedy=remedy,
        )

    if not Path(path).exists() and interpreter_kind == "isolated":
        remedy = f"Deploy to a target that uses it, or set {variable(program)}."
        return result({}, "its environment is not made yet", remedy)
    try:
        with Worker(program.stem, [path, str(SERVE), str(program)]) as worker:
            answer = worker.call("probe", timeout_s=PROBE_TIMEOUT_S)
    except EdgeDeployError as err:
        return result({}, err.message, err.hint)
    return result(answer.get("tools", {}))


def _target(name: str, programs: tuple[ProgramCheck, ...]) -> TargetCheck:
    try:
        target = load_target(name)
    except EdgeDeployError as err:
        return TargetCheck(name=name, board="", ready=False, problem=err.message)
    checks = {(check.kind, check.name): check for check in programs}
    needed: list[tuple[Kind, str]] = [("compiler", target.compiler), ("runtime", target.profiler)]
    if target.quantizer:
        needed.append(("compiler", target.quantizer))
    lacks = []
    for kind, program in dict.fromkeys(needed):
        found = checks.get((kind, program))
        if found is None:
            lacks.append(f"{kind} {program}: there is no such program")
        elif not found.found:
            lacks.append(f"{kind} {program}: {found.reason}")
    try:
        open_device(target).check()
    except EdgeDeployError as err:
        lacks.append(f"device: {err.message}")
    usable, reasons = [], []
    for instrument in target.instruments:
        found = checks.get(("instrument", instrument))
        if found is None:
            reasons.append(f"{instrument}: there is no such program")
        elif found.found:
            usable.append(instrument)
        else:
            reasons.append(f"{instrument}: {found.reason}")
    power = ", ".join(usable) or "none (" + "; ".join(reasons or ["no instrument named"]) + ")"
    return TargetCheck(
        name=name, board=target.board, ready=not lacks, lacks=tuple(lacks), power=power
    )
