"""A report as one self-contained HTML page, and as a table for notebooks."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import msgspec
from markupsafe import Markup

from edgedeploy.records import Missed, Report, Row
from edgedeploy.report import overview, parity, provenance, sections
from edgedeploy.report.remarks import Remark, cuts, failures, notices, tally, verdicts
from edgedeploy.report.sections import SeriesArrays
from edgedeploy.report.table import Cell, Comparison, compare_rows
from edgedeploy.report.text import MARKS, MEANINGS, count_of, one_line, printable, sentence

RowKey = tuple[str, str, str]

HERE = Path(__file__).parent
ROWS_WITHOUT_SCRIPT = 200
NOTEBOOK_ROWS = 50
DETAILED_ROWS = 24
REMARKS = 40
NOTES = 60
LOG_CHARACTERS = 4000


class Detail(NamedTuple):
    """Everything the page shows of one row below the comparison table."""

    key: str
    name: str
    row: Row
    latency: sections.Latency
    layers: list[sections.Bar]
    memory: list[sections.Bar]
    power: sections.Power | None
    steps: list[parity.Step]
    worst_layers: list[sections.Bar]
    origins: list[provenance.OriginGroup]
    settings: list[tuple[str, list[provenance.Setting]]]
    facts: list[tuple[str, list[tuple[str, str]]]]


class Absent(NamedTuple):
    """Rows that share a reason for having no power, and the remedies."""

    names: list[str]
    reason: str
    missed: tuple[Missed, ...]


def to_html(report: Report, series: Mapping[RowKey, SeriesArrays]) -> str:
    """The page: no reference to any network, scripts and styles allowed by their hashes alone.

    `series` maps (run, target, precision) to series key to (t_ns, values), both of shape (n,); rows
    it lacks are shown without drawings. Sections below the table cover the first rows only, the
    table covers all: what is beyond the first ones is readable with scripts, and counted without.
    """
    table = compare_rows(report)
    style, script = _asset("report.css"), _asset("report.js")
    details = _details(table, series)
    found, told = failures(table), verdicts(table)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            table=table,
            title=one_line(str(report.workload.get("name", "")))
            or overview.workloads_title(report),
            description=one_line(str(report.workload.get("description", ""))),
            style=style,
            script=script,
            policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)};"
            " base-uri 'none'; form-action 'none'",
            tally=tally(report.rows),
            tiles=overview.tiles(table),
            meta=overview.meta(report),
            best=overview.best_cells(table),
            shown=min(len(table.rows), ROWS_WITHOUT_SCRIPT),
            island=_island(table),
            notes=list(table.notes)[:NOTES],
            tradeoffs=overview.tradeoffs(table),
            details=details,
            detailed=DETAILED_ROWS,
            measured=sum(row.measurement is not None for row in report.rows),
            absent=_absent(details),
            failures=[_tail(remark) for remark in found[:REMARKS]],
            failure_count=len(found),
            cuts=cuts(table)[:REMARKS],
            notices=notices(table)[:REMARKS],
            scripts=_scripts(table),
            verdicts=told[:REMARKS],
            verdict_count=len(told),
            marks=MARKS,
            words={mark: source for source, mark in MARKS.items()},
            meanings=MEANINGS,
            count_of=count_of,
        )
    )


def to_notebook(report: Report) -> str:
    """The comparison table as an HTML fragment with inline styles and no script."""
    table = compare_rows(report)
    return (
        _environment()
        .get_template("notebook.html.j2")
        .render(
            title=one_line(str(report.workload.get("name", "")))
            or overview.workloads_title(report),
            table=table,
            tally=tally(report.rows),
            shown=min(len(table.rows), NOTEBOOK_ROWS),
            sentence=sentence,
            marks=MARKS,
            notes=list(table.notes)[:NOTES],
            failures=failures(table)[:REMARKS],
            cuts=[*cuts(table), *notices(table)][:REMARKS],
            verdicts=verdicts(table)[:REMARKS],
        )
    )


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalize(value: object) -> object:
    return printable(value) if type(value) is str else value


def _asset(name: str) -> Markup:
    return Markup((HERE / name).read_text(encoding="utf-8"))


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def detailed_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows that the page shows in detail: raw series of others are not drawn."""
    return [row for row in rows if row.measurement is not None or row.ladder is not None][
        :DETAILED_ROWS
    ]


def _details(table: Comparison, series: Mapping[RowKey, SeriesArrays]) -> list[Detail]:
    name_of = {id(row): name for name, row in zip(table.names, table.rows, strict=True)}
    worth = [(name_of[id(row)], row) for row in detailed_rows(table.rows)]
    memory = ("memory_load_peak_bytes", "memory_steady_bytes", "artifact_bytes")
    figures = [row.figures.get(key) for _, row in worth for key in memory]
    largest = max((figure.value or 0 for figure in figures if figure is not None), default=0)
    return [
        _detail(f"r{i}", name, row, series.get((row.run, row.target, row.precision), {}), largest)
        for i, (name, row) in enumerate(worth)
    ]


def _detail(key: str, name: str, row: Row, arrays: SeriesArrays, largest: float) -> Detail:
    measurement, artifact = row.measurement, row.artifact
    settings = []
    if artifact is not None:
        pairs = provenance.settings(artifact.requested_options, artifact.options)
        settings.append(("Compiler options", pairs))
    if measurement is not None:
        settings.append(("Runtime options", provenance.settings({}, measurement.options)))
    return Detail(
        key=key,
        name=name,
        row=row,
        latency=sections.latency(key, name, row, arrays),
        layers=sections.layers(measurement.layers) if measurement is not None else [],
        memory=sections.memory(row, largest),
        power=sections.power(f"{key}-w", name, row, arrays),
        steps=parity.ladder(row.ladder) if row.ladder is not None else [],
        worst_layers=parity.worst_layers(row.ladder) if row.ladder is not None else [],
        origins=provenance.origin_groups(row),
        settings=[(title, pairs) for title, pairs in settings if pairs],
        facts=provenance.fact_groups(row),
    )


def _scripts(table: Comparison) -> list[tuple[str, str]]:
    """What the toolchains were told, or would be, by row."""
    return [
        (name, made.script)
        for row, name in zip(table.rows, table.names, strict=True)
        for made in (row.artifact, row.preparation)
        if made is not None and made.script
    ][:DETAILED_ROWS]


def _absent(details: list[Detail]) -> list[Absent]:
    """Rows without power, those with the same reason and remedies together."""
    groups: dict[tuple[str, tuple[Missed, ...]], list[str]] = {}
    for detail in details:
        if detail.power is None and detail.row.measurement is not None:
            groups.setdefault(sections.missed_power(detail.row), []).append(detail.name)
    return [Absent(names, reason, missed) for (reason, missed), names in groups.items()]


def _tail(remark: Remark) -> Remark:
    log = remark.log.strip()
    return remark._replace(log=f"…{log[-LOG_CHARACTERS:]}" if len(log) > LOG_CHARACTERS else log)


def _island(table: Comparison) -> Markup:
    """The rows beyond those in the table's markup as JSON that no text in it can break out of."""
    if len(table.rows) <= ROWS_WITHOUT_SCRIPT:
        return Markup("")
    lines = [
        [row.status, one_line(row.board), *(_packed(cell, table.notes) for cell in line)]
        for row, line in zip(
            table.rows[ROWS_WITHOUT_SCRIPT:], table.cells[ROWS_WITHOUT_SCRIPT:], strict=True
        )
    ]
    text = msgspec.json.encode({"reasons": list(table.notes), "rows": lines}).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _packed(cell: Cell, reasons: dict[str, int]) -> object:
    """A cell as its text alone, or [text, value, mark, index of the reason + 1]."""
    if cell.reason is not None:
        return [cell.text, None, "", reasons[cell.reason]]
    if cell.source is not None:
        return [cell.text, cell.value, MARKS[cell.source], 0]
    return cell.text
