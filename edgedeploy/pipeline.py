"""All stages for a workload on its targets; what fails becomes a row, and the run goes on."""

import contextlib
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from edgedeploy.cache import Cached, CacheEvent, cache_folder, storage_error
from edgedeploy.calibrate import calibrate, declared_inputs
from edgedeploy.compile import QUANTIZED, Compilers, compile_model, precisions_of
from edgedeploy.deployment import Session, deployed, with_facts
from edgedeploy.digest import load_memo, save_memo
from edgedeploy.errors import SEVERITY, EdgeDeployError, FailureKind
from edgedeploy.evaluate import check_evaluation, evaluate
from edgedeploy.export import Exported, export
from edgedeploy.figures import row_figures
from edgedeploy.profile import RawSeries, profile
from edgedeploy.records import (
    Accuracy,
    Artifact,
    Calibration,
    Deployment,
    Failure,
    Ladder,
    Measurement,
    Model,
    Row,
    Stage,
    Status,
    Target,
)
from edgedeploy.store import Job, Run
from edgedeploy.target import compiler_program
from edgedeploy.verify import read_groups, verify
from edgedeploy.worker import LOG_TAIL

STATUS: dict[FailureKind, Status] = {
    "failed": "failed",
    "input": "failed",
    "missing": "missing",
    "unsupported": "unsupported",
}
EXIT: dict[FailureKind, int] = {"failed": 1, "input": 2, "missing": 3, "unsupported": 4}


class Progress(Protocol):
    """Told what is being done, by row; `share` is 0..1 of a stage that knows its length."""

    def __call__(self, row: str, stage: str, share: float) -> None: ...


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
class _Row:
    """What is known of a row while its stages run."""

    target: Target
    precision: str
    stage: Stage = "export"
    artifact: Artifact | None = None
    deployment: Deployment | None = None
    ladder: Ladder | None = None
    measurement: Measurement | None = None
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


class Pipeline:
    """One job being done: models by opset, compilers kept warm, cache events."""

    def __init__(self, run: Run, hooks: Hooks | None = None) -> None:
        self.run = run
        self.job: Job = run.state.job
        self.hooks = hooks or Hooks()
        self.events: list[CacheEvent] = []
        self._prepared: Future[None] | None = None
        self._exported: dict[int, tuple[Exported, float, Cached | None]] = {}
        self._unexported: dict[int, EdgeDeployError] = {}
        self._calibrated: dict[int, tuple[Calibration, Cached | None]] = {}

    def execute(self) -> None:
        """Do every row not yet done. Raises what is wrong with the workload itself."""
        job = self.job
        load_memo(cache_folder())
        try:
            with (
                Compilers(timeout_s=job.plan.timeout_s) as compilers,
                ThreadPoolExecutor(max_workers=1) as self._ahead,
            ):
                planned = self._plan(compilers)
                self.run.clean()
                self.run.update(planned=tuple((t.name, p) for t, p in planned))
                for target, precision in planned:
                    if not self.run.has_row(target.name, precision):
                        self._row(target, precision, compilers)
            self.run.update(complete=True)
        finally:
            save_memo(cache_folder())

    def _plan(self, compilers: Compilers) -> list[tuple[Target, str]]:
        """Targets with their precisions; raises the first failed export if none succeeded."""
        planned = []
        for target in self.job.targets:
            precisions = self.job.precisions or target.precisions
            try:
                exported = self._export(target, compilers)
                precisions = precisions_of(target, exported.model, self.job.precisions)
            except EdgeDeployError as err:
                self._unexported[target.opset] = err
            planned += [(target, precision) for precision in dict.fromkeys(precisions)]
        if not self._exported:
            raise next(iter(self._unexported.values()))
        return planned

    def _export(self, target: Target, compilers: Compilers) -> Exported:
        opset = target.opset
        if opset in self._unexported:
            raise self._unexported[opset]
        if opset not in self._exported:
            start = time.perf_counter()
            cached: Cached | None = None
            if self.hooks.exported:
                exported = self.hooks.exported(opset)
            else:
                exported, cached = export(
                    self.job.workload,
                    opset,
                    use_cache=self.job.use_cache,
                    timeout_s=self.job.plan.timeout_s,
                    progress=lambda stage: self._warm(compilers, stage),
                )
                self.events.append(cached.event)
            if self._prepared:
                self._prepared.result()
            self.run.write_model(opset, exported)
            self._exported[opset] = (exported, time.perf_counter() - start, cached)
        return self._exported[opset][0]

    def _warm(self, compilers: Compilers, stage: str) -> None:
        """Let toolchains import and calibration data be read while the model is exported."""
        self.hooks.progress(self.job.workload.name, stage, 0.0)
        self._prepared = self._ahead.submit(self._prepare, compilers)

    def _prepare(self, compilers: Compilers) -> None:
        """One thing at a time: the export has the other core.

        What is missing or wrong shows in the stage that needs it.
        """
        for target in self.job.targets:
            wants_int8 = QUANTIZED in (self.job.precisions or target.precisions)
            name = target.quantizer if wants_int8 and target.quantizer else target.compiler
            with contextlib.suppress(EdgeDeployError):
                compilers.ready(compiler_program(name))
        with contextlib.suppress(EdgeDeployError):
            inputs = declared_inputs(self.job.workload)
            if inputs and self.job.workload.calibration and self.job.use_cache:
                calibrate(self.job.workload, inputs)

    def _calibration(self, exported: Exported, opset: int) -> tuple[Calibration, Cached | None]:
        if self.hooks.calibration:
            return self.hooks.calibration, None
        if opset not in self._calibrated:
            found, cached = calibrate(
                self.job.workload, exported.inputs, use_cache=self.job.use_cache
            )
            self.events.append(cached.event)
            self._calibrated[opset] = (found, cached)
        return self._calibrated[opset]

    def _row(self, target: Target, precision: str, compilers: Compilers) -> None:
        state = _Row(target, precision)
        if target.opset in self._unexported:
            error = self._unexported[target.opset]
            self.run.write_row(self._failed(state, None, error), None)
            return
        exported, export_s, export_cached = self._exported[target.opset]
        state.stage_s["export"] = export_s
        if export_cached:
            state.note(export_cached)
        try:
            self._stages(state, exported, compilers)
        except Exception as err:
            self.run.write_row(self._failed(state, exported.model, _typed(err)), None)
            return
        row = Row(
            run=self.run.id,
            workload=self.job.workload.name,
            target=target.name,
            board=target.board,
            precision=precision,
            status="ok",
            figures=row_figures(
                model=exported.model,
                artifact=state.artifact,
                measurement=state.measurement,
                series=state.raw,
                ladder=state.ladder,
                source=target.source,
            ),
            artifact=state.artifact,
            deployment=state.deployment,
            measurement=state.measurement,
            ladder=state.ladder,
            cached=state.cached,
            stage_s=state.stage_s,
        )
        self.run.write_row(row, state.raw)

    def _stages(self, state: _Row, exported: Exported, compilers: Compilers) -> None:
        job, target, hooks = self.job, state.target, self.hooks

        def progress(stage: str, share: float = 0.0) -> None:
            hooks.progress(state.name, stage, share)

        def calibration() -> Calibration:
            with state.during("calibrate"):
                found, cached = self._calibration(exported, target.opset)
            if cached:
                state.note(cached)
            state.stage = "compile"
            return found

        if not hooks.accuracy:
            check_evaluation(job.workload, exported.inputs)
        with state.during("compile"):
            state.artifact, events = compile_model(
                exported.model,
                target,
                state.precision,
                job.workload,
                compilers=compilers,
                calibration=calibration,
                use_cache=job.use_cache,
                progress=progress,
            )
        state.note(*events)
        self.events += [cached.event for cached in events]
        state.stage = "deploy"
        start = time.perf_counter()
        with deployed(
            state.artifact, target, job.workload, timeout_s=job.plan.timeout_s
        ) as session:
            state.stage_s["deploy"] = time.perf_counter() - start
            with state.during("profile"), tempfile.TemporaryDirectory() as scratch:
                inputs = read_groups(Path(exported.model.reference))["inputs"]
                state.measurement, state.raw = profile(
                    session, target, job.plan, inputs, Path(scratch), progress=progress
                )
                accuracy = (
                    hooks.accuracy(session)
                    if hooks.accuracy
                    else evaluate(
                        job.workload,
                        exported.inputs,
                        session,
                        source=target.source,
                        progress=progress,
                    )
                )
                if accuracy is not None:
                    accuracy = msgspec.structs.replace(accuracy, source=target.source)
            state.measurement = msgspec.structs.replace(state.measurement, accuracy=accuracy)
            state.deployment = with_facts(session.deployment, state.measurement.facts)
            if job.with_ladder:
                progress("verify")
                with state.during("verify"):
                    state.ladder, cached = verify(
                        exported.model,
                        state.artifact,
                        target,
                        session,
                        compilers,
                        use_cache=job.use_cache,
                    )
                state.note(cached)
                self.events.append(cached.event)

    def _failed(self, state: _Row, model: Model | None, err: EdgeDeployError) -> Row:
        return Row(
            run=self.run.id,
            workload=self.job.workload.name,
            target=state.target.name,
            board=state.target.board,
            precision=state.precision,
            status=STATUS[err.kind],
            figures=row_figures(
                model=model,
                artifact=state.artifact,
                measurement=None,
                series={},
                ladder=None,
                source=state.target.source,
            ),
            artifact=state.artifact,
            failure=Failure(
                target=state.target.name,
                stage=state.stage,
                kind=err.kind,
                message=err.message,
                hint=err.hint,
                log=err.log,
            ),
            cached=state.cached,
            stage_s=state.stage_s,
        )


def _typed(err: Exception) -> EdgeDeployError:
    """What ended a row, as an error users are shown: one row's trouble is not the others'."""
    if isinstance(err, EdgeDeployError):
        return err
    if isinstance(err, OSError):
        return storage_error(err, Path())
    log = "".join(traceback.format_exception(err))[-LOG_TAIL:]
    message = f"{type(err).__name__}: {err}"
    return EdgeDeployError(message, hint="The traceback is in the row's log.", log=log)


def exit_code(rows: tuple[Row, ...]) -> int:
    """0, or the code of the worst failure among the rows."""
    kinds = {row.failure.kind for row in rows if row.failure}
    return next((EXIT[kind] for kind in SEVERITY if kind in kinds), 0)
