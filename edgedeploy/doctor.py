"""What is there and what is not: every target, toolchain and instrument, with the remedy."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import msgspec

from edgedeploy import container
from edgedeploy.devices import Device, open_device
from edgedeploy.errors import ConnectionLostError, EdgeDeployError
from edgedeploy.interpreter import preview, variable
from edgedeploy.inventory import host_of, lacks_host, read_inventory
from edgedeploy.records import Record, Target
from edgedeploy.share import shared_files
from edgedeploy.target import places_of, target_files
from edgedeploy.worker import SERVE, Worker

Kind = Literal["compiler", "runtime", "instrument"]
KINDS: tuple[tuple[Kind, str], ...] = (
    ("compiler", "compilers"),
    ("runtime", "profilers/runtime"),
    ("instrument", "profilers/instrument"),
)
PROBE_TIMEOUT_S = 60.0
# Hosts asked at a time: one that does not answer keeps no other waiting.
HOSTS = 8
LOCK = "doctor"


class ProgramCheck(Record):
    """One program: found with versions, or the reason and the remedy, and its interpreter.

    `host` is the other host on which it was asked, "" for this one.
    """

    kind: Kind
    name: str
    found: bool
    versions: dict[str, str]
    interpreter: str
    interpreter_kind: Literal["named", "current", "isolated", "container", "remote"]
    interpreter_why: str
    reason: str = ""
    remedy: str = ""
    host: str = ""


class TargetCheck(Record):
    """One target: whether it can be deployed to from here, and what it lacks."""

    name: str
    board: str
    ready: bool
    lacks: tuple[str, ...] = ()
    power: str = ""
    problem: str = ""
    host: str = ""


Checks = dict[tuple[Kind, str], ProgramCheck]


class Diagnosis(Record):
    """All checks of `edgedeploy doctor`."""

    targets: tuple[TargetCheck, ...]
    programs: tuple[ProgramCheck, ...]


def examine() -> Diagnosis:
    """Probe every program in the interpreter chosen for it, and what runs beside a device on
    another host over there; makes no environment.

    Raises `InputError` for an inventory of devices that is wrong.
    """
    read_inventory()
    here = [(kind, path) for kind, folder in KINDS for path in shared_files(folder, ".py").values()]
    found = [each for name in sorted(target_files()) for each in _places(name)]
    targets = [each for each in found if isinstance(each, Target)]
    with ThreadPoolExecutor(max_workers=2) as pool, ThreadPoolExecutor(max_workers=HOSTS) as hosts:
        reaching = hosts.map(_device_problem, targets)
        probing = pool.map(lambda pair: check(*pair), here)
        problems = {t.name: problem for t, problem in zip(targets, reaching, strict=True)}
        by_host: dict[str, list[Target]] = {}
        for target in targets:
            if host_of(target) and not problems[target.name]:
                by_host.setdefault(host_of(target), []).append(target)
        there: dict[str, Checks] = {}
        for checks, in_the_way in hosts.map(_over_there, by_host.values()):
            there |= checks
            problems |= in_the_way
        programs = list(probing)
    known: Checks = {(each.kind, each.name): each for each in programs}
    remote = {
        (each.host, each.interpreter, *key): each
        for checks in there.values()
        for key, each in checks.items()
    }
    return Diagnosis(
        targets=tuple(
            _target(each, problems[each.name], known, there.get(each.name))
            if isinstance(each, Target)
            else each
            for each in found
        ),
        programs=(*programs, *remote.values()),
    )


def check(kind: Kind, program: Path) -> ProgramCheck:
    """Probe one program."""
    try:
        chosen = container.preview(program) if kind == "compiler" else preview(program)
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

    interpreter_kind, path, why = chosen

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
        with (
            container.serve(program)
            if interpreter_kind == "container"
            else Worker(program.stem, [path, str(SERVE), str(program)])
        ) as worker:
            answer = worker.call("probe", timeout_s=PROBE_TIMEOUT_S)
    except EdgeDeployError as err:
        return result({}, err.message, err.hint)
    return result(answer.get("tools", {}))


def _places(name: str) -> list[Target] | list[TargetCheck]:
    try:
        return places_of(name)
    except EdgeDeployError as err:
        return [TargetCheck(name=name, board="", ready=False, problem=err.message)]


def _device_problem(target: Target) -> str:
    """Why a target's device cannot be reached; "" where it can."""
    if remedy := lacks_host(target):
        return f"a host: {remedy}"
    try:
        open_device(target).check()
    except EdgeDeployError as err:
        return _told(err)
    return ""


def _over_there(targets: list[Target]) -> tuple[dict[str, Checks], dict[str, str]]:
    """The programs of targets on one host, asked there, and what was in the way; by target."""
    found: dict[str, Checks] = {}
    problems: dict[str, str] = {}
    lost = ""
    for target in targets:
        if lost:
            problems[target.name] = lost
            continue
        try:
            found[target.name] = _asked_there(target)
        except EdgeDeployError as err:
            problems[target.name] = _told(err)
            lost = _told(err) if isinstance(err, ConnectionLostError) else ""
    return found, problems


def _asked_there(target: Target) -> Checks:
    wanted: list[tuple[Kind, str, str]] = [("runtime", "profilers/runtime", target.profiler)]
    wanted += [("instrument", "profilers/instrument", each) for each in target.instruments]
    if target.compile_on == "device":
        wanted.append(("compiler", "compilers", target.compiler))
    checks: Checks = {}
    with open_device(_unlocked(target)) as device:
        for kind, folder, name in wanted:
            program = shared_files(folder, ".py").get(name)
            if program is not None:
                checks[kind, name] = _check_there(kind, program, target, device)
    return checks


def _unlocked(target: Target) -> Target:
    """The target with a lock of our own: what can be asked is no measurement, nor waits for one."""
    ssh = {**target.device_options["ssh"], "lock": LOCK}
    return msgspec.structs.replace(target, device_options={**target.device_options, "ssh": ssh})


def _check_there(kind: Kind, program: Path, target: Target, device: Device) -> ProgramCheck:
    python = str(target.device_options.get("ssh", {}).get("python", "python3"))
    versions: dict[str, str] = {}
    reason = remedy = ""
    try:
        with device.worker(program, timeout_s=PROBE_TIMEOUT_S) as worker:
            versions = worker.call("probe").get("tools", {})
    except ConnectionLostError:
        raise
    except EdgeDeployError as err:
        reason, remedy = err.message, err.hint
    return ProgramCheck(
        kind=kind,
        name=program.stem,
        found=not reason,
        versions=versions,
        interpreter=python,
        interpreter_kind="remote",
        interpreter_why=f"{python} on {host_of(target)}",
        reason=reason,
        remedy=remedy,
        host=host_of(target),
    )


def _target(target: Target, problem: str, here: Checks, there: Checks | None) -> TargetCheck:
    """`there` are the checks of what runs beside a device on another host."""
    elsewhere = target.transport == "ssh"
    beside = there or {} if elsewhere else here
    needed: list[tuple[Kind, str, Checks]] = []
    if target.compile_on != "device":
        needed.append(("compiler", target.compiler, here))
    elif not (elsewhere and problem):
        needed.append(("compiler", target.compiler, beside))
    if not (elsewhere and problem):
        needed.append(("runtime", target.profiler, beside))
    if target.quantizer and target.quantizer != target.compiler:
        needed.append(("compiler", target.quantizer, here))
    lacks = []
    for kind, name, checks in needed:
        found = checks.get((kind, name))
        if found is None:
            lacks.append(f"{kind} {name}: there is no such program")
        elif not found.found:
            place = f" on {found.host}" if found.host else ""
            lacks.append(f"{kind} {name}{place}: {found.reason}")
    if problem:
        lacks.append(problem)
    power = "not known" if elsewhere and problem else _power(target, beside)
    return TargetCheck(
        name=target.name,
        board=target.board,
        ready=not lacks,
        lacks=tuple(lacks),
        power=power,
        host=host_of(target),
    )


def _power(target: Target, checks: Checks) -> str:
    """The instruments of a target that are there, or why there is none."""
    usable, reasons = [], []
    for instrument in target.instruments:
        found = checks.get(("instrument", instrument))
        if found is None:
            reasons.append(f"{instrument}: there is no such program")
        elif found.found:
            usable.append(instrument)
        else:
            reasons.append(f"{instrument}: {found.reason}")
    return ", ".join(usable) or "none (" + "; ".join(reasons or ["no instrument named"]) + ")"


def _told(err: EdgeDeployError) -> str:
    return f"device: {err.message}. {err.hint}" if err.hint else f"device: {err.message}"
