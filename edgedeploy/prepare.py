"""What a target needs done to a model before its compiler: rewrites, operator check, cut, fit."""

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgedeploy.cache import Cached, build
from edgedeploy.digest import file_sha256, files_sha256
from edgedeploy.errors import UnsupportedError
from edgedeploy.records import Model, Record, Target
from edgedeploy.target import compiler_program
from edgedeploy.workload import Workload

if TYPE_CHECKING:
    import onnx

# how a note of a cut begins
CUT = "cut behind"
# what rewrites and shape inference depend on
PACKAGES = ("onnx", "numpy")
GRAPH = Path(__file__).with_name("graph")
FIT = Path(__file__).with_name("fit.py")


class Prepared(Record):
    """A model as a compiler gets it; `tail_path` is what the host runs behind it."""

    path: str
    tail_path: str | None = None
    fit: dict[str, Any] = {}
    notes: tuple[str, ...] = ()


def operator_table(target: Target) -> Path | None:
    """The table of what the target's compiler and device know, beside the compiler's program."""
    table = compiler_program(target.compiler).with_suffix(".operators.toml")
    return table if table.is_file() else None


def prepare(
    model: Model, target: Target, precision: str, workload: Workload, *, use_cache: bool = True
) -> tuple[Prepared, Cached | None]:
    """The model with the target's rewrites, cut where it cannot go on, checked to fit.

    A target that asks for none of it gets the model as it is. A float type that `typed` gives for
    the precision is put into the graph. Raises `UnsupportedError` for an operator that the target
    lacks (by node) and for a model that does not fit its memories (by how much), `InputError` for
    an end node that is not there.
    """
    table = operator_table(target)
    if model.quantized and table is not None:
        msg = f"the model is quantized already, and the compiler of {target.name} quantizes itself"
        raise UnsupportedError(msg, hint="Give the float model.")
    typed = target.typed.get(precision)
    if not (target.rewrites or table or target.memory_bytes or typed):
        return Prepared(path=model.path), None

    def make(folder: Path) -> dict[str, Any]:
        made = _prepared(model, target, precision, workload, folder=folder)
        answer: dict[str, Any] = msgspec.to_builtins(made)
        return answer

    parts = {
        "model": model.sha256,
        "precision": precision,
        "rewrites": ", ".join(target.rewrites),
        "end nodes": ", ".join(workload.end_nodes),
        "type": typed or "",
        "memory": repr(sorted(target.memory_bytes.items())),
        "operators": file_sha256(table) if table else "",
        **{f"package {name}": importlib.metadata.version(name) for name in PACKAGES},
        "code": files_sha256([Path(__file__), FIT, *sorted(GRAPH.glob("*.py"))]),
    }
    subject = f"{workload.name}-{target.name}-{precision}"
    cached = build("prepare", subject, parts, make, use=use_cache)
    return msgspec.convert(cached.answer, Prepared), cached


def exact_fit(
    prepared: Prepared, target: Target, precision: str, file_bytes: int
) -> dict[str, Any]:
    """The fit with the size that the compiled file has; `UnsupportedError` where it is too large.

    Empty for a target without memories of its own.
    """
    if not prepared.fit:
        return {}
    from edgedeploy.fit import check_fit
    from edgedeploy.graph.read import read_onnx

    graph = read_onnx(Path(prepared.path))
    fit: dict[str, Any] = msgspec.to_builtins(
        check_fit(graph, target, precision, file_bytes=file_bytes)
    )
    return fit


def _prepared(
    model: Model, target: Target, precision: str, workload: Workload, *, folder: Path
) -> Prepared:
    from edgedeploy.fit import check_fit
    from edgedeploy.graph.cut import cut
    from edgedeploy.graph.read import read_onnx, write_onnx
    from edgedeploy.graph.rewrite import rewrite

    graph, notes = rewrite(read_onnx(Path(model.path)), target.rewrites)
    ends, why = _end_nodes(graph, workload, operator_table(target), precision)
    tail = None
    if ends:
        graph, tail = cut(graph, ends)
        count = len(tail.graph.node)
        notes = [*notes, f"{CUT} {', '.join(ends)} ({why}): {count} nodes run on the host"]
    if precision in target.typed:
        from edgedeploy.graph.typed import to_type

        graph, told = to_type(graph, target.typed[precision])
        notes = [*notes, *told]
    fit = check_fit(graph, target, precision) if target.memory_bytes else None
    path, tail_path = folder / "model.onnx", folder / "tail.onnx"
    write_onnx(graph, path)
    if tail is not None:
        write_onnx(tail, tail_path)
    return Prepared(
        path=str(path),
        tail_path=str(tail_path) if tail is not None else None,
        fit=msgspec.to_builtins(fit) if fit is not None else {},
        notes=tuple(notes),
    )


def _end_nodes(
    graph: "onnx.ModelProto", workload: Workload, table: Path | None, precision: str
) -> tuple[list[str], str]:
    """Where the graph is to be cut and why: as the workload says, else where the target ends."""
    from edgedeploy.graph.cut import cut, find_end_nodes
    from edgedeploy.graph.operators import check_operators

    if table is None:
        return [], ""
    if workload.end_nodes:
        cut(graph, list(workload.end_nodes))  # what is wrong with them is wrong for every target
    try:
        check_operators(graph, table, precision)
    except UnsupportedError as err:
        if workload.end_nodes:
            check_operators(cut(graph, list(workload.end_nodes))[0], table, precision)
            return list(workload.end_nodes), f"the workload's end nodes; {err.message}"
        ends = find_end_nodes(graph, table, precision)
        if not ends:
            raise
        return ends, err.message
    return [], ""
