"""The cache: whole entries or none, a miss that says why, and two processes that agree."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.cache import Cached, build, cache_folder, digest_of, lookup, storage_error
from edgedeploy.errors import InputError, StorageError

PARTS = {"model": "a" * 64, "options": "{}", "tool vendor": "1.2"}
CONTENT = b"bytes of an artifact\n" * 50


def make(folder: Path) -> dict[str, Any]:
    """One artifact in a folder of its own, and its path in the answer."""
    path = folder / "out" / "model.bin"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return {"path": str(path), "folder": str(folder), "log": 'quoted "path" ü', "none": None}


def keep(parts: dict[str, str] = PARTS, **options: Any) -> Cached:
    return build("compile", "digits-host", parts, make, **options)


def refused(_: Path) -> dict[str, Any]:
    message = "made again although it was whole"
    raise AssertionError(message)


def leftovers() -> list[Path]:
    return [path for path in cache_folder().rglob("*") if path.name.endswith(".part")]


def test_made_once_then_taken() -> None:
    first = keep()
    assert (first.event.outcome, first.event.why) == ("miss", "nothing was kept for it yet")
    assert Path(first.answer["path"]).read_bytes() == CONTENT
    assert first.answer["path"].startswith(first.folder)
    second = build("compile", "digits-host", dict(reversed(PARTS.items())), refused)
    assert (second.event.outcome, second.event.why) == ("hit", "same inputs")
    assert second.answer == first.answer
    assert second.event.key == first.event.key == digest_of(PARTS)
    assert lookup("compile", "digits-host", PARTS) == second
    assert not leftovers()


def test_a_moved_cache_still_answers_its_own_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep()
    shutil.move(cache_folder(), tmp_path / 'moved "here" ü')
    monkeypatch.setenv("EDGEDEPLOY_CACHE", str(tmp_path / 'moved "here" ü'))
    found = build("compile", "digits-host", PARTS, refused)
    assert found.answer["path"].startswith(str(tmp_path / 'moved "here" ü'))
    assert Path(found.answer["path"]).read_bytes() == CONTENT


def test_a_miss_names_what_differs() -> None:
    keep()
    changed = {**PARTS, "options": '{"per_channel": false}', "calibration": "b" * 64}
    del changed["tool vendor"]
    event = keep(changed).event
    assert event.outcome == "miss"
    assert event.why == (
        "changed since the latest entry: calibration: (absent) -> bbbbbbbbbbbb…;"
        ' options: {} -> {"per_channel": false}; tool vendor: 1.2 -> (absent)'
    )
    other = build("compile", "digits-other", PARTS, make).event
    assert other.why == "nothing was kept for it yet"


def test_switched_off_makes_anew_and_keeps_it() -> None:
    keep()
    event = keep(use=False).event
    assert (event.outcome, event.why) == ("off", "the cache was switched off")
    assert build("compile", "digits-host", PARTS, refused).event.outcome == "hit"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def same_size(path: Path) -> None:
    stat = path.stat()
    path.write_bytes(b"X" + path.read_bytes()[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def list_instead(path: Path) -> None:
    path.write_text("[1, 2]")


def number_inside(path: Path) -> None:
    path.write_text(json.dumps({"entry": 5, "sha256": ""}))


def other_answer(path: Path) -> None:
    path.write_text(path.read_text().replace("model.bin", "other.bin"))


@pytest.mark.parametrize(
    ("name", "damage", "why"),
    [
        ("out/model.bin", cut, "out/model.bin was changed or cut"),
        ("out/model.bin", same_size, "out/model.bin was changed or cut"),
        ("out/model.bin", Path.unlink, "it is incomplete (FileNotFoundError"),
        ("entry.json", cut, "it is incomplete (JSONDecodeError"),
        ("entry.json", Path.unlink, "it is incomplete (FileNotFoundError"),
        ("entry.json", list_instead, "it is incomplete (TypeError"),
        ("entry.json", number_inside, "it is incomplete (AttributeError"),
        ("entry.json", other_answer, "its record was changed"),
    ],
)
def test_damage_is_seen_and_mended(name: str, damage: Callable[[Path], None], why: str) -> None:
    folder = Path(keep().folder)
    damage(folder / name)
    assert lookup("compile", "digits-host", PARTS) is None
    event = keep().event
    assert event.outcome == "damaged"
    assert event.why.startswith(why)
    assert (folder / "out" / "model.bin").read_bytes() == CONTENT
    assert build("compile", "digits-host", PARTS, refused).event.outcome == "hit"


def test_the_latest_entry_unreadable_is_no_reason_to_fail() -> None:
    folder = Path(keep().folder)
    cut(folder / "entry.json")
    assert keep({"model": "b"}).event.why == "the latest entry is unreadable"


@pytest.mark.parametrize("error", [InputError("bad"), KeyboardInterrupt(), ZeroDivisionError()])
def test_what_cannot_be_made_leaves_nothing(error: BaseException) -> None:
    def broken(folder: Path) -> dict[str, Any]:
        make(folder)
        raise error

    with pytest.raises(type(error)):
        build("compile", "digits-host", PARTS, broken)
    assert not leftovers()
    assert lookup("compile", "digits-host", PARTS) is None
    assert keep().event.outcome == "miss"


def test_what_cannot_be_made_leaves_the_entry_that_was() -> None:
    keep()

    def broken(_: Path) -> dict[str, Any]:
        message = "bad"
        raise InputError(message)

    with pytest.raises(InputError):
        build("compile", "digits-host", PARTS, broken, use=False)
    assert build("compile", "digits-host", PARTS, refused).event.outcome == "hit"


def test_a_file_that_is_missing_while_making_is_no_full_disk(tmp_path: Path) -> None:
    def absent(_: Path) -> dict[str, Any]:
        return {"text": (tmp_path / "image.png").read_text()}

    with pytest.raises(FileNotFoundError):
        build("calibrate", "digits", PARTS, absent)


PROGRAM = """
import os, sys, time
from pathlib import Path
from edgedeploy.cache import build

def make(folder):
    with open(sys.argv[1], "a") as file:
        file.write("%d\\n" % os.getpid())
    (folder / "half.bin").write_bytes(b"half")
    time.sleep(float(sys.argv[2]))
    (folder / "half.bin").write_bytes(b"whole")
    return {"path": str(folder / "half.bin"), "by": os.getpid()}

print(build("compile", "subject", {"model": "a"}, make).answer["by"])
"""


def run(marks: Path, seconds: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, str(marks), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_processes_make_it_once_and_agree(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    with run(marks, 0.5) as first, run(marks, 0.5) as second:
        said = {process.communicate(timeout=30)[0] for process in (first, second)}
    assert marks.read_text() in said
    assert len(said) == 1


def test_killed_while_making_leaves_no_entry(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    with run(marks, 60) as process:
        wait_for(marks)
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert lookup("compile", "subject", {"model": "a"}) is None
    assert len(leftovers()) == 1
    with run(marks, 0) as process:
        process.communicate(timeout=30)
        assert process.returncode == 0
    found = lookup("compile", "subject", {"model": "a"})
    assert found is not None
    assert Path(found.answer["path"]).read_bytes() == b"whole"
    assert not leftovers()


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow over 4 kB: the system refuses as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


def large(folder: Path) -> dict[str, Any]:
    (folder / "large.bin").write_bytes(bytes(1 << 20))
    return {}


def test_no_room_for_the_artifact(small_files: None) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*File too large") as caught:
        build("compile", "digits-host", PARTS, large)
    assert "EDGEDEPLOY_CACHE" in caught.value.hint
    assert caught.value.exit_code == 1
    assert not leftovers()
    assert keep().event.outcome == "miss"


def test_no_room_for_the_record(small_files: None) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        build("compile", "digits-host", {"options": "x" * 8000}, make)
    assert not leftovers()


@pytest.fixture
def full_disk() -> Iterator[Path]:
    """A disk of 256 kB, where the system lets us mount one."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]
        if (
            shutil.which("mount") is None
            or subprocess.run(command, check=False, capture_output=True).returncode
        ):
            pytest.skip("no right to mount a small disk here")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def test_a_full_disk(full_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDEPLOY_CACHE", str(full_disk))
    keep()
    with pytest.raises(StorageError, match="No space left on device") as caught:
        build("compile", "digits-host", {"model": "other"}, large)
    assert "Free space" in caught.value.hint
    assert build("compile", "digits-host", PARTS, refused).event.outcome == "hit"
    assert not leftovers()
    (full_disk / "filler").write_bytes(bytes(160_000))
    for i in range(200):
        try:
            (full_disk / f"filler-{i}").write_bytes(bytes(4096))
        except OSError:
            break
    with pytest.raises(StorageError, match="No space left on device"):
        build("compile", "another", PARTS, make)


def test_a_cache_folder_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEDEPLOY_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"cannot use .*file.*: Not a directory") as caught:
        keep()
    assert caught.value.hint


@pytest.mark.parametrize("call", ["mkdir", "open", "rename"])
def test_no_permission(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    keep()

    def denied(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, call, denied)
        with pytest.raises(StorageError, match=r"cannot write .*: Permission denied") as caught:
            keep({"model": "other"})
    assert "permissions" in caught.value.hint
    assert build("compile", "digits-host", PARTS, refused).event.outcome == "hit"
    assert not leftovers()


def test_what_the_system_refused_is_told_apart() -> None:
    gone = storage_error(FileNotFoundError(errno.ENOENT, "No such file", "/a/b"), Path("c"))
    assert gone.message == "cannot use /a/b: No such file"
    assert "moved or removed" in gone.hint
    unnamed = storage_error(OSError("odd"), Path("c"))
    assert unnamed.message == "cannot write c: odd"


TEXTS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), min_size=1, max_size=6)


@given(TEXTS, st.randoms())
def test_the_key_does_not_depend_on_order(parts: dict[str, str], random: Any) -> None:
    shuffled = list(parts.items())
    random.shuffle(shuffled)
    assert digest_of(dict(shuffled)) == digest_of(parts)


@given(TEXTS, TEXTS)
def test_different_parts_have_different_keys(one: dict[str, str], other: dict[str, str]) -> None:
    assert (digest_of(one) == digest_of(other)) == (one == other)


@given(TEXTS, st.data())
def test_any_changed_part_changes_the_key(parts: dict[str, str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(parts)))
    changed = {**parts, name: parts[name] + data.draw(st.text(min_size=1, max_size=3))}
    without = {key: value for key, value in parts.items() if key != name}
    moved = {**without, name + "'": parts[name]}
    assert len({digest_of(each) for each in (parts, changed, without, moved)}) == 4
