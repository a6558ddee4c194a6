"""Runs with rows made up for tests, as a pipeline keeps them."""

from pathlib import Path
from typing import Any

import numpy as np
from specimens import latencies, row

from edgedeploy.records import Figure, Row, Target
from edgedeploy.store import Job, Run
from edgedeploy.workload import ModelSpec, Workload

PAIRS = (("host", "fp32"), ("host", "int8"), ("other", "fp32"))


def job(name: str = "digits") -> Job:
    targets = tuple(
        Target(name=each, board="a board", transport="local", compiler="c", profiler="p")
        for each in ("host", "other")
    )
    return Job(workload=Workload(name=name, model=ModelSpec(source="a:b")), targets=targets)


def finished(run: Run, target: str, precision: str, p50_s: float = 0.001, **changes: Any) -> Row:
    figures = {"latency_p50_s": Figure(value=p50_s, unit="s", source="measured")}
    fields = {"run": run.id, "target": target, "precision": precision, "figures": figures}
    made = row(**{**fields, **changes})
    starts = np.arange(1000, dtype=np.int64) * 1_000_000
    run.write_row(made, {"latency": (starts, latencies(p50_s))})
    return made


def row_file(run: Run, target: str, precision: str) -> Path:
    return run.folder / "rows" / f"{target}@{precision}" / "row.json"


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
