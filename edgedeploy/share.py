"""Where the targets and programs lie: the user's own folders first, then the ones shipped."""

import ast
import functools
import os
import re
from pathlib import Path

# the line of a program's PEP 723 header, which is TOML behind "# "
_MODULES = re.compile(r"^# modules = \[(.*)\]$", re.MULTILINE)
_HERE = Path(__file__).resolve().parent


def share_folders(kind: str) -> list[Path]:
    """Folders that may hold files of `kind` (`targets`, `compilers`, `profilers/runtime`, …).

    `EDGEDEPLOY_PATH` names folders of the user's own, separated like `PATH`, each laid out like
    this project: a board or toolchain put there needs no change to the installation.
    """
    packaged = _HERE / "_share"
    shipped = packaged if packaged.is_dir() else _HERE.parent
    own = [Path(p) for p in os.environ.get("EDGEDEPLOY_PATH", "").split(os.pathsep) if p]
    return [folder / kind for folder in [*own, shipped] if (folder / kind).is_dir()]


def shared_files(kind: str, suffix: str) -> dict[str, Path]:
    """File stem to path over all folders of `kind`; a user's own file wins over a shipped one."""
    found: dict[str, Path] = {}
    for folder in share_folders(kind):
        for path in sorted(folder.glob(f"*{suffix}")):
            found.setdefault(path.stem, path)
    return found


def program_files(program: Path) -> list[Path]:
    """A program and its modules: those in the folder of its name beside it, and those in the
    folders that its header names as `modules` under `[tool.edgedeploy]`, shared with others.
    """
    folders = [program.with_suffix(""), *(program.parent / name for name in _modules(program))]
    found = (path for folder in folders for path in sorted(folder.rglob("*.py")))
    return [program, *(path for path in found if path.is_file())]


def _modules(program: Path) -> list[str]:
    named = _MODULES.search(program.read_text(encoding="utf-8", errors="replace"))
    return re.findall(r'"([A-Za-z0-9_]+)"', named[1]) if named else []


def parameters(program: Path, function: str) -> tuple[str, ...] | None:
    """Names of the parameters of a program's function; None where it has no such function.

    Read in the source, its own modules that it imports the function from included: the program
    itself may lack what it imports.
    """
    return _functions(program, program.stat().st_mtime_ns).get(function)


@functools.lru_cache(maxsize=64)
def _functions(program: Path, _changed_ns: int) -> dict[str, tuple[str, ...]]:
    body = _body(program)
    modules = {path.stem: path for path in program_files(program)[1:]}
    found: dict[str, tuple[str, ...]] = {}
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            theirs = _defined(_body(modules[node.module]))
            names = {alias.name: alias.asname or alias.name for alias in node.names}
            found |= {own: theirs[name] for name, own in names.items() if name in theirs}
    return found | _defined(body)


def _body(path: Path) -> list[ast.stmt]:
    try:
        return ast.parse(path.read_text(encoding="utf-8")).body
    except (SyntaxError, UnicodeDecodeError):  # it says so itself when it is started
        return []


def _defined(body: list[ast.stmt]) -> dict[str, tuple[str, ...]]:
    """Functions at the top of a module, and their parameters' names."""
    return {
        node.name: tuple(
            each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        )
        for node in body
        if isinstance(node, ast.FunctionDef)
    }
