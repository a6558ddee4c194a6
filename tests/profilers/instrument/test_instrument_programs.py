"""Every instrument's program keeps the contract: functions, header, lock, no host package."""

import ast
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from edgedeploy.interpreter import read_header

PROGRAMS = sorted((Path(__file__).parents[3] / "profilers" / "instrument").glob("*.py"))
every_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)


def pins(program: Path) -> list[Requirement]:
    lines = program.with_suffix(".lock").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


@every_program
def test_functions_take_what_the_contract_says(
    load: Callable[[str], ModuleType], program: Path
) -> None:
    module = load(program.stem)
    assert [list(signature(getattr(module, f)).parameters) for f in ("probe", "read", "close")] == [
        [],
        [],
        [],
    ]
    assert list(signature(module.open).parameters) == ["options"]
    assert issubclass(module.Missing, Exception)
    assert module.Missing("what", hint="remedy").hint == "remedy"


@every_program
def test_header_is_met_by_the_lock(program: Path) -> None:
    header = read_header(program)
    assert header.requires_python
    locked = {pin.name: pin for pin in pins(program)}
    for pin in locked.values():
        assert [s.operator for s in pin.specifier] == ["=="]
    for text in header.dependencies:
        wanted = Requirement(text)
        version = next(iter(locked[wanted.name].specifier)).version
        assert wanted.specifier.contains(version), f"{text} is not met by {version}"


@every_program
def test_program_does_not_import_the_host(program: Path) -> None:
    tree = ast.parse(program.read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert "edgedeploy" not in imported
    assert imported
