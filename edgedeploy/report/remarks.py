"""What is told below every table: failures with their remedies, verdicts of instability."""

from typing import NamedTuple

from edgedeploy.prepare import CUT
from edgedeploy.records import Row
from edgedeploy.report.table import Comparison
from edgedeploy.report.text import count_of


class Remark(NamedTuple):
    """A failure or verdict told below the table: the row, the kind, the remedy."""

    row: str
    tag: str
    message: str
    hint: str = ""
    log: str = ""


def failures(table: Comparison) -> list[Remark]:
    """What went wrong in the rows without a measurement, with the remedies."""
    remarks = []
    for row, name in zip(table.rows, table.names, strict=True):
        if row.failure is not None:
            failure = row.failure
            tag = f"{row.status} at {failure.stage}"
            remarks.append(Remark(name, tag, failure.message, failure.hint, failure.log))
        elif row.status != "ok":
            remarks.append(Remark(name, row.status, "no reason was recorded"))
    return remarks


def verdicts(table: Comparison) -> list[Remark]:
    """Instability of measurements: each message says what was seen and what to do next."""
    return [
        Remark(name, verdict.verdict.replace("_", " "), verdict.message)
        for row, name in zip(table.rows, table.names, strict=True)
        if row.measurement is not None
        for verdict in row.measurement.instability
    ]


def cuts(table: Comparison) -> list[Remark]:
    """Rows whose model was cut: what their figures leave out."""
    return [
        Remark(
            name,
            "cut",
            f"{note}; latency, counts, energy and memory are of the part on the device,"
            " accuracy and parity of the whole",
        )
        for row, name in zip(table.rows, table.names, strict=True)
        if row.artifact is not None and row.artifact.tail_path is not None
        for note in row.artifact.notes
        if note.startswith(CUT)
    ]


def tally(rows: tuple[Row, ...]) -> str:
    """How many rows ended how: `5 rows: 3 ok, 1 failed, 1 unsupported`."""
    order = ("ok", "failed", "unsupported", "missing")
    counts = {status: sum(row.status == status for row in rows) for status in order}
    parts = ", ".join(f"{number:,} {status}" for status, number in counts.items() if number)
    return f"{count_of(len(rows), 'row')}: {parts}" if rows else "no rows"
