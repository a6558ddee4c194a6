"""The verbs of the command line that do one stage alone: export, compile, verify."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedeploy.errors import GateError, MissingError
from edgedeploy.options import (
    SOURCES,
    ComputeCapability,
    Containers,
    ExplainCache,
    Json,
    NoCache,
    Port,
    TargetNames,
    WorkloadOptions,
    expanded,
)
from edgedeploy.say import answer, explain, say

if TYPE_CHECKING:
    from edgedeploy.cache import CacheEvent
    from edgedeploy.compilers import Compilers
    from edgedeploy.export import Exported
    from edgedeploy.records import Artifact, Calibration, Ladder, Target
    from edgedeploy.workload import Workload

WorkloadName = Annotated[str, typer.Argument(metavar="WORKLOAD", help=SOURCES)]


@expanded
def export(
    *,
    options: WorkloadOptions,
    workload: WorkloadName,
    opset: Annotated[int, typer.Option(min=1, help="The operator set asked for.")] = 18,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Copy it here.")] = None,
    no_cache: NoCache = False,
    explain_cache: ExplainCache = False,
    json: Json = False,
) -> None:
    """Export a workload's model to checked, static, simplified ONNX."""
    from edgedeploy.export import export as export_stage
    from edgedeploy.show import model_lines, progress_bar

    with progress_bar() as progress:
        made, cached = export_stage(
            options.workload(workload),
            opset,
            use_cache=not no_cache,
            progress=lambda stage: progress(workload, stage, 0.0),
        )
    explain([cached.event], explain_cache)
    if output:
        _copy(Path(made.model.path), output)
    answer(made.model, json, lambda: model_lines(made.model))


@expanded
def compile_model(
    *,
    options: WorkloadOptions,
    workload: WorkloadName,
    target: TargetNames = "host",
    compute_capability: ComputeCapability = None,
    container: Containers = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Copy them here.")] = None,
    no_cache: NoCache = False,
    explain_cache: ExplainCache = False,
    json: Json = False,
) -> None:
    """Export and compile a workload's model for targets, without running it."""
    from edgedeploy.compilers import Compilers
    from edgedeploy.container import use
    from edgedeploy.show import artifact_lines, progress_bar
    from edgedeploy.target import load_targets

    made = options.workload(workload)
    events: list[CacheEvent] = []
    artifacts: list[Artifact] = []
    use(container or (), load_targets(target))
    with progress_bar() as progress, Compilers() as compilers:
        for found in load_targets(target, compute_capability=compute_capability):
            progress(found.name, "export", 0.0)
            exported = _exported(made, found, events, use_cache=not no_cache)
            artifacts += _artifacts(
                exported,
                found,
                made,
                options,
                compilers=compilers,
                events=events,
                use_cache=not no_cache,
            )
    explain(events, explain_cache)
    if output:
        for artifact in artifacts:
            _copy(Path(artifact.folder or artifact.path), output)
    answer(artifacts, json, lambda: artifact_lines(artifacts))


@expanded
def verify(
    *,
    options: WorkloadOptions,
    workload: WorkloadName,
    target: TargetNames = "host",
    port: Port = None,
    container: Containers = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 5 where a rung breaks.")
    ] = False,
    no_cache: NoCache = False,
    explain_cache: ExplainCache = False,
    json: Json = False,
) -> None:
    """Climb the parity ladder: source, ONNX, simplified, quantized, deployed."""
    from edgedeploy.compilers import Compilers
    from edgedeploy.container import use
    from edgedeploy.deployment import deployed, emulated
    from edgedeploy.show import ladder_lines, progress_bar
    from edgedeploy.target import load_targets
    from edgedeploy.verify import verify as verify_stage

    made = options.workload(workload)
    events: list[CacheEvent] = []
    ladders: dict[str, Ladder] = {}
    missing: list[MissingError] = []
    use(container or (), load_targets(target, port=port))
    with progress_bar() as progress, Compilers() as compilers:
        for found in load_targets(target, port=port):
            progress(found.name, "export", 0.0)
            exported = _exported(made, found, events, use_cache=not no_cache)
            for artifact in _artifacts(
                exported,
                found,
                made,
                options,
                compilers=compilers,
                events=events,
                use_cache=not no_cache,
            ):
                progress(f"{found.name} {artifact.precision}", "verify", 0.0)
                emulator = partial(emulated, artifact, found, made) if found.emulator else None
                climb = partial(verify_stage, exported.model, artifact, found)
                try:
                    with deployed(artifact, found, made) as session:
                        ladder, cached = climb(
                            session, compilers, emulator=emulator, use_cache=not no_cache
                        )
                except MissingError as err:  # the other targets' ladders stand
                    missing.append(err)
                    if emulator is None:
                        continue
                    with emulator() as session:
                        ladder, cached = climb(
                            session, compilers, emulated=True, use_cache=not no_cache
                        )
                events.append(cached.event)
                ladders[f"{found.name} {artifact.precision}"] = ladder
    explain(events, explain_cache)
    answer(ladders, json, lambda: ladder_lines(ladders))
    if missing:
        raise missing[0]
    broken = {name: ladder.first_broken for name, ladder in ladders.items() if ladder.first_broken}
    if strict and broken:
        msg = "; ".join(f"{name} breaks at rung {rung}" for name, rung in broken.items())
        raise GateError(msg, hint="The rung's limit and errors are in the table.")


def _exported(
    workload: "Workload", target: "Target", events: "list[CacheEvent]", *, use_cache: bool
) -> "Exported":
    from edgedeploy.export import export as export_stage

    made, cached = export_stage(workload, target.opset, use_cache=use_cache)
    events.append(cached.event)
    return made


def _artifacts(
    exported: "Exported",
    target: "Target",
    workload: "Workload",
    options: WorkloadOptions,
    *,
    compilers: "Compilers",
    events: "list[CacheEvent]",
    use_cache: bool,
) -> "list[Artifact]":
    from edgedeploy.calibrate import calibrate
    from edgedeploy.compile import compile_model, precisions_of

    def calibration() -> "Calibration":
        data, cached = calibrate(
            workload,
            exported.inputs,
            by_default=target.calibration_count,
            use_cache=use_cache,
        )
        events.append(cached.event)
        return data

    found = []
    for precision in precisions_of(target, exported.model, options.precisions()):
        artifact, cached = compile_model(
            exported.model,
            target,
            precision,
            workload,
            compilers=compilers,
            calibration=calibration,
            use_cache=use_cache,
        )
        events += [each.event for each in cached]
        found.append(artifact)
    return found


def _copy(source: Path, folder: Path) -> None:
    import shutil

    folder.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, folder, dirs_exist_ok=True)
    else:
        shutil.copy2(source, folder)
    say(f"copied to {folder}")
