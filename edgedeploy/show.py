"""What the command line shows besides reports: progress, targets, artifacts, ladders, checks."""

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from edgedeploy.comparison import Comparison
    from edgedeploy.doctor import Diagnosis
    from edgedeploy.records import Artifact, Ladder, Model, Report, Rung, Target
    from edgedeploy.row import Progress

SHOWN_AFTER_S = 0.3


def _console() -> Console:
    return Console(highlight=False, markup=False)


@contextmanager
def progress_bar() -> "Iterator[Progress]":
    """A bar on stderr that says what is being done; lines of text where that is no terminal."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        said: list[tuple[str, str]] = []

        def line(row: str, stage: str, share: float) -> None:
            if (row, stage) not in said[-1:]:
                said.append((row, stage))
                sys.stderr.write(f"{row}: {stage}\n")
                sys.stderr.flush()

        yield line
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        refresh_per_second=4,
    ) as bar:
        task = bar.add_task("", total=None)
        last = [("", "", 0.0)]

        def update(row: str, stage: str, share: float) -> None:
            now = time.monotonic()
            if last[0][:2] == (row, stage) and now - last[0][2] < SHOWN_AFTER_S:
                return
            if last[0][:2] != (row, stage):
                bar.reset(task, total=1.0 if share else None)
            last[0] = (row, stage, now)
            bar.update(
                task,
                description=f"{row}: {stage}",
                total=1.0 if share else None,
                completed=share,
            )

        yield update


def report_table(report: "Report") -> None:
    """The comparison table."""
    from edgedeploy.report.terminal import render

    render(report, _console())


def model_lines(model: "Model") -> None:
    """An exported model, in a few lines."""
    table = Table(show_header=False, box=None, pad_edge=False)
    inputs = ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in model.inputs)
    outputs = ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in model.outputs)
    macs = f"{model.macs:,}" if model.macs is not None else f"- ({model.macs_reason})"
    error = "-" if model.max_abs_error is None else f"{model.max_abs_error:.3g}"
    for name, value in (
        ("model", model.path),
        ("sha256", model.sha256),
        ("inputs", inputs),
        ("outputs", outputs),
        ("opset", f"{model.opset} (asked for {model.requested_opset})"),
        ("exporter", model.exporter),
        ("parameters", f"{model.parameters:,}"),
        ("MACs", macs),
        ("largest error", f"{error} against {model.reference_source}"),
        *(("note", note) for note in model.notes),
    ):
        table.add_row(name, value)
    _console().print(table)


def artifact_lines(artifacts: "Sequence[Artifact]") -> None:
    """Compiled artifacts, a line each."""
    table = Table()
    for column in ("precision", "format", "bytes", "sha256", "path"):
        table.add_column(column, overflow="fold")
    for a in artifacts:
        table.add_row(a.precision, a.format, f"{a.size_bytes:,}", a.sha256[:12], a.path)
    console = _console()
    console.print(table)
    for a in artifacts:
        for warning in a.warnings:
            console.print(f"{a.precision}: {warning}")


def ladder_lines(ladders: "Mapping[str, Ladder]") -> None:
    """Parity ladders, a rung a line, then the worst layers."""
    console = _console()
    for name, ladder in ladders.items():
        table = Table(title=f"{name}: {ladder.samples} samples", title_justify="left")
        for column in ("rung", "max error", "mean error", "SNR dB", "cosine", "top-1", ""):
            table.add_column(column, justify="left" if column in {"rung", ""} else "right")
        for rung in ladder.rungs:
            state = f"broken: {rung.reason or rung.limit}" if rung.broken else ""
            table.add_row(
                rung.name,
                _number(rung.max_abs_error, ".3g"),
                _number(rung.mean_abs_error, ".3g"),
                _snr(rung),
                _number(rung.cosine, ".6f"),
                _number(rung.top1_agreement, ".1%"),
                state,
            )
        console.print(table)
        if ladder.layers:
            worst = ladder.layers[:5]
            shown = ", ".join(f"{e.layer} {_number(e.snr_db, '.1f')}" for e in worst)
            console.print(f"worst layers (SNR dB): {shown}")
        elif ladder.layers_reason:
            console.print(f"by layer: {ladder.layers_reason}")


def comparison_table(comparisons: "Sequence[Comparison]") -> None:
    """Comparisons, a line each, with the reasons under them."""
    from edgedeploy.counts import count_words

    table = Table()
    for column in ("target", "precision", "baseline", "candidate", "ratio", "95 %", "verdict"):
        table.add_column(column)
    for c in comparisons:
        low, high = _number(c.ratio_low, ".3f"), _number(c.ratio_high, ".3f")
        exact = any(n.exact for n in c.counts if n.figure == c.judged_by)
        bounds = "exact" if exact else f"{low} to {high}" if c.ratio_low is not None else "-"
        table.add_row(
            c.target,
            c.precision,
            *_compared(c),
            _number(c.ratio, ".3f"),
            bounds,
            c.verdict.replace("_", " "),
        )
    console = _console()
    console.print(table)
    for c in comparisons:
        counts = [count_words(n) for n in c.counts if n.figure != c.judged_by]
        for line in (c.reason, *counts, *c.notes):
            console.print(f"{c.target} {c.precision}: {line}", soft_wrap=True)


def _compared(c: "Comparison") -> tuple[str, str]:
    """Both sides' figure that the verdict is of."""
    for count in c.counts:
        if count.figure == c.judged_by:
            return _counted(count.baseline, count.figure), _counted(count.candidate, count.figure)
    return _milliseconds(c.baseline_median_s), _milliseconds(c.candidate_median_s)


def target_table(targets: "Sequence[Target]") -> None:
    """Targets, a line each, with the transport and the other host where it is on one."""
    from edgedeploy.inventory import host_of, lacks_host

    table = Table()
    for column in ("target", "board", "precisions", "compiler", "profiler", "where"):
        table.add_column(column, overflow="fold")
    for t in targets:
        where = f"{t.transport} {'(no host named)' if lacks_host(t) else host_of(t)}".strip()
        table.add_row(t.name, t.board, ", ".join(t.precisions), t.compiler, t.profiler, where)
    _console().print(table)


def diagnosis_table(found: "Diagnosis") -> None:
    """The doctor's findings: targets first, then programs with their interpreters."""
    from edgedeploy.report.text import printable

    console = _console()
    targets = Table(title="targets", title_justify="left")
    for column in ("target", "ready", "lacks", "power"):
        targets.add_column(column, overflow="fold")
    for t in found.targets:
        lacks = t.problem or "; ".join(t.lacks)
        told = (t.name, "yes" if t.ready else "no", lacks, t.power)
        targets.add_row(*map(printable, told))
    console.print(targets)
    programs = Table(title="programs", title_justify="left")
    for column in ("program", "found", "versions or reason and remedy", "interpreter"):
        programs.add_column(column, overflow="fold")
    for p in found.programs:
        versions = ", ".join(f"{name} {version}" for name, version in p.versions.items())
        detail = versions if p.found else f"{p.reason}. {p.remedy}".strip()
        why = f"{p.interpreter_kind}: {p.interpreter_why}"
        name = f"{p.kind} {p.name}" + (f" on {p.host}" if p.host else "")
        programs.add_row(*map(printable, (name, "yes" if p.found else "no", detail, why)))
    console.print(programs)


def _snr(rung: "Rung") -> str:
    if rung.equal:
        return "reference" if rung.max_abs_error is None else "equal"
    return _number(rung.snr_db, ".1f")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _counted(value: float, figure: str) -> str:
    from edgedeploy.figures import format_figure
    from edgedeploy.records import Figure

    shown = format_figure(figure, Figure(value=round(value), unit="1", source="measured"))
    return f"{shown} {'instr.' if figure == 'instructions' else figure}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.4g} ms"
