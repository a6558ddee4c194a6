"""Several workloads on one device at once: what each gets of it, beside what it gets alone."""

import base64
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedeploy.calibrate import calibrate, save_arrays
from edgedeploy.compile import compile_model
from edgedeploy.compilers import Compilers
from edgedeploy.deployment import Session, artifact_place
from edgedeploy.errors import ConnectionLostError, EdgeDeployError, StrictError
from edgedeploy.export import Exported
from edgedeploy.records import Artifact, Calibration, Share, Target, Together
from edgedeploy.share import parameters
from edgedeploy.stats import percentile
from edgedeploy.store import Job
from edgedeploy.target import runtime_program
from edgedeploy.toolchain import merged_options
from edgedeploy.verify import read_groups
from edgedeploy.workload import Workload

SECONDS = 2.0


@dataclass
class Neighbour:
    """A workload that runs beside the one measured, exported."""

    workload: Workload
    exported: Exported


def together(
    session: Session,
    artifact: Artifact,
    target: Target,
    job: Job,
    neighbours: Callable[[], list[Neighbour]],
    *,
    compilers: Compilers,
    exported: Exported,
) -> Together:
    """Load the neighbours onto the session's device and run all models at once.

    What cannot be had is told as the reason: the row's own measurement stands without it.
    """
    program = runtime_program(target.profiler)
    if parameters(program, "beside") is None:
        reason = f"runtime {target.profiler} holds one model at a time"
        return Together(window_s=0.0, reason=reason)
    try:
        found = neighbours()
        artifacts = [_compiled(each, artifact, target, job, compilers) for each in found]
        notes = _downgrades(found, artifacts)
        if job.strict and notes:
            msg = f"the toolchain did less than asked: {'; '.join(notes)}"
            raise StrictError(msg, hint="Give it what it lacks, or leave --strict out.")
        answer = _measured(session, target, exported, list(zip(found, artifacts, strict=True)))
    except (ConnectionLostError, StrictError):
        raise
    except EdgeDeployError as err:
        return Together(window_s=0.0, reason=err.message)
    names = [job.workload.name, *(each.workload.name for each in found)]
    return Together(
        window_s=answer["window_s"],
        notes=notes,
        shares=tuple(
            _share(name, made, model, answer["window_s"])
            for name, made, model in zip(
                names, [artifact, *artifacts], answer["models"], strict=True
            )
        ),
    )


def _downgrades(found: list[Neighbour], artifacts: list[Artifact]) -> tuple[str, ...]:
    """Where the toolchain did less than asked for a neighbour."""
    return tuple(
        f"{neighbour.workload.name}: {downgrade}"
        for neighbour, artifact in zip(found, artifacts, strict=True)
        for downgrade in artifact.downgrades
    )


def _compiled(
    neighbour: Neighbour, artifact: Artifact, target: Target, job: Job, compilers: Compilers
) -> Artifact:
    workload, exported = neighbour.workload, neighbour.exported

    def calibration() -> Calibration:
        data, _ = calibrate(
            workload,
            exported.inputs,
            by_default=target.calibration_count,
            use_cache=job.use_cache,
        )
        return data

    made, _ = compile_model(
        exported.model,
        target,
        artifact.precision,
        workload,
        compilers=compilers,
        calibration=calibration,
        use_cache=job.use_cache,
    )
    return made


def _measured(
    session: Session,
    target: Target,
    exported: Exported,
    others: list[tuple[Neighbour, Artifact]],
) -> dict[str, Any]:
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgedeploy-together-"))

        def inputs_of(model: Exported, name: str) -> str:
            path = Path(scratch, f"{name}.npz")
            arrays = read_groups(Path(model.model.reference))["inputs"]
            save_arrays(path, {key: value[:1] for key, value in arrays.items()})
            return stack.enter_context(session.device.exchange(path, None))[0]

        described = []
        for place, (neighbour, artifact) in enumerate(others):
            requested = merged_options(target.run_options, neighbour.workload.run_options, target)
            described.append(
                {
                    "artifact": artifact_place(session.device, artifact)[1],
                    "inputs": inputs_of(neighbour.exported, f"other-{place}"),
                    "options": {**requested, **session.device.run_options()},
                }
            )
        return session.worker.call(
            "together.measure",
            inputs=inputs_of(exported, "own"),
            others=described,
            seconds=SECONDS,
        )


def _share(name: str, artifact: Artifact, model: dict[str, Any], window_s: float) -> Share:
    durations = np.frombuffer(base64.b64decode(model["duration_ns"]), dtype="<i8") / 1e9
    return Share(
        workload=name,
        count=model["count"],
        rate_hz=model["count"] / window_s,
        alone_rate_hz=model["alone_rate_hz"],
        latency_p50_s=percentile(durations, 0.5),
        latency_p99_s=percentile(durations, 0.99),
        artifact_sha256=artifact.sha256,
    )
