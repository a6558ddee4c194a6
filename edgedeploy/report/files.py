"""A run's reports as files beside it."""

from collections.abc import Callable
from pathlib import Path

from edgedeploy.errors import InputError, nearest
from edgedeploy.profile import RawSeries
from edgedeploy.records import Report
from edgedeploy.store import Run


def _html(report: Report, run: Run | None) -> str:
    from edgedeploy.report.html import to_html

    return to_html(report, raw_series(report, run))


def _json(report: Report, _: Run | None) -> str:
    from edgedeploy.report.json_file import to_json

    return to_json(report).decode()


def _csv(report: Report, _: Run | None) -> str:
    from edgedeploy.report.csv_file import to_csv

    return to_csv(report)


def _markdown(report: Report, _: Run | None) -> str:
    from edgedeploy.report.markdown import to_markdown

    return to_markdown(report)


def _latex(report: Report, _: Run | None) -> str:
    from edgedeploy.report.latex import to_latex

    return to_latex(report)


FORMATS: dict[str, tuple[str, Callable[[Report, Run | None], str]]] = {
    "html": ("report.html", _html),
    "json": ("report.json", _json),
    "csv": ("report.csv", _csv),
    "markdown": ("report.md", _markdown),
    "latex": ("report.tex", _latex),
}


def render(report: Report, form: str, run: Run | None = None) -> str:
    """A report as text in one of `FORMATS`; `InputError` for another."""
    if form not in FORMATS:
        msg = f"report format {form!r} is not known"
        raise InputError(msg, hint=nearest(form, list(FORMATS)))
    return FORMATS[form][1](report, run)


def write_report(report: Report, run: Run) -> Path:
    """Write every format into the run's folder; answers the HTML page's path."""
    for name, make in FORMATS.values():
        run.write_file(name, make(report, run).encode())
    return run.folder / FORMATS["html"][0]


def raw_series(report: Report, run: Run | None) -> dict[tuple[str, str, str], RawSeries]:
    """Raw series of the first rows, for charts; none for rows of other runs."""
    from edgedeploy.report.html import detailed_rows

    if run is None:
        return {}
    return {
        (row.run, row.target, row.precision): run.series(row.target, row.precision)
        for row in detailed_rows(report.rows)
        if row.run == run.id
    }
