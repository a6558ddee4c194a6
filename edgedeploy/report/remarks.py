"""What is told below every table: failures with their remedies, verdicts of instability."""

from collections.abc import Iterator
from typing import NamedTuple

from edgedeploy.figures import format_figure
from edgedeploy.prepare import CUT
from edgedeploy.records import Figure, Row, Share, Source
from edgedeploy.report.table import Comparison
from edgedeploy.report.text import count_of

# of what could not be had, what is told even where power is
TOLD_OF = ("connection", "vendor figures")


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


def notices(table: Comparison) -> list[Remark]:
    """What a reader of the figures should know of how they came to be, and what was left for them:
    stand-ins, silent downgrades, approximations, what a missing toolchain would be given, lost
    links, several models at once, and what a broken rung usually means.
    """
    return [
        Remark(name, *told)
        for row, name in zip(table.rows, table.names, strict=True)
        for told in (*_of_build(row), *_of_measurement(row), *_of_ladder(row))
    ]


def _of_build(row: Row) -> Iterator[tuple[str, str]]:
    artifact, prepared, emulation = row.artifact, row.preparation, row.emulation
    if artifact is not None:
        if artifact.virtual:
            told = [f"{name} {version}" for name, version in artifact.tools.items()]
            tools = ", ".join([each for each in told if "+" in each] or told)
            yield "stand-in", f"made by a stand-in for the toolchain ({tools}): nothing is measured"
        for downgrade in artifact.downgrades:
            yield "downgraded", downgrade
        if row.measurement is None:
            size = Figure(value=artifact.size_bytes, unit="B", source="measured")
            made = f"{format_figure('artifact_bytes', size)} in {artifact.duration_s:.2g} s"
            notes = [note for note in artifact.notes if not note.startswith(CUT)]
            yield "built", "; ".join([made, *notes])
    if prepared is not None:
        yield "prepared", f"{', '.join(prepared.files)} in {prepared.folder}"
        for text in (*prepared.warnings, *prepared.notes):
            yield "prepared", text
    if emulation is not None and emulation.note:
        yield "approximated", f"accuracy and parity by {emulation.program} here: {emulation.note}"


def _of_measurement(row: Row) -> Iterator[tuple[str, str]]:
    measurement = row.measurement
    if measurement is None:
        return
    # what an instrument says of its power is about a figure that stands there, such as losses
    powered = {s.instrument for s in measurement.series if s.quantity in ("power", "energy")}
    for missed in measurement.missed:
        if missed.what in TOLD_OF or missed.what in powered:
            yield missed.what, missed.reason
    together = measurement.together
    if together is not None:
        if together.reason:
            yield "together", together.reason
        for note in together.notes:
            yield "downgraded", note
        for share in together.shares:
            part = 100 * share.rate_hz / share.alone_rate_hz if share.alone_rate_hz else 0.0
            yield (
                "together",
                f"{share.workload}: {share.rate_hz:,.0f}/s of {share.alone_rate_hz:,.0f}/s alone"
                f" ({part:.0f} %){_p50(share, measurement.source)}",
            )


def _p50(share: Share, source: Source) -> str:
    mark = "" if source == "measured" else f"; {source}"
    if share.latency_p50_s is None:
        return mark
    figure = Figure(value=share.latency_p50_s, unit="s", source=source)
    return f", p50 {format_figure('latency_p50_s', figure)}{mark}"


def _of_ladder(row: Row) -> Iterator[tuple[str, str]]:
    if row.ladder is None:
        return
    for rung in row.ladder.rungs:
        # those behind it hold what the first one broke
        if rung.broken and rung.meaning and rung.name == row.ladder.first_broken:
            yield "parity", f"rung {rung.name} breaks: {rung.meaning}"


def tally(rows: tuple[Row, ...]) -> str:
    """How many rows ended how: `5 rows: 3 ok, 1 failed, 1 unsupported`."""
    order = ("ok", "failed", "unsupported", "missing")
    counts = {status: sum(row.status == status for row in rows) for status in order}
    parts = ", ".join(f"{number:,} {status}" for status, number in counts.items() if number)
    return f"{count_of(len(rows), 'row')}: {parts}" if rows else "no rows"
