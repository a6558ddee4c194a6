"""The command line: verbs are the stages; the only place that prints or exits."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedeploy import stage_verbs
from edgedeploy.errors import EXIT_CODES, EdgeDeployError, InputError
from edgedeploy.options import (
    SOURCES,
    ComputeCapability,
    Containers,
    ExplainCache,
    Json,
    NoCache,
    PlanOptions,
    Port,
    TargetNames,
    WorkloadOptions,
    expanded,
)
from edgedeploy.say import answer, explain, say

if TYPE_CHECKING:
    from edgedeploy.store import Run
    from edgedeploy.workload import Workload

app = typer.Typer(
    name="edgedeploy",
    help="Deploy models to edge hardware; measure latency, power, memory and accuracy.",
    epilog="Exit codes: " + "; ".join(f"{code} {text}" for code, text in EXIT_CODES.items()) + ".",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

INTERRUPTED = 130

WorkloadName = Annotated[str, typer.Argument(metavar="WORKLOAD", help=SOURCES)]
RunNames = Annotated[
    list[str] | None, typer.Argument(metavar="[RUN]...", help="Ids, folders, or last.")
]


@app.command()
@expanded
def deploy(
    *,
    options: WorkloadOptions,
    plan: PlanOptions,
    workload: Annotated[str | None, typer.Argument(metavar="WORKLOAD", help=SOURCES)] = None,
    target: TargetNames = "host",
    port: Port = None,
    container: Containers = None,
    compute_capability: ComputeCapability = None,
    no_cache: NoCache = False,
    explain_cache: ExplainCache = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where a toolchain did less than asked.")
    ] = False,
    emulate: Annotated[
        bool,
        typer.Option("--emulate", help="An accuracy from this host where a toolchain is missing."),
    ] = False,
    beside: Annotated[
        list[str] | None,
        typer.Option("--beside", help="A workload to run on the device at the same time."),
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Go on with a run: its id, or last.")
    ] = None,
    json: Json = False,
) -> None:
    """Export, compile, deploy, measure and report a workload on targets."""
    if (workload is None) == (resume is None):
        msg = "deploy takes a workload or --resume, one of the two"
        raise InputError(msg, hint="For example: edgedeploy deploy digits --target host")
    if resume and port:
        msg = "--resume goes on with the targets of its run, and --port would change one"
        raise InputError(msg, hint="Start a new run, or name the port in EDGEDEPLOY_PORT_<TARGET>.")
    if resume and (strict or emulate or beside):
        msg = "--resume goes on with a run as asked; --strict, --emulate and --beside are new"
        raise InputError(msg, hint="Start a new run with them.")
    if resume:
        from edgedeploy.store import open_run

        run = open_run(resume)
        run.forget_missing()
    else:
        run = _new_run(
            options.workload(str(workload)),
            target,
            options,
            plan,
            port=port,
            compute_capability=compute_capability,
            use_cache=not no_cache,
            strict=strict,
            emulate=emulate,
            beside=beside or [],
        )
    _use_containers(container, run)
    _measure(run, json=json, explain_cache=explain_cache)


@app.command()
@expanded
def bench(
    *,
    options: WorkloadOptions,
    plan: PlanOptions,
    workload: WorkloadName,
    target: TargetNames = "host",
    port: Port = None,
    container: Containers = None,
    json: Json = False,
) -> None:
    """Measure again, on the artifacts already compiled and without the parity ladder."""
    run = _new_run(options.workload(workload), target, options, plan, port=port, with_ladder=False)
    _use_containers(container, run)
    _measure(run, json=json, explain_cache=False)


app.command()(stage_verbs.export)
app.command(name="compile")(stage_verbs.compile_model)
app.command()(stage_verbs.verify)


@app.command()
def report(
    *,
    runs: RunNames = None,
    all_runs: Annotated[bool, typer.Option("--all", help="All rows of all runs.")] = False,
    workload: Annotated[
        str | None, typer.Option("--workload", help="With --all: of one workload.")
    ] = None,
    form: Annotated[
        str,
        typer.Option("--format", "-f", help="table, html, json, csv, markdown or latex."),
    ] = "table",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it here.")] = None,
    json: Json = False,
) -> None:
    """Show or write the report of one run, of several, or of all."""
    from edgedeploy.index import all_rows
    from edgedeploy.report.collect import merged_report, report_of
    from edgedeploy.report.files import render
    from edgedeploy.show import report_table
    from edgedeploy.store import open_run

    one: Run | None = None
    if all_runs:
        found = merged_report(all_rows(workload=workload))
    else:
        opened = [open_run(name) for name in runs or ["last"]]
        one = opened[0] if len(opened) == 1 else None
        reports = [report_of(run) for run in opened]
        rows = [row for each in reports for row in each.rows]
        found = reports[0] if one else merged_report(rows)
    if json:
        form = "json"
    if form == "table" and output is None:
        report_table(found)
        return
    text = render(found, "html" if form == "table" else form, one)
    if output is None:
        sys.stdout.write(text)
        return
    output.write_text(text, encoding="utf-8")
    say(f"written: {output}")


@app.command()
def compare(
    baseline: Annotated[str, typer.Argument(help="A run, or several with commas.")],
    candidate: Annotated[str, typer.Argument(help="A run, or several with commas.")],
    fail_if: Annotated[
        str | None,
        typer.Option("--fail-if", help="A gate: slower, slower:5%, accuracy:1%, with commas."),
    ] = None,
    json: Json = False,
) -> None:
    """Compare two runs or two sets of runs: faster, slower, same, or not comparable and why."""
    from edgedeploy.comparison import compare as compare_rows
    from edgedeploy.gate import gate, parse_conditions
    from edgedeploy.report.collect import measured_rows
    from edgedeploy.show import comparison_table

    if fail_if:
        parse_conditions(fail_if)
    found = compare_rows(measured_rows(baseline.split(",")), measured_rows(candidate.split(",")))
    answer(found, json, lambda: comparison_table(found))
    if fail_if:
        gate(found, fail_if)


@app.command()
def targets(json: Json = False) -> None:
    """List the targets known."""
    from edgedeploy.show import target_table
    from edgedeploy.target import every_target

    found = every_target()
    answer(found, json, lambda: target_table(found))


@app.command()
def doctor(json: Json = False) -> None:
    """Say of every target, toolchain and instrument whether it is there, and the remedy."""
    from edgedeploy.doctor import examine
    from edgedeploy.show import diagnosis_table, progress_bar

    with progress_bar() as progress:
        progress("doctor", "probing", 0.0)
        found = examine()
    answer(found, json, lambda: diagnosis_table(found))


def main() -> None:
    """Run the command line; every failure a user can cause ends here as a message and a code."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = app(standalone_mode=False)
    except EdgeDeployError as err:
        _complain(err)
        sys.exit(err.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except typer.Exit as err:
        sys.exit(err.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as err:
        from edgedeploy.cache import storage_error

        _complain(storage_error(err, Path()))
        sys.exit(1)
    except Exception as err:
        show = getattr(err, "show", None)  # a usage error of the command line's own library
        if show is None:
            raise
        show()
        sys.exit(2)
    if code == INTERRUPTED:  # the command line's library answers it for Ctrl-C
        say("interrupted: finished rows are kept; `edgedeploy deploy --resume last` goes on")
    sys.exit(code if isinstance(code, int) else 0)


def _new_run(
    workload: "Workload",
    target: str,
    options: WorkloadOptions,
    plan: PlanOptions,
    *,
    port: str | None,
    compute_capability: str | None = None,
    use_cache: bool = True,
    with_ladder: bool = True,
    strict: bool = False,
    emulate: bool = False,
    beside: Sequence[str] = (),
) -> "Run":
    from edgedeploy import __version__
    from edgedeploy._inproc.host import host_facts
    from edgedeploy.store import Job, create_run
    from edgedeploy.target import load_targets
    from edgedeploy.workload import load_workload

    job = Job(
        workload=workload,
        targets=tuple(load_targets(target, port=port, compute_capability=compute_capability)),
        precisions=options.precisions(),
        plan=plan.plan(),
        use_cache=use_cache,
        with_ladder=with_ladder,
        strict=strict,
        emulate=emulate,
        beside=tuple(load_workload(name) for name in beside),
        host=host_facts(),
    )
    return create_run(job, __version__)


def _use_containers(asked: Sequence[str] | None, run: "Run") -> None:
    from edgedeploy.container import use

    try:
        use(asked or (), run.state.job.targets)
    except InputError:
        run.discard_if_empty()
        raise


def _measure(run: "Run", *, json: bool, explain_cache: bool) -> None:
    from edgedeploy.pipeline import Pipeline, exit_code
    from edgedeploy.report.collect import report_of
    from edgedeploy.report.files import write_report
    from edgedeploy.row import Hooks
    from edgedeploy.show import progress_bar, report_table

    with progress_bar() as progress:
        pipeline = Pipeline(run, Hooks(progress=progress))
        try:
            pipeline.execute()
        except EdgeDeployError:
            run.discard_if_empty()
            raise
        found = report_of(run)
        progress(run.id, "report", 0.0)
        page = write_report(found, run)
    explain(pipeline.events, explain_cache)
    if json:
        from edgedeploy.report.json_file import to_json

        sys.stdout.write(to_json(found).decode())
    else:
        report_table(found)
        sys.stdout.write(f"\nHTML report: {page}\n")
    raise typer.Exit(exit_code(found.rows))


def _complain(err: EdgeDeployError) -> None:
    if err.log:
        say(f"log:\n{err.log}\n")
    say(f"error: {err.message}")
    if err.hint:
        say(f"  do: {err.hint}")


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
