"""Exported programs from anywhere: read as data, or refused before anything in them runs."""

import contextlib
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch_nets as nets
from bad_inputs import SideEffect

from edgedeploy.errors import ExportError
from edgedeploy.exported_program import FORCE, load_exported_program

Change = Callable[[str, bytes], bytes]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with sizes that may vary."""
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("time")}
    example = (torch.zeros(2, 5, dtype=torch.int64),)
    made = torch.export.export(nets.Tokens().eval(), example, dynamic_shapes=(axes,))
    path = tmp_path_factory.mktemp("program") / "m.pt2"
    torch.export.save(made, str(path))
    return path


@pytest.fixture
def changed(program: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """The program's archive with the content of its members changed."""

    def made(change: Change) -> Path:
        path = tmp_path / "m.pt2"
        with zipfile.ZipFile(program) as given, zipfile.ZipFile(path, "w") as archive:
            for name in given.namelist():
                archive.writestr(name, change(name, given.read(name)))
        return path

    return made


def refused(path: Path) -> str:
    with pytest.raises(ExportError) as caught:
        load_exported_program(path)
    assert caught.value.hint
    return caught.value.message


def test_a_program_loads_with_its_sizes(program: Path) -> None:
    with zipfile.ZipFile(program) as archive:
        texts = [archive.read(n) for n in archive.namelist() if n.endswith("model.json")]
    assert any(b"Symbol(" in text for text in texts), "sizes are expressions"
    loaded = load_exported_program(program)
    tokens = torch.tensor([[1, 2, 3]])
    assert loaded.module()(tokens).shape == (1, 2)
    assert FORCE not in os.environ


def test_a_rewritten_archive_loads_too(changed: Callable[[Change], Path]) -> None:
    assert load_exported_program(changed(lambda _name, content: content)) is not None


@pytest.mark.parametrize(
    "code",
    [
        "__import__('os').mkdir({mark!r})",
        "exec(chr(112))",
        "Symbol('x').__class__",
        "[x for x in (1, 2)]",
        "(lambda: 1)()",
        "Symbol('__import__(1)')",
        "Add(",
    ],
)
def test_a_size_that_is_code_is_refused(
    changed: Callable[[Change], Path], tmp_path: Path, code: str
) -> None:
    mark = tmp_path / "it-ran"
    text = code.format(mark=str(mark)).replace('"', '\\"')

    def change(_name: str, content: bytes) -> bytes:
        return content.replace(b"Symbol('s", f"{text} or Symbol('s".encode())

    assert "holds a size that is no arithmetic: " in refused(changed(change))
    assert not mark.exists()


@pytest.mark.parametrize("member", ["sample_inputs/model.pt", "weights/weight_0"])
def test_a_pickled_member_is_not_run(
    changed: Callable[[Change], Path], tmp_path: Path, member: str
) -> None:
    mark = tmp_path / "it-ran"
    torch.save(SideEffect(mark), tmp_path / "evil.pt")
    evil = (tmp_path / "evil.pt").read_bytes()

    def change(name: str, content: bytes) -> bytes:
        if name.endswith(member):
            return evil
        if "weight_" in member and name.endswith("weights_config.json"):
            return content.replace(b'"use_pickle": false', b'"use_pickle": true')
        return content

    path = changed(change)
    assert "is not an exported program, or is truncated: " in refused(path)
    assert not mark.exists()
    assert FORCE not in os.environ
    with contextlib.suppress(Exception):
        torch.export.load(str(path))
    assert mark.exists(), "the pickle would have run"


def test_a_pickled_constant_is_refused_by_name(
    changed: Callable[[Change], Path], tmp_path: Path
) -> None:
    mark = tmp_path / "it-ran"
    evil = pickle.dumps(SideEffect(mark))
    config = (
        b'{"config": {"c": {"path_name": "opaque_obj_0", "is_param": false, "use_pickle": true}}}'
    )

    def change(name: str, content: bytes) -> bytes:
        return config if name.endswith("constants_config.json") else content

    path = changed(change)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/data/constants/opaque_obj_0", evil)
    assert refused(path) == f"{path} holds a pickled object (opaque_obj_0), which is not loaded"
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"no archive", b"PK\x03\x04cut off"])
def test_what_is_no_program(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(content)
    assert refused(path).startswith(f"{path} is not an exported program, or is truncated: ")


def test_a_truncated_program(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    whole = program.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "is not an exported program, or is truncated: " in refused(path)


def test_another_kind_of_archive(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "m.pt2")
    assert "is not an exported program" in refused(tmp_path / "m.pt2")


def test_a_setting_of_the_users_is_put_back(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORCE, "0")
    load_exported_program(program)
    assert os.environ[FORCE] == "0"
