"""A report as Markdown: one table that renders on the usual hosts, with notes below it."""

import re

from edgedeploy.records import Report
from edgedeploy.report.remarks import Remark, cuts, failures, notices, tally, verdicts
from edgedeploy.report.table import Cell, Comparison, compare_rows
from edgedeploy.report.text import SUPERSCRIPTS, one_line, sentence

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~$@])")


def to_markdown(report: Report) -> str:
    """The comparison table with sources, notes, failures and verdicts, as GitHub's Markdown."""
    table = compare_rows(report)
    name = one_line(str(report.workload.get("name", ""))) or "edgedeploy report"
    parts = [f"# {escape(name)}", f"{escape(report.created_at)}, {tally(report.rows)}."]
    if table.rows:
        parts.append(_table(table))
    parts += [text for text in (_explanation(table), _notes(table)) if text]
    parts += _remarks("Not measured", failures(table))
    parts += _remarks("Partly on the host", cuts(table))
    parts += _remarks("Worth knowing", notices(table))
    parts += _remarks("Unstable measurements (!)", verdicts(table))
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """`text` on one line with everything that Markdown or HTML would read as markup escaped."""
    plain = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", plain)


def _table(table: Comparison) -> str:
    titles = [escape(column.title) for column in table.columns]
    rules = ["---:" if column.numeric else ":---" for column in table.columns]
    lines = [titles, rules, *([_cell(cell, table) for cell in line] for line in table.cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell, table: Comparison) -> str:
    text = escape(cell.text)
    if cell.reason is not None:
        return f"{text} ({table.notes[cell.reason]})"
    if table.mixed and cell.source is not None:
        return f"{text}{SUPERSCRIPTS[cell.source]}"
    return text


def _explanation(table: Comparison) -> str:
    legend = table.legend
    return " ".join(text for text in (legend, escape(table.speedup_note)) if text)


def _notes(table: Comparison) -> str:
    return "\n".join(f"{number}. {escape(reason)}" for reason, number in table.notes.items())


def _remarks(title: str, remarks: list[Remark]) -> list[str]:
    if not remarks:
        return []
    lines = [f"## {title}", ""]
    for remark in remarks:
        hint = f" Remedy: {escape(remark.hint)}" if remark.hint else ""
        message = escape(sentence(remark.message))
        lines.append(f"- **{escape(remark.row)}**, {escape(remark.tag)}: {message}{hint}")
    return ["\n".join(lines)]
