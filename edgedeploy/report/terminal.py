"""A report as terminal tables: as many side by side columns as the width holds, none cut."""

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgedeploy.records import Report
from edgedeploy.report.remarks import Remark, cuts, failures, notices, tally, verdicts
from edgedeploy.report.table import Cell, Comparison, compare_rows
from edgedeploy.report.text import SUPERSCRIPTS, one_line, printable

KEY_COLUMNS = 2
# What a terminal still scrolls through; remarks and notes likewise.
ROWS = 200
REMARKS = 40
# Between columns: one character of padding and one of the box.
GAP = 2
_SUPERSCRIPT_DIGITS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_STYLES = {"ok": "", "failed": "bold red", "unsupported": "yellow", "missing": "yellow"}


def render(report: Report, console: Console) -> None:
    """Print the report to `console`.

    Columns that do not fit side by side go to a further table below with the same first columns,
    so every figure stays whole at any width.
    """
    table = compare_rows(report)
    name = one_line(str(report.workload.get("name", ""))) or "report"
    heading = Text(name, style="bold").append(f"  {one_line(report.created_at)}", style="dim")
    _print(console, heading.append(f"  {tally(report.rows)}", style="dim"))
    if not table.rows:
        return
    if len(table.rows) > ROWS:
        more = f"The first {ROWS} rows; {len(table.rows) - ROWS:,} more are in the JSON and CSV."
        _print(console, Text(more, style="yellow"))
    shown = table._replace(cells=table.cells[:ROWS], rows=table.rows[:ROWS])
    for block in column_blocks(shown, console.width):
        console.print()
        console.print(_table(shown, block, text_width(console.width)))
    console.print()
    for text in (table.legend, table.speedup_note):
        if text:
            _print(console, Text(text, style="dim"))
    for reason, number in list(table.notes.items())[:REMARKS]:
        _print(console, Text(f"{_superscript(number)} {reason}", style="dim"))
    _remarks(console, "Not measured", failures(table))
    _remarks(console, "Partly on the host", cuts(table))
    _remarks(console, "Worth knowing", notices(table))
    _remarks(console, "Unstable (!)", verdicts(table))


def column_blocks(table: Comparison, width: int) -> list[list[int]]:
    """Column indices of each table to print, so that none is wider than `width` characters.

    The first columns, which name the row, open every block.
    """
    widths = []
    for j, column in enumerate(table.columns):
        needed = [len(column.title), *(_shown(line[j], table).cell_len for line in table.cells)]
        widths.append(max(needed) if column.numeric else min(max(needed), text_width(width)))
    keys = list(range(KEY_COLUMNS))
    key_width = sum(widths[j] + GAP for j in keys)
    blocks: list[list[int]] = []
    used = width + 1
    for j in range(KEY_COLUMNS, len(widths)):
        if used + widths[j] > width or not blocks:
            blocks.append([*keys])
            used = key_width
        blocks[-1].append(j)
        used += widths[j] + GAP
    return blocks


def text_width(width: int) -> int:
    """The widest that a column of text may be in `width` characters; longer text is folded."""
    return max(12, 3 * width // 10)


def _table(table: Comparison, block: list[int], widest: int) -> Table:
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for j in block:
        column = table.columns[j]
        shown.add_column(
            Text(column.title),
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric,
            max_width=None if column.numeric else widest,
            overflow="fold",
        )
    for line, row in zip(table.cells, table.rows, strict=True):
        cells = [_shown(line[j], table) for j in block]
        if row.status != "ok":
            cells = [Text(cell.plain, style=_STYLES[row.status]) for cell in cells]
        shown.add_row(*cells)
    return shown


def _shown(cell: Cell, table: Comparison) -> Text:
    if cell.reason is not None:
        return Text(cell.text + _superscript(table.notes[cell.reason]))
    if table.mixed and cell.source is not None:
        return Text(cell.text + SUPERSCRIPTS[cell.source])
    return Text(cell.text)


def _superscript(number: int) -> str:
    return str(number).translate(_SUPERSCRIPT_DIGITS)


def _remarks(console: Console, title: str, remarks: list[Remark]) -> None:
    if not remarks:
        return
    console.print()
    _print(console, Text(title, style="bold"))
    for remark in remarks[:REMARKS]:
        line = Text.assemble((remark.row, "bold"), f"  {remark.tag}: {printable(remark.message)}")
        _print(console, line, indent=2)
        if remark.hint:
            _print(console, Text(f"remedy: {printable(remark.hint)}", style="cyan"), indent=4)
    if len(remarks) > REMARKS:
        _print(console, Text(f"and {len(remarks) - REMARKS:,} more"), indent=2)


def _print(console: Console, text: Text, indent: int = 0) -> None:
    console.print(Padding(text, (0, 0, 0, indent), expand=False), highlight=False)
