"""A report as a LaTeX table (packages booktabs and graphicx) with its notes below."""

import re

from edgedeploy.records import Report
from edgedeploy.report.remarks import Remark, cuts, failures, notices, verdicts
from edgedeploy.report.table import Cell, Comparison, compare_rows
from edgedeploy.report.text import MARKS, MEANINGS, one_line, sentence

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"\textquotedbl{}",
    "\N{MICRO SIGN}": r"\ensuremath{\mu}",
    "\N{GREEK SMALL LETTER MU}": r"\ensuremath{\mu}",
    "\N{MULTIPLICATION SIGN}": r"\ensuremath{\times}",
    "\N{MINUS SIGN}": r"\ensuremath{-}",
    "\N{DEGREE SIGN}": r"\ensuremath{^{\circ}}",
    "\N{EM DASH}": r"\textemdash{}",
    "\N{EN DASH}": r"\textendash{}",
    "\N{NO-BREAK SPACE}": "~",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    "\N{THIN SPACE}": r"\,",
    "\N{REPLACEMENT CHARACTER}": "?",
}
_TABLE = str.maketrans(_SPECIAL)


def to_latex(report: Report) -> str:
    """A `table*` environment with the comparison, its marks, notes, failures and verdicts."""
    table = compare_rows(report)
    name = one_line(str(report.workload.get("name", ""))) or "edgedeploy report"
    layout = "".join("r" if column.numeric else "l" for column in table.columns)
    head = " & ".join(escape(column.title) for column in table.columns)
    body = [" & ".join(_cell(cell, table) for cell in line) + r" \\" for line in table.cells]
    below = _below(table)
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,graphicx} and \usepackage[T1]{fontenc}",
            r"\begin{table*}",
            r"\centering",
            rf"\caption{{{escape(name)}, {escape(report.created_at)}. {_legend(table)}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{layout}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            *([r"\par\smallskip\raggedright\footnotesize", *below] if below else []),
            r"\end{table*}",
            "",
        ]
    )


def escape(text: str) -> str:
    """`text` on one line with every character that LaTeX would interpret escaped."""
    # Two hyphens in a row would be joined into a dash, and the option named would be wrong.
    return re.sub("-(?=-)", "-{}", one_line(text).translate(_TABLE))


def _cell(cell: Cell, table: Comparison) -> str:
    text = escape(cell.text)
    if cell.reason is not None:
        return rf"{text}\textsuperscript{{{table.notes[cell.reason]}}}"
    if table.mixed and cell.source is not None:
        return rf"{text}\textsuperscript{{{MARKS[cell.source]}}}"
    return text


def _legend(table: Comparison) -> str:
    if table.mixed:
        marks = [rf"\textsuperscript{{{MARKS[s]}}} {escape(MEANINGS[s])}" for s in table.sources]
        return f"{'; '.join(marks)}. {escape(table.speedup_note)}"
    return f"{escape(table.legend)} {escape(table.speedup_note)}"


def _below(table: Comparison) -> list[str]:
    lines = [
        rf"\textsuperscript{{{number}}} {escape(sentence(reason))}\par"
        for reason, number in table.notes.items()
    ]
    told = (*failures(table), *cuts(table), *notices(table), *verdicts(table))
    return lines + [_remark(remark) for remark in told]


def _remark(remark: Remark) -> str:
    hint = f" Remedy: {escape(remark.hint)}" if remark.hint else ""
    head = rf"\textbf{{{escape(remark.row)}}}, {escape(remark.tag)}"
    return rf"{head}: {escape(sentence(remark.message))}{hint}\par"
