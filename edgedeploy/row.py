"""The stages of one row of a report: what each gave so far, and what a missing device leaves."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from edgedeploy.cache import Cached, CacheEvent
from edgedeploy.compile import Compilers, compile_model
from edgedeploy.deployment import Session, deployed, emulated, with_facts
from edgedeploy.errors import MissingError
from edgedeploy.evaluate import check_evaluation, evaluate
from edgedeploy.export import Exported
from edgedeploy.profile import RawSeries, profile
from edgedeploy.records import (
    Accuracy,
    Artifact,
    Calibration,
    Deployment,
    Emulation,
    Ladder,
    Measurement,
    Source,
    Stage,
    Target,
)
from edgedeploy.store import Job
from edgedeploy.target import runtime_program
from edgedeploy.verify import Emulator, read_groups, verify


class Progress(Protocol):
    """Told what is being done, by row; `share` is 0..1 of a stage that knows its length."""

    def __call__(self, row: str, stage: str, share: float) -> None: ...


class StageProgress(Protocol):
    """Told what is being done in one row."""

    def __call__(self, stage: str, share: float = 0.0) -> None: ...


def silent(row: str, stage: str, share: float) -> None:
    """No progress shown."""


@dataclass
class Hooks:
    """What a caller in the same process may put in the place of a stage."""

    progress: Progress = silent
    exported: Callable[[int], Exported] | None = None
    calibration: Calibration | None = None
    accuracy: Callable[[Session], Accuracy] | None = None


@dataclass
class RowState:
    """What is known of a row while its stages run."""

    target: Target
    precision: str
    stage: Stage = "export"
    artifact: Artifact | None = None
    deployment: Deployment | None = None
    ladder: Ladder | None = None
    measurement: Measurement | None = None
    emulation: Emulation | None = None
    raw: RawSeries = field(default_factory=dict)
    cached: dict[str, bool] = field(default_factory=dict)
    stage_s: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.target.name} {self.precision}"

    @contextlib.contextmanager
    def during(self, stage: Stage) -> Iterator[None]:
        """Time a stage, and remember which one it is in case it fails."""
        self.stage = stage
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stage_s[stage] = self.stage_s.get(stage, 0.0) + time.perf_counter() - start

    def note(self, *events: Cached) -> None:
        for cached in events:
            self.cached[cached.event.stage] = cached.event.outcome == "hit"


@dataclass
class Stages:
    """What the rows of one target share, and the stages each of them goes through."""

    job: Job
    hooks: Hooks
    exported: Exported
    compilers: Compilers
    calibration: Callable[[], tuple[Calibration, Cached | None]]
    events: list[CacheEvent]

    def run(self, state: RowState) -> None:
        """Compile, deploy, measure and verify; what is had so far stands in `state`."""
        job, target, hooks = self.job, state.target, self.hooks

        def progress(stage: str, share: float = 0.0) -> None:
            hooks.progress(state.name, stage, share)

        def calibration() -> Calibration:
            with state.during("calibrate"):
                found, cached = self.calibration()
            if cached:
                state.note(cached)
            state.stage = "compile"
            return found

        if target.emulator is not None:
            runtime_program(target.emulator)  # a wrong name shows before anything is compiled
        if not hooks.accuracy:
            check_evaluation(job.workload, self.exported.inputs)
        with state.during("compile"):
            state.artifact, events = compile_model(
                self.exported.model,
                target,
                state.precision,
                job.workload,
                compilers=self.compilers,
                calibration=calibration,
                use_cache=job.use_cache,
                progress=progress,
            )
        state.note(*events)
        self.events += [cached.event for cached in events]
        state.stage = "deploy"
        try:
            self._on_device(state, progress)
        except MissingError:
            if target.emulator is not None and state.measurement is None:
                self._emulate(state, progress)
            raise

    def _on_device(self, state: RowState, progress: StageProgress) -> None:
        job, target = self.job, state.target
        assert state.artifact is not None
        start = time.perf_counter()
        with deployed(
            state.artifact, target, job.workload, timeout_s=job.plan.timeout_s
        ) as session:
            state.stage_s["deploy"] = time.perf_counter() - start
            with state.during("profile"), tempfile.TemporaryDirectory() as scratch:
                inputs = read_groups(Path(self.exported.model.reference))["inputs"]
                state.measurement, state.raw = profile(
                    session, target, job.plan, inputs, Path(scratch), progress=progress
                )
                accuracy = self._accuracy(session, state.measurement.source, progress)
            state.measurement = msgspec.structs.replace(state.measurement, accuracy=accuracy)
            state.deployment = with_facts(session.deployment, state.measurement.facts)
            if job.with_ladder:
                emulator = None
                if target.emulator is not None:
                    emulator = partial(
                        emulated,
                        state.artifact,
                        target,
                        job.workload,
                        timeout_s=job.plan.timeout_s,
                    )
                self._verify(state, progress, session, emulator=emulator)

    def _emulate(self, state: RowState, progress: StageProgress) -> None:
        """What can be said of a device that is missing: accuracy and parity, marked emulated.

        The row fails for the missing device all the same; an emulator that fails is told in its
        place, since the artifact itself may be wrong.
        """
        job, target = self.job, state.target
        assert state.artifact is not None
        assert target.emulator is not None
        progress("emulate")
        start = time.perf_counter()
        with emulated(
            state.artifact, target, job.workload, timeout_s=job.plan.timeout_s
        ) as session:
            accuracy = self._accuracy(session, "emulated", progress)
            state.emulation = Emulation(
                program=target.emulator,
                accuracy=accuracy,
                tools=session.tools,
                duration_s=time.perf_counter() - start,
            )
            if job.with_ladder:
                self._verify(state, progress, session, by_emulator=True)
        state.stage = "deploy"

    def _accuracy(
        self, session: Session, source: Source, progress: StageProgress
    ) -> Accuracy | None:
        if self.hooks.accuracy:
            accuracy: Accuracy | None = self.hooks.accuracy(session)
        else:
            accuracy = evaluate(
                self.job.workload, self.exported.inputs, session, source=source, progress=progress
            )
        return accuracy and msgspec.structs.replace(accuracy, source=source)

    def _verify(
        self,
        state: RowState,
        progress: StageProgress,
        session: Session,
        *,
        emulator: Emulator | None = None,
        by_emulator: bool = False,
    ) -> None:
        assert state.artifact is not None
        progress("verify", 0.0)
        with state.during("verify"):
            state.ladder, cached = verify(
                self.exported.model,
                state.artifact,
                state.target,
                session,
                self.compilers,
                emulator=emulator,
                emulated=by_emulator,
                use_cache=self.job.use_cache,
            )
        state.note(cached)
        self.events.append(cached.event)
