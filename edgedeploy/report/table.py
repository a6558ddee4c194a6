"""The comparison table that every renderer shows: its cells, sources and notes."""

from typing import Literal, NamedTuple, get_args

from edgedeploy.counts import COUNTED
from edgedeploy.figures import FIGURE_LABELS, format_figure, lower_is_better
from edgedeploy.records import Figure, Report, Row, Source
from edgedeploy.report.text import NULL, TIMES, legend, one_line, row_names

Better = Literal["low", "high", ""]

MEMORIES = ("memory_sram_bytes", "memory_psram_bytes", "memory_flash_bytes")
OF_SOME_DEVICES = (*COUNTED, *MEMORIES)
NOT_RECORDED = "this run did not record it"


class Column(NamedTuple):
    """A column of the table; `better` says which end of its figures is the good one."""

    key: str
    title: str
    numeric: bool = True
    better: Better = ""


class Cell(NamedTuple):
    """A cell: what it shows, the value in SI units to sort by, the source, or why it is null."""

    text: str
    value: float | str | None = None
    source: Source | None = None
    reason: str | None = None


class Comparison(NamedTuple):
    """The table: `cells[i][j]` is row i, column j; `notes` are the distinct reasons of nulls."""

    columns: tuple[Column, ...]
    cells: list[list[Cell]]
    rows: tuple[Row, ...]
    names: list[str]
    notes: dict[str, int]
    sources: tuple[Source, ...]
    baselines: dict[str, str]

    @property
    def mixed(self) -> bool:
        """Whether figures of several sources share the table, so that each must be marked."""
        return len(self.sources) > 1

    @property
    def legend(self) -> str:
        """What the marks mean, or the one source of all figures; empty without figures."""
        return legend(self.sources)

    @property
    def speedup_note(self) -> str:
        """Which row the speed-up is relative to; empty where no row has a p50."""
        if not self.baselines:
            return ""
        if len(self.baselines) == 1:
            return f"Speedup is p50 against {next(iter(self.baselines.values()))}."
        return "Speedup is p50 against the first ok row of the same workload."


def compare_rows(report: Report) -> Comparison:
    """The comparison table of a report."""
    rows = report.rows
    names = row_names(rows)
    baselines = _baselines(rows)
    columns = _columns(rows)
    cells = [
        [_cell(column.key, row, name, baselines) for column in columns]
        for row, name in zip(rows, names, strict=True)
    ]
    notes: dict[str, int] = {}
    found: set[Source] = set()
    for line in cells:
        for cell in line:
            if cell.reason is not None:
                notes.setdefault(cell.reason, len(notes) + 1)
            if cell.source is not None:
                found.add(cell.source)
    return Comparison(
        columns=tuple(columns),
        cells=cells,
        rows=rows,
        names=names,
        notes=notes,
        sources=tuple(sorted(found, key=get_args(Source).index)),
        baselines={w: names[index] for w, (index, _) in baselines.items()},
    )


def accuracy_keys(rows: tuple[Row, ...]) -> list[str]:
    """Names of the accuracy figures that occur, in order of appearance.

    `accuracy` alone stands where no row names a metric.
    """
    found = dict.fromkeys(key for row in rows for key in row.figures if key.startswith("accuracy_"))
    return list(found) or ["accuracy"]


def figure_of(row: Row, key: str) -> Figure | None:
    """The figure of a column; a row without this metric says in `accuracy` why it has none."""
    if key == "memory_peak_bytes":
        return peak_memory(row)
    if key.startswith("accuracy_"):
        return row.figures.get(key, row.figures.get("accuracy"))
    return row.figures.get(key)


def accuracy_title(key: str, rows: tuple[Row, ...]) -> str:
    """The metric an accuracy figure holds, from its name or else from what was evaluated."""
    metric = key.removeprefix("accuracy").strip("_")
    if not metric:
        metrics = {
            row.measurement.accuracy.metric
            for row in rows
            if row.measurement is not None and row.measurement.accuracy is not None
        }
        metric = metrics.pop() if len(metrics) == 1 else "accuracy"
    return FIGURE_LABELS.get(f"accuracy_{metric}", FIGURE_LABELS.get(metric, one_line(metric)))


def accuracy_better(key: str, rows: tuple[Row, ...]) -> Better:
    """Which end of a metric is the good one: high, but for errors and losses."""
    return "low" if lower_is_better(accuracy_title(key, rows)) else "high"


def is_unstable(row: Row) -> bool:
    """Whether a measurement carries a verdict against itself."""
    return row.measurement is not None and bool(row.measurement.instability)


def peak_memory(row: Row) -> Figure | None:
    """The larger of the peaks while loading and while running; None where neither is recorded."""
    found = [row.figures.get(key) for key in ("memory_load_peak_bytes", "memory_steady_bytes")]
    present = [figure for figure in found if figure is not None]
    valued = [figure for figure in present if figure.value is not None]
    if valued:
        return max(valued, key=lambda figure: figure.value or 0)
    return present[0] if present else None


def _columns(rows: tuple[Row, ...]) -> list[Column]:
    columns = [Column("target", "Target", numeric=False)]
    columns.append(Column("precision", "Precision", numeric=False))
    if len({row.workload for row in rows}) > 1:
        columns.append(Column("workload", "Workload", numeric=False))
    if len({(row.workload, row.target, row.precision) for row in rows}) < len(rows):
        columns.append(Column("run", "Run", numeric=False))
    columns.append(Column("status", "Status", numeric=False))
    columns += [
        Column(key, accuracy_title(key, rows), better=accuracy_better(key, rows))
        for key in accuracy_keys(rows)
    ]
    return [
        *columns,
        Column("latency_p50_s", "p50", better="low"),
        Column("latency_p99_s", "p99", better="low"),
        Column("speedup", "Speedup", better="high"),
        *_where_known(rows, ("latency_device_p50_s", *COUNTED, "latency_chip_s")),
        Column("throughput_hz", "Throughput", better="high"),
        Column("energy_per_inference_j", "Energy/inf.", better="low"),
        Column("memory_peak_bytes", "Peak memory", better="low"),
        *_where_known(rows, MEMORIES),
        Column("artifact_bytes", "Artifact", better="low"),
        Column("snr_db", "SNR"),
    ]


def _where_known(rows: tuple[Row, ...], keys: tuple[str, ...]) -> list[Column]:
    """Columns of figures that some kinds of device alone have, where a row has one."""
    return [
        Column(key, FIGURE_LABELS[key], better="low")
        for key in keys
        if any((figure := row.figures.get(key)) and figure.value is not None for row in rows)
    ]


def _baselines(rows: tuple[Row, ...]) -> dict[str, tuple[int, Figure]]:
    """Per workload, index and p50 of the first ok row that has one."""
    found: dict[str, tuple[int, Figure]] = {}
    for index, row in enumerate(rows):
        p50 = row.figures.get("latency_p50_s")
        if row.status == "ok" and p50 is not None and p50.value:
            found.setdefault(row.workload, (index, p50))
    return found


def _cell(key: str, row: Row, name: str, baselines: dict[str, tuple[int, Figure]]) -> Cell:
    if key in ("target", "precision", "workload", "run"):
        text = one_line(getattr(row, key))
        return Cell(text, text)
    if key == "status":
        text = f"{row.status} ({row.failure.stage})" if row.failure is not None else row.status
        return Cell(f"{text} !" if is_unstable(row) else text, text)
    if key == "speedup":
        return _speedup(row, baselines.get(row.workload))
    figure = figure_of(row, key)
    if figure is None:
        unknown = row.status == "ok" and key not in OF_SOME_DEVICES
        return Cell(NULL, reason=NOT_RECORDED if unknown else None)
    name_of_format = "memory_load_peak_bytes" if key == "memory_peak_bytes" else key
    if figure.value is None:
        return Cell(NULL, reason=one_line(figure.reason or "") if row.status == "ok" else None)
    return Cell(one_line(format_figure(name_of_format, figure)), figure.value, figure.source)


def _speedup(row: Row, baseline: tuple[int, Figure] | None) -> Cell:
    p50 = row.figures.get("latency_p50_s")
    if row.status != "ok":
        return Cell(NULL)
    if baseline is None or p50 is None or not p50.value or baseline[1].value is None:
        return Cell(NULL, reason="no p50 to compare")
    if p50.source != baseline[1].source:
        reason = f"{p50.source} against {baseline[1].source}: not comparable"
        return Cell(NULL, reason=reason)
    ratio = baseline[1].value / p50.value
    digits = 2 if ratio < 10 else 1 if ratio < 100 else 0
    return Cell(f"{ratio:.{digits}f}{TIMES}", ratio, p50.source)


def figure_label(key: str) -> str:
    """A figure's name for people; the key itself where none is known."""
    return FIGURE_LABELS.get(key, one_line(key.replace("_", " ")))
