"""What a making read: files opened or imported, packages, and how that is remembered."""

import codecs
import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgedeploy.cache import cache_folder
from edgedeploy.errors import StorageError
from edgedeploy.trace import PACKAGE, Seen, file_reads, recall, remember

Write = Callable[..., Path]

FIXED = {"opset": "18"}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's, current, with a file to read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.txt").write_text("1")
    return tmp_path


def test_files_read_in_any_way_are_noted(outside: Path) -> None:
    names = [f"{kind}.txt" for kind in ("open", "bytes", "path", "os", "relative", "past")]
    for name in names:
        (outside / name).write_text("x")
    with file_reads() as reads:
        codecs.open(str(outside / "open.txt"), "rb").close()
        codecs.open(os.fsencode(outside / "bytes.txt"), "rb").close()
        (outside / "path.txt").read_text()
        os.close(os.open(outside / "os.txt", os.O_RDONLY))
        Path("relative.txt").read_text()
        reads.add(outside / "past.txt")
    found = reads.seen().files
    assert {str(outside / name) for name in names} <= set(found)
    assert list(found) == sorted(found)


def test_what_is_written_is_not(outside: Path) -> None:
    with file_reads() as reads:
        (outside / "new.txt").write_text("x")
        with (outside / "more.txt").open("a") as file:
            file.write("x")
    assert not {str(outside / "new.txt"), str(outside / "more.txt")} & set(reads.seen().files)


def test_what_is_read_outside_of_the_block_is_not(outside: Path) -> None:
    (outside / "early.txt").write_text("x")
    (outside / "early.txt").read_text()
    with file_reads() as reads:
        (outside / "data.txt").read_text()
    (outside / "early.txt").read_text()
    found = reads.seen().files
    assert str(outside / "data.txt") in found
    assert str(outside / "early.txt") not in found


def test_the_stages_own_folder_the_cache_and_what_is_installed_are_not(outside: Path) -> None:
    output, kept = outside / "scratch", cache_folder() / "hashes.json"
    for path in (output / "raw.onnx", kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    with file_reads(output) as reads:
        (output / "raw.onnx").read_text()
        kept.read_text()
        Path(json.__file__).read_text()
        Path(pytest.__file__).read_text()
    found = set(reads.seen().files)
    assert not found & {str(output / "raw.onnx"), str(kept), json.__file__, pytest.__file__}


def test_a_file_that_is_gone_again_is_not(outside: Path) -> None:
    with file_reads() as reads:
        (outside / "data.txt").read_text()
        (outside / "data.txt").unlink()
    assert str(outside / "data.txt") not in reads.seen().files


def test_imported_modules_count_and_their_bytecode_does_not(
    write: Write, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("seldom_named_module.py", "VALUE = 1\n")
    monkeypatch.syspath_prepend(str(outside))
    with file_reads() as reads:
        importlib.import_module("seldom_named_module")
    found = reads.seen().files
    assert str(path) in found
    assert not [name for name in found if name.endswith(".pyc")]
    del sys.modules["seldom_named_module"]


@pytest.mark.parametrize("package", [True, False])
def test_this_package_counts_where_asked(package: bool) -> None:
    with file_reads(package=package) as reads:
        pass
    inside = [name for name in reads.seen().files if Path(name).is_relative_to(PACKAGE)]
    assert bool(inside) == package


def test_installed_packages_count_by_their_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    with file_reads() as reads:
        pass
    seen = reads.seen()
    assert {"numpy", "msgspec", "pytest"} <= set(seen.packages)
    remember("stage", FIXED, Seen(files=(), packages=("numpy",)))
    before = recall("stage", FIXED)
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "99" if name == "numpy" else real(name)
    )
    after = recall("stage", FIXED)
    assert before is not None
    assert after is not None
    assert (before[0]["package numpy"], after[0]["package numpy"]) == (real("numpy"), "99")


def test_what_was_remembered_is_held_against_the_files_as_they_are(outside: Path) -> None:
    path = outside / "data.txt"
    seen = Seen(files=(str(path),), packages=(), more={"inputs": [1]})
    assert recall("stage", FIXED) is None
    remember("stage", FIXED, seen)
    first = recall("stage", FIXED)
    assert first is not None
    assert first[0].keys() == {"opset", f"file {path}"}
    assert first[1] == {"inputs": [1]}
    assert recall("stage", FIXED) == first
    path.write_text("2")
    second = recall("stage", FIXED)
    assert second is not None
    assert second[0][f"file {path}"] != first[0][f"file {path}"]
    assert recall("stage", {"opset": "17"}) is None
    assert recall("other", FIXED) is None
    path.unlink()
    assert recall("stage", FIXED) is None


def test_a_package_that_is_gone_makes_it_unknown() -> None:
    remember("stage", FIXED, Seen(files=(), packages=("no-such-distribution",)))
    assert recall("stage", FIXED) is None


def test_damaged_memory_is_no_memory() -> None:
    remember("stage", FIXED, Seen(files=(), packages=()))
    (path,) = (cache_folder() / "stage-files").iterdir()
    assert recall("stage", FIXED) is not None
    path.write_text("{")
    assert recall("stage", FIXED) is None


def test_memory_that_cannot_be_kept(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDEPLOY_CACHE", str(outside / "data.txt"))
    with pytest.raises(StorageError, match=r"cannot use .*data.txt/stage-files: Not a directory"):
        remember("stage", FIXED, Seen(files=(), packages=()))
