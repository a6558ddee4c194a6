"""Load a .pt2 file that may come from anywhere: no pickle in it is run, no size in it is code."""

import ast
import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedeploy.errors import ExportError

if TYPE_CHECKING:
    import torch

PICKLED = "opaque_obj_"
FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
# Sizes are kept as text that the loader evaluates: arithmetic on symbols, and these functions.
SIZE_FUNCTIONS = frozenset(
    {
        *("Abs", "Add", "And", "Eq", "Float", "Ge", "Gt", "Integer", "Le", "Lt", "Max", "Min"),
        *("Mod", "Mul", "Ne", "Not", "Or", "Piecewise", "Pow", "Rational", "Symbol", "Tuple"),
        *("CeilDiv", "CeilToInt", "CleanDiv", "FloatPow", "FloatTrueDiv", "FloorDiv"),
        *("FloorToInt", "Identity", "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "LShift"),
        *("ModularIndexing", "PowByNatural", "PythonMod", "RShift", "RoundDecimal", "RoundToInt"),
        *("ToFloat", "TruncToFloat", "TruncToInt", "Where", "ceiling", "floor"),
    }
)
# the name of a symbol, or a number: nothing that could be a call
WORD = re.compile(r"[\w.+-]*")
ARITHMETIC = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.Constant,
    ast.Name,
    ast.Load,
    ast.keyword,
    ast.Tuple,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
)


def load_exported_program(path: Path) -> "torch.export.ExportedProgram":
    """The program in `path`.

    PyTorch would unpickle objects in such a file and evaluate its sizes as Python. Raises
    `ExportError` where the file asks for that, and where it is damaged.
    """
    import torch

    _refuse_code(path)
    try:
        with _weights_only():
            return torch.export.load(str(path))
    except Exception as err:  # torch raises many kinds for a damaged archive
        first = next(iter(str(err).strip().splitlines()), type(err).__name__)
        msg = f"{path} is not an exported program, or is truncated: {first[:300]}"
        hint = "Write it with torch.export.save; pickled objects are refused (weights_only)."
        raise ExportError(msg, hint=hint) from err


@contextmanager
def _weights_only() -> Iterator[None]:
    """Let torch.load read tensors alone, whatever its caller asks for."""
    before = os.environ.get(FORCE)
    os.environ[FORCE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FORCE]
        else:
            os.environ[FORCE] = before


def _refuse_code(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            texts = [archive.read(n) for n in names if n.endswith(".json")]
            records = [json.loads(text) for text in texts]
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError) as err:
        msg = f"{path} is not an exported program, or is truncated: {err}"
        raise ExportError(msg, hint="Write it with torch.export.save.") from err
    for record in records:
        for key, value in _entries(record):
            if key == "path_name" and str(value).startswith(PICKLED):
                msg = f"{path} holds a pickled object ({value}), which is not loaded"
                raise ExportError(msg, hint="Export a model that keeps tensors alone.")
            if key == "expr_str" and not _is_arithmetic(str(value)):
                msg = f"{path} holds a size that is no arithmetic: {str(value)[:80]!r}"
                raise ExportError(msg, hint="Take the file from who exported it; do not trust it.")


def _entries(record: object) -> Iterator[tuple[str, Any]]:
    """All keys and values of a JSON document."""
    if isinstance(record, dict):
        for key, value in record.items():
            yield key, value
            yield from _entries(value)
    elif isinstance(record, list):
        for value in record:
            yield from _entries(value)


def _is_arithmetic(text: str) -> bool:
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(_is_plain(node) for node in nodes)


def _is_plain(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in SIZE_FUNCTIONS
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return bool(WORD.fullmatch(node.value))
    return isinstance(node, ARITHMETIC)
