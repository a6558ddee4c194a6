"""The top of the HTML page: best rows, where and when it ran, accuracy against latency."""

from typing import Any, NamedTuple

from markupsafe import Markup

from edgedeploy.figures import format_figure
from edgedeploy.records import Report, Row
from edgedeploy.report.pareto import pareto_front
from edgedeploy.report.provenance import show
from edgedeploy.report.table import Cell, Comparison, accuracy_better, accuracy_keys, accuracy_title
from edgedeploy.report.text import MARKS, NULL, TIMES, one_line
from edgedeploy.report.tradeoff import Point, tradeoff

TRADEOFFS = 6
FRONT_ROWS = 24


class Tile(NamedTuple):
    """The best row in one respect."""

    label: str
    text: str
    mark: str
    row: str


class FrontRow(NamedTuple):
    """A row of the Pareto front as text."""

    name: str
    accuracy: str
    latency: str
    mark: str


class Tradeoff(NamedTuple):
    """Accuracy against latency of one workload, wide and narrow, or why there is none."""

    workload: str
    wide: Markup | None
    narrow: Markup | None
    front: list[FrontRow]
    more: int
    reason: str = ""


def workloads_title(report: Report) -> str:
    """The workload of all rows, or how many there are."""
    names = sorted({one_line(row.workload) for row in report.rows})
    if len(names) == 1:
        return names[0]
    return f"{len(names)} workloads" if names else "Empty report"


def tiles(table: Comparison) -> list[Tile]:
    """The best ok rows by latency, accuracy, energy and size; measured figures go first."""
    if len({row.workload for row in table.rows}) != 1:
        return []
    wanted = ["latency_p50_s", "energy_per_inference_j", "memory_peak_bytes", "artifact_bytes"]
    words = {
        "latency_p50_s": "Lowest p50 latency",
        "energy_per_inference_j": "Least energy per inference",
        "memory_peak_bytes": "Least peak memory",
        "artifact_bytes": "Smallest artifact",
    }
    accuracy = accuracy_keys(table.rows)[0]
    words[accuracy] = f"Best {accuracy_title(accuracy, table.rows)}".replace("Accuracy", "accuracy")
    found = []
    for key in [*wanted[:1], accuracy, *wanted[1:]]:
        best = _best(table, _column(table, key))
        if not best:
            found.append(Tile(words[key], NULL, "", _why_none(table, _column(table, key))))
        else:
            cell = table.cells[best[0]][_column(table, key)]
            mark = MARKS[cell.source] if table.mixed and cell.source is not None else ""
            others = f" and {len(best) - 1:,} more" if len(best) > 1 else ""
            found.append(Tile(words[key], cell.text, mark, f"{table.names[best[0]]}{others}"))
    return found


def best_cells(table: Comparison) -> set[tuple[int, int]]:
    """(row, column) of the best figures of each column where at least two rows compete."""
    if len({row.workload for row in table.rows}) != 1:
        return set()
    found = set()
    for j, column in enumerate(table.columns):
        competing = sum(line[j].value is not None for line in table.cells)
        best = _best(table, j) if column.better else []
        # Where all are equal none stands out.
        found |= {(i, j) for i in best if len(best) < competing}
    return found


def _column(table: Comparison, key: str) -> int:
    return [column.key for column in table.columns].index(key)


def _best(table: Comparison, j: int) -> list[int]:
    """The ok rows with the best figure of column `j`, of the measured ones if there are any."""
    known = [
        (i, float(line[j].value or 0), line[j].source)
        for i, (line, row) in enumerate(zip(table.cells, table.rows, strict=True))
        if row.status == "ok" and isinstance(line[j].value, float | int)
    ]
    known = [entry for entry in known if entry[2] == "measured"] or known
    pick = min if table.columns[j].better == "low" else max
    best = pick((value for _, value, _ in known), default=None)
    return [i for i, value, _ in known if value == best]


def _why_none(table: Comparison, j: int) -> str:
    reasons = {reason for line in table.cells if (reason := line[j].reason) is not None}
    short = {reason.partition(" (")[0] for reason in reasons}
    return short.pop() if len(short) == 1 else "no row has it; reasons below the table"


def meta(report: Report) -> list[tuple[str, str]]:
    """Facts of the whole report as label and text."""
    host: dict[str, Any] = report.host
    machine = [show(host[key]) for key in ("cpu", "board", "machine") if host.get(key)]
    cores = [f"{host['cores']} cores"] if host.get("cores") else []
    system = [show(host[key]) for key in ("system", "hostname") if host.get(key)]
    model = report.model
    facts = [
        ("Created", report.created_at),
        ("Host", ", ".join([*machine, *cores])),
        ("System", ", ".join(system)),
        ("Model sha", model.sha256 if model is not None else ""),
        ("Graph", _graph(report)),
        ("Runs", ", ".join(report.runs[:5]) + (" …" if len(report.runs) > 5 else "")),
        ("Folder", report.folder or ""),
        ("edgedeploy", report.edgedeploy_version),
    ]
    return [(label, one_line(text)) for label, text in facts if text]


def _graph(report: Report) -> str:
    model = report.model
    if model is None:
        return ""
    inputs = ", ".join(
        f"{tensor.name} {tensor.dtype} {TIMES.join(str(d) for d in tensor.shape)}"
        for tensor in model.inputs
    )
    macs = f", {model.macs:,} MACs" if model.macs is not None else ""
    return f"{inputs}; {model.parameters:,} parameters{macs}; opset {model.opset}"


def tradeoffs(table: Comparison) -> list[Tradeoff]:
    """One chart for each of the first workloads: rows of different workloads do not compare."""
    names = list(dict.fromkeys(row.workload for row in table.rows))
    return [_tradeoff(table, workload, i) for i, workload in enumerate(names[:TRADEOFFS])]


def _tradeoff(table: Comparison, workload: str, index: int) -> Tradeoff:
    rows = [(i, row) for i, row in enumerate(table.rows) if row.workload == workload]
    key = accuracy_keys(tuple(row for _, row in rows))[0]
    points = [(i, row, place) for i, row in rows if (place := _place(row, key)) is not None]
    if not points:
        reasons = {cell.reason for i, _ in rows if (cell := _accuracy_cell(table, i, key)).reason}
        why = f": {next(iter(reasons))}" if len(reasons) == 1 else ""
        reason = f"No row has both an accuracy and a p50 latency{why}."
        return Tradeoff(one_line(workload), None, None, [], 0, reason)
    of_workload = tuple(row for _, row, _ in points)
    sign = -1 if accuracy_better(key, of_workload) == "low" else 1
    front = pareto_front([(latency, sign * value) for _, _, (latency, value) in points])
    on_front = set(front)
    drawn = [
        Point(
            table.names[i],
            latency,
            _axis_value(row, key, value),
            row.figures["latency_p50_s"].source or "measured",
            at in on_front,
            f"{table.names[i]}: {_shown(row, key)} at {_shown(row, 'latency_p50_s')}",
        )
        for at, (i, row, (latency, value)) in enumerate(points)
    ]
    ordered = [drawn[at] for at in front]
    drawn = [*ordered, *(p for at, p in enumerate(drawn) if at not in on_front)]
    title = accuracy_title(key, of_workload)
    unit = "%" if _fraction(of_workload[0], key) else of_workload[0].figures[key].unit
    listed = [
        FrontRow(
            table.names[points[at][0]],
            _shown(points[at][1], key),
            _shown(points[at][1], "latency_p50_s"),
            MARKS[drawn_point.source] if table.mixed else "",
        )
        for at, drawn_point in zip(front[:FRONT_ROWS], ordered, strict=False)
    ]
    return Tradeoff(
        one_line(workload),
        tradeoff(f"a{index}w", drawn, title, unit, width=760, height=400),
        tradeoff(f"a{index}n", drawn, title, unit, width=334, height=320),
        listed,
        max(0, len(front) - FRONT_ROWS),
    )


def _place(row: Row, key: str) -> tuple[float, float] | None:
    accuracy, p50 = row.figures.get(key), row.figures.get("latency_p50_s")
    if row.status != "ok" or accuracy is None or p50 is None:
        return None
    if accuracy.value is None or not p50.value or p50.value <= 0:
        return None
    return p50.value, accuracy.value


def _accuracy_cell(table: Comparison, i: int, key: str) -> Cell:
    return table.cells[i][_column(table, key)]


def _fraction(row: Row, key: str) -> bool:
    return row.figures[key].unit in ("", "1") and "%" in _shown(row, key)


def _axis_value(row: Row, key: str, value: float) -> float:
    return 100 * value if _fraction(row, key) else value


def _shown(row: Row, key: str) -> str:
    return format_figure(key, row.figures[key])
