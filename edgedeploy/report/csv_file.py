"""A report as CSV: one line a row, full precision in SI units, a source and a reason a figure."""

import csv
import io

from edgedeploy.figures import FIGURE_LABELS
from edgedeploy.records import Report
from edgedeploy.report.table import Comparison, compare_rows
from edgedeploy.report.text import printable

IDENTITY = ("run", "workload", "target", "board", "precision", "status")
FAILURE = ("stage", "message", "hint", "instability", "graph")

# A spreadsheet takes a text that starts so for a formula, the full-width forms included.
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def to_csv(report: Report) -> str:
    """The report as CSV (RFC 4180 quoting, line feeds): `<figure>,<figure>_source,<figure>_reason`.

    Texts that a spreadsheet would run as a formula get an apostrophe in front; numbers are plain.
    """
    table = compare_rows(report)
    keys = _figure_keys(report)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    figure_names = [*keys, "speedup"]
    writer.writerow(
        [
            *IDENTITY,
            *FAILURE,
            *(f"{_text(k)}{end}" for k in figure_names for end in ("", "_source", "_reason")),
        ]
    )
    for index in range(len(table.rows)):
        writer.writerow(_line(table, index, keys))
    return stream.getvalue()


def _figure_keys(report: Report) -> list[str]:
    """Every figure that occurs: the known ones in their order first."""
    present = dict.fromkeys(key for row in report.rows for key in row.figures)
    known = [key for key in FIGURE_LABELS if key in present]
    return [*known, *(key for key in present if key not in FIGURE_LABELS)]


def _line(table: Comparison, index: int, keys: list[str]) -> list[str]:
    row = table.rows[index]
    line = [_text(getattr(row, name)) for name in IDENTITY]
    failure, measurement = row.failure, row.measurement
    told = (failure.stage, failure.message, failure.hint) if failure else ("", "", "")
    line += [_text(text) for text in told]
    line.append(";".join(v.verdict for v in measurement.instability) if measurement else "")
    line.append(_text("; ".join(row.artifact.notes)) if row.artifact else "")
    for key in keys:
        figure = row.figures.get(key)
        if figure is None:
            line += ["", "", ""]
        else:
            line += [_number(figure.value), figure.source or "", _text(figure.reason or "")]
    column = [c.key for c in table.columns].index("speedup")
    speedup = table.cells[index][column]
    value = speedup.value if isinstance(speedup.value, float | int) else None
    return [*line, _number(value), speedup.source or "", _text(speedup.reason or "")]


def _number(value: float | int | None) -> str:
    return "" if value is None else repr(value)


def _text(value: str) -> str:
    text = printable(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
