"""Reports from what is kept: one run as it stands, or rows of many."""

from datetime import UTC, datetime

import msgspec
import numpy as np

from edgedeploy import __version__
from edgedeploy.comparison import Measured
from edgedeploy.counts import COUNTED
from edgedeploy.records import Failure, Report, Row
from edgedeploy.store import Run, open_run


def report_of(run: Run) -> Report:
    """The report of a run as it stands; rows not done yet say so, and how to go on."""
    models = run.read_models()
    boards = {target.name: target.board for target in run.state.job.targets}
    pending = [
        Row(
            run=run.id,
            workload=run.state.job.workload.name,
            target=target,
            precision=precision,
            board=boards.get(target, ""),
            status="missing",
            failure=Failure(
                target=target,
                stage="profile",
                kind="missing",
                message="the run was interrupted before this row was finished",
                hint=f"edgedeploy deploy --resume {run.id}",
            ),
        )
        for target, precision in run.pending()
    ]
    workload = msgspec.to_builtins(run.state.job.workload)
    return Report(
        created_at=run.state.created_at,
        edgedeploy_version=run.state.edgedeploy_version,
        host=run.state.job.host,
        runs=(run.id,),
        model=models[0].model if models else None,
        workload=workload,
        rows=(*run.rows(), *pending),
        folder=str(run.folder),
    )


def merged_report(rows: list[Row]) -> Report:
    """One report over rows of many runs."""
    return Report(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        edgedeploy_version=__version__,
        host={},
        runs=tuple(dict.fromkeys(row.run for row in rows)),
        rows=tuple(rows),
    )


def measured_rows(names: list[str]) -> list[Measured]:
    """All rows of the runs named, with their raw latencies in s."""
    found = []
    for name in names:
        run = open_run(name.strip())
        for row in report_of(run).rows:
            series = run.series(row.target, row.precision) if row.measurement else {}
            _, latency_s = series.get("latency", (np.empty(0), np.empty(0)))
            counts = {str(name): series[name][1] for name in COUNTED if name in series}
            found.append(Measured(row, latency_s, counts))
    return found
