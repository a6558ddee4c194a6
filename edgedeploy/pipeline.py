"""All stages for a workload on its targets; what fails becomes a row, and the run goes on."""

import contextlib
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from edgedeploy.cache import Cached, CacheEvent, cache_folder, storage_error
from edgedeploy.calibrate import calibrate, declared_inputs
from edgedeploy.compile import QUANTIZED, precisions_of
from edgedeploy.compilers import Compilers
from edgedeploy.digest import load_memo, save_memo
from edgedeploy.errors import SEVERITY, EdgeDeployError, FailureKind
from edgedeploy.export import Exported, export
from edgedeploy.figures import row_figures
from edgedeploy.records import (
    Calibration,
    Failure,
    Model,
    Row,
    Status,
    Target,
)
from edgedeploy.row import Hooks, RowState, Stages
from edgedeploy.store import Job, Run
from edgedeploy.target import compiler_program
from edgedeploy.together import Neighbour
from edgedeploy.worker import LOG_TAIL

STATUS: dict[FailureKind, Status] = {
    "failed": "failed",
    "input": "failed",
    "missing": "missing",
    "unsupported": "unsupported",
}
EXIT: dict[FailureKind, int] = {"failed": 1, "input": 2, "missing": 3, "unsupported": 4}


class Pipeline:
    """One job being done: models by opset, compilers kept warm, cache events."""

    def __init__(self, run: Run, hooks: Hooks | None = None) -> None:
        self.run = run
        self.job: Job = run.state.job
        self.hooks = hooks or Hooks()
        self.events: list[CacheEvent] = []
        self._prepared: Future[None] | None = None
        self._beside: dict[tuple[int, int], Neighbour] = {}
        self._exported: dict[int, tuple[Exported, float, Cached | None]] = {}
        self._unexported: dict[int, EdgeDeployError] = {}
        self._calibrated: dict[tuple[int, int | None], tuple[Calibration, Cached | None]] = {}

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
            precisions = self.job.precisions or target.by_default or target.precisions
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

    def _neighbours(self, target: Target) -> list[Neighbour]:
        """The workloads that are to run beside this one, exported for the target."""
        found = []
        for place, workload in enumerate(self.job.beside):
            key = (place, target.opset)  # two files may give their workloads one name
            if key not in self._beside:
                exported, cached = export(
                    workload,
                    target.opset,
                    use_cache=self.job.use_cache,
                    timeout_s=self.job.plan.timeout_s,
                )
                self.events.append(cached.event)
                self._beside[key] = Neighbour(workload, exported)
            found.append(self._beside[key])
        return found

    def _warm(self, compilers: Compilers, stage: str) -> None:
        """Let toolchains import and calibration data be read while the model is exported."""
        self.hooks.progress(self.job.workload.name, stage, 0.0)
        self._prepared = self._ahead.submit(self._prepare, compilers)

    def _prepare(self, compilers: Compilers) -> None:
        """One thing at a time: the export has the other core.

        What is missing or wrong shows in the stage that needs it.
        """
        for target in self.job.targets:
            wants_int8 = QUANTIZED in (
                self.job.precisions or target.by_default or target.precisions
            )
            name = target.quantizer if wants_int8 and target.quantizer else target.compiler
            if name == target.compiler and target.compile_on == "device":
                continue
            with contextlib.suppress(EdgeDeployError):
                compilers.ready(compiler_program(name))
        with contextlib.suppress(EdgeDeployError):
            inputs = declared_inputs(self.job.workload)
            if inputs and self.job.workload.calibration and self.job.use_cache:
                by_default = self.job.targets[0].calibration_count
                calibrate(self.job.workload, inputs, by_default=by_default)

    def _calibration(self, exported: Exported, target: Target) -> tuple[Calibration, Cached | None]:
        if self.hooks.calibration:
            return self.hooks.calibration, None
        key = (target.opset, target.calibration_count)
        if key not in self._calibrated:
            found, cached = calibrate(
                self.job.workload,
                exported.inputs,
                by_default=target.calibration_count,
                use_cache=self.job.use_cache,
            )
            self.events.append(cached.event)
            self._calibrated[key] = (found, cached)
        return self._calibrated[key]

    def _row(self, target: Target, precision: str, compilers: Compilers) -> None:
        state = RowState(target, precision)
        if target.opset in self._unexported:
            error = self._unexported[target.opset]
            self.run.write_row(self._failed(state, None, error), None)
            return
        exported, export_s, export_cached = self._exported[target.opset]
        state.stage_s["export"] = export_s
        if export_cached:
            state.note(export_cached)
        try:
            Stages(
                job=self.job,
                hooks=self.hooks,
                exported=exported,
                compilers=compilers,
                calibration=lambda: self._calibration(exported, target),
                events=self.events,
                preparation_folder=self.run.preparation_folder,
                neighbours=lambda: self._neighbours(target),
            ).run(state)
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

    def _failed(self, state: RowState, model: Model | None, err: EdgeDeployError) -> Row:
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
                ladder=state.ladder,
                emulation=state.emulation,
                source=state.target.source,
            ),
            artifact=state.artifact,
            preparation=state.preparation,
            emulation=state.emulation,
            ladder=state.ladder,
            failure=Failure(
                target=state.target.name,
                stage=state.stage,
                kind=err.kind,
                message=err.message,
                hint=err.hint,
                log=err.log,
                lost=state.lost,
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
