"""The command line's options that several verbs share, declared once."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from edgedeploy.records import Plan
    from edgedeploy.workload import Workload

SOURCES = "A built-in name, a .toml, an .onnx, .pt2 or TorchScript file, or module:callable."

Json = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]
TargetNames = Annotated[str, typer.Option("--target", "-t", help="Targets, separated by commas.")]
Port = Annotated[
    str | None, typer.Option("--port", help="Serial port of a board: a device, socket://host:port.")
]
Containers = Annotated[
    list[str] | None,
    typer.Option(
        "--container", help="Image in which the compiler is served; NAME=IMAGE for the one of NAME."
    ),
]
ComputeCapability = Annotated[
    str | None,
    typer.Option("--compute-capability", help="Of the GPUs to compile for: 8.6,8.9."),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Make every stage anew.")]
ExplainCache = Annotated[
    bool, typer.Option("--explain-cache", help="Say why each stage was made or taken.")
]


@dataclass
class WorkloadOptions:
    """What may be said of a workload in place of its own."""

    precision: Annotated[
        str | None,
        typer.Option("--precision", "-p", help="fp32, int8, …, with commas; all of them else."),
    ] = None
    calibration: Annotated[
        str | None,
        typer.Option(help="Folder of images, .npz, module:function, or 'seeded'."),
    ] = None
    evaluation: Annotated[
        str | None,
        typer.Option(help="Labelled data: class folders, CIFAR-10 pickles, .npz, a function."),
    ] = None
    metric: Annotated[str | None, typer.Option(help="top1, top5 or module:callable.")] = None
    shape: Annotated[list[str] | None, typer.Option(help="An input's shape: name=1,3,224,224.")] = (
        None
    )
    mean: Annotated[str | None, typer.Option(help="Per channel, after scaling to 0..1.")] = None
    std: Annotated[str | None, typer.Option(help="Per channel, after scaling to 0..1.")] = None
    samples: Annotated[int | None, typer.Option(min=1, help="Calibration samples.")] = None
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the runtime.")] = None

    def workload(self, source: str) -> "Workload":
        """The workload `source` names, changed as these options say."""
        from edgedeploy.overrides import configured

        return configured(
            source,
            calibration=self.calibration,
            evaluation=self.evaluation,
            metric=self.metric,
            shapes=self.shape or (),
            mean=self.mean,
            std=self.std,
            samples=self.samples,
            threads=self.threads,
        )

    def precisions(self) -> tuple[str, ...] | None:
        """The precisions asked for; None for all that the target has."""
        if self.precision is None:
            return None
        return tuple(part.strip() for part in self.precision.split(",") if part.strip()) or None


@dataclass
class PlanOptions:
    """How long and how often is measured."""

    runs: Annotated[int | None, typer.Option(min=1, help="Inferences timed, exactly.")] = None
    duration: Annotated[
        float | None, typer.Option(min=0.01, help="Seconds timed, at least (2 else).")
    ] = None
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds any one call may take.")] = 600.0

    def plan(self) -> "Plan":
        """The plan these options make."""
        from edgedeploy.records import Plan

        if self.duration is not None:
            limit = max(self.duration, Plan().latency_max_s)
            return Plan(
                latency_count=self.runs,
                latency_min_s=self.duration,
                latency_max_s=limit,
                timeout_s=self.timeout,
            )
        return Plan(latency_count=self.runs, timeout_s=self.timeout)


def expanded(function: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter that is one of the classes above by that class's fields.

    The command line sees plain options; the function gets the objects.
    """
    hints = get_type_hints(function, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if kind in {WorkloadOptions, PlanOptions}}
    plain = [p for name, p in inspect.signature(function).parameters.items() if name not in groups]
    parameters = [p.replace(annotation=hints[p.name]) for p in plain]
    for kind in groups.values():
        kinds = get_type_hints(kind, include_extras=True)
        parameters += [
            inspect.Parameter(
                f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=kinds[f.name]
            )
            for f in fields(kind)
        ]

    def called(**values: Any) -> None:
        made = {
            name: kind(**{f.name: values.pop(f.name) for f in fields(kind)})
            for name, kind in groups.items()
        }
        function(**values, **made)

    called.__name__ = function.__name__
    called.__doc__ = function.__doc__
    keyword = inspect.Parameter.KEYWORD_ONLY
    called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=keyword) for p in parameters]
    )
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    return called
