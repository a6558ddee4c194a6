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
from edgedeploy.compile import compile_model, prepare_without_toolchain
from edgedeploy.compilers import Compilers
from edgedeploy.deployment import Session, deployed, emulated, with_facts
from edgedeploy.errors import ConnectionLostError, EdgeDeployError, MissingError, StrictError
from edgedeploy.evaluate import check_evaluation, evaluate
from edgedeploy.export import Exported
from edgedeploy.profile import RawSeries, profile
from edgedeploy.records import (
    Accuracy,
    Approximation,
    Artifact,
    Calibration,
    Deployment,
    Emulation,
    Ladder,
    Measurement,
    Missed,
    Preparation,
    Source,
    Stage,
    Target,
    Together,
)
from edgedeploy.store import Job
from edgedeploy.target import runtime_program
from edgedeploy.together import Neighbour, together
from edgedeploy.verify import Emulator, read_groups, verify

# before each new attempt over a link that was lost; a host that reboots takes most of a minute
RETRY_WAITS_S = (2.0, 60.0)


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
    preparation: Preparation | None = None
    emulation: Emulation | None = None
    lost: bool = False
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
    preparation_folder: Callable[[str, str], Path]
    neighbours: Callable[[], list[Neighbour]] = list

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

        for name in (target.profiler, target.emulator):
            if name is not None:
                runtime_program(name)  # a wrong one shows before anything is compiled
        if not hooks.accuracy:
            check_evaluation(job.workload, self.exported.inputs)
        try:
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
        except ConnectionLostError:  # to a compiler beside the device
            state.lost = True
            raise
        except MissingError:
            self._without_toolchain(state, calibration, progress)
            raise
        state.note(*events)
        self.events += [cached.event for cached in events]
        if job.strict and state.artifact.downgrades:
            msg = f"the toolchain did less than asked: {'; '.join(state.artifact.downgrades)}"
            hint = "Give it what it lacks, ask for what it did, or leave --strict out."
            raise StrictError(msg, hint=hint, log=state.artifact.log)
        state.stage = "deploy"
        try:
            self._with_retries(state, progress)
        except MissingError:
            if target.emulator is not None and state.measurement is None:
                self._emulate(state, progress)
            elif state.measurement is None:
                self._approximate(state, calibration, progress)
            raise

    def _with_retries(self, state: RowState, progress: StageProgress) -> None:
        """Measure, and begin anew where the link to the device's host went away meanwhile."""
        lost: list[Missed] = []
        for wait_s in (*RETRY_WAITS_S, None):
            try:
                self._on_device(state, progress)
            except (ConnectionLostError, MissingError) as err:
                # once it was there, a host that does not answer is one that went away
                state.lost = bool(lost) or isinstance(err, ConnectionLostError)
                if wait_s is None or not state.lost:
                    raise
                state.measurement, state.raw = None, {}
                lost.append(Missed(what="connection", reason=f"{err.message}; measured anew"))
                progress("reconnect")
                time.sleep(wait_s)
                continue
            break
        if lost and state.measurement is not None:
            missed = (*state.measurement.missed, *lost)
            state.measurement = msgspec.structs.replace(state.measurement, missed=missed)

    def _without_toolchain(
        self, state: RowState, calibration: Callable[[], Calibration], progress: StageProgress
    ) -> None:
        """What can be done while a toolchain is missing: what it would be given, and an accuracy
        by the target's approximation where that was asked for.
        """
        progress("prepare")
        with contextlib.suppress(MissingError):  # the toolchain is, which is told already
            state.preparation = prepare_without_toolchain(
                self.exported.model,
                state.target,
                state.precision,
                self.job.workload,
                compilers=self.compilers,
                calibration=calibration,
                folder=self.preparation_folder(state.target.name, state.precision),
            )
        self._approximate(state, calibration, progress)
        state.stage = "compile"

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
                measured, state.raw = profile(
                    session,
                    target,
                    job.plan,
                    inputs,
                    Path(scratch),
                    virtual=state.artifact.virtual,
                    progress=progress,
                )
                accuracy = self._accuracy(session, measured.source, progress)
            state.measurement = msgspec.structs.replace(
                measured, accuracy=accuracy, together=self._together(state, session, progress)
            )
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
                self._verify(state, progress, session, artifact=state.artifact)
        state.stage = "deploy"

    def _together(
        self, state: RowState, session: Session, progress: StageProgress
    ) -> Together | None:
        if not self.job.beside:
            return None
        assert state.artifact is not None
        progress("together")
        return together(
            session,
            state.artifact,
            state.target,
            self.job,
            self.neighbours,
            compilers=self.compilers,
            exported=self.exported,
        )

    def _approximate(
        self, state: RowState, calibration: Callable[[], Calibration], progress: StageProgress
    ) -> None:
        """An accuracy and parity by the toolchain here that the target says is like its own."""
        like = state.target.approximation
        if not self.job.emulate or like is None:
            return
        try:
            self._approximated(state, like, calibration, progress)
        except EdgeDeployError as err:  # what is missing is told all the same
            state.emulation = Emulation(program=like.profiler, note=f"none: {err.message}")

    def _approximated(
        self,
        state: RowState,
        like: Approximation,
        calibration: Callable[[], Calibration],
        progress: StageProgress,
    ) -> None:
        job = self.job
        progress("emulate")
        start = time.perf_counter()
        here = msgspec.structs.replace(
            state.target,
            transport="local",
            compiler=like.compiler,
            quantizer=like.quantizer,
            profiler=like.profiler,
            emulator=None,
            approximation=None,
            instruments=(),
            rewrites=(),
            memory_bytes={},
            compile_options=like.compile_options,
            quantize_options=like.quantize_options,
            run_options=like.run_options,
            source="emulated",
        )
        # the options of the device's own toolchain are not this one's
        plain = msgspec.structs.replace(
            job.workload, compile_options={}, quantize_options={}, run_options={}, end_nodes=()
        )
        artifact, events = compile_model(
            self.exported.model,
            here,
            state.precision,
            plain,
            compilers=self.compilers,
            calibration=calibration,
            use_cache=job.use_cache,
        )
        self.events += [cached.event for cached in events]
        with deployed(artifact, here, plain, timeout_s=job.plan.timeout_s) as session:
            accuracy = self._accuracy(session, "emulated", progress)
            state.emulation = Emulation(
                program=like.profiler,
                note=like.note,
                accuracy=accuracy,
                tools=session.tools,
                duration_s=time.perf_counter() - start,
            )
            if job.with_ladder:
                self._verify(state, progress, session, artifact=artifact, target=here)

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
        artifact: Artifact | None = None,
        target: Target | None = None,
    ) -> None:
        """The parity ladder; `artifact` is given where an emulator runs it, `target` where that is
        not the row's own.
        """
        artifact_run = artifact or state.artifact
        assert artifact_run is not None
        progress("verify", 0.0)
        with state.during("verify"):
            state.ladder, cached = verify(
                self.exported.model,
                artifact_run,
                target or state.target,
                session,
                self.compilers,
                emulator=emulator,
                emulated=artifact is not None,
                use_cache=self.job.use_cache,
            )
        state.note(cached)
        self.events.append(cached.event)
