"""Hashes remembered only while a file cannot have changed, and the same here as on a device."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from edgedeploy import digest
from edgedeploy.compile import hash_files
from edgedeploy.digest import bytes_sha256, file_sha256, files_sha256, load_memo, save_memo
from edgedeploy.worker import SERVE, Worker


@pytest.fixture(autouse=True)
def no_memory(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """An empty memory; the files that are read."""
    read: list[Path] = []
    original = digest._read_sha256

    def noted(path: Path) -> str:
        read.append(path)
        return original(path)

    monkeypatch.setattr(digest, "_memo", {})
    monkeypatch.setattr(digest, "_loaded", set())
    monkeypatch.setattr(digest, "_read_sha256", noted)
    return read


def settled(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the file seem to have been written long ago."""
    later = path.stat().st_ctime_ns + 10_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: later)


def test_a_settled_file_is_read_once(
    tmp_path: Path, no_memory: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"one")
    settled(path, monkeypatch)
    assert {file_sha256(path) for _ in range(3)} == {sha256(b"one").hexdigest()}
    assert len(no_memory) == 1
    assert file_sha256(path, memo=False) == sha256(b"one").hexdigest()
    assert len(no_memory) == 2
    path.write_bytes(b"two")
    assert file_sha256(path) == sha256(b"two").hexdigest() == bytes_sha256(b"two")


def test_a_fresh_file_is_read_each_time(tmp_path: Path, no_memory: list[Path]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"one")
    stat = path.stat()
    file_sha256(path)
    # written again within the clock's tick, with the same size and times: it cannot be told
    path.write_bytes(b"two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file_sha256(path) == sha256(b"two").hexdigest()
    assert len(no_memory) == 2


def test_an_old_date_does_not_make_a_fresh_file_settled(
    tmp_path: Path, no_memory: list[Path]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"one")
    os.utime(path, (1e9, 1e9))  # as `cp -p` and archives leave it
    file_sha256(path)
    file_sha256(path)
    assert len(no_memory) == 2


def test_the_memory_lasts(
    tmp_path: Path, no_memory: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"one")
    settled(path, monkeypatch)
    file_sha256(path)
    save_memo(tmp_path / "cache")
    assert [each.name for each in (tmp_path / "cache").iterdir()] == ["hashes.json"]
    digest._memo.clear()
    load_memo(tmp_path / "cache")
    assert file_sha256(path) == sha256(b"one").hexdigest()
    assert len(no_memory) == 1
    digest._memo.clear()
    load_memo(tmp_path / "cache")  # once is enough
    assert digest._memo == {}


@pytest.mark.parametrize(
    "text",
    ['{"a": [[1, 2], "x"', "[]", "3", '{"a": 5}', '{"a": ["x"]}', '{"a": [5, "x"]}', "", "\x00"],
)
def test_damaged_memory_is_no_memory(tmp_path: Path, text: str) -> None:
    (tmp_path / "hashes.json").write_text(text)
    load_memo(tmp_path)
    assert digest._memo == {}


def test_memory_that_cannot_be_kept_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    save_memo(tmp_path / "file")
    (tmp_path / "hashes.json").mkdir()
    save_memo(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "hashes.json"]


def test_names_count_among_several_files(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (tmp_path / name for name in "abc")
    assert files_sha256([a, b]) == files_sha256([a, b])
    assert len({files_sha256(order) for order in ([a, b], [b, a], [c, b], [a], [])}) == 5


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    program = tmp_path_factory.mktemp("device") / "any.py"
    program.write_text("")
    with Worker("any", [sys.executable, str(SERVE), str(program)]) as worker:
        yield worker


TREES: list[dict[str, bytes]] = [
    {"model.onnx": b"x" * 3_000_000},
    {"model.onnx": b""},
    {"model.xml": b"<x/>", "model.bin": b"123", "a/b/c": b"", "a.b/c": b"1", "a-b": b"2"},
    {"ü/ä ö.bin": b"1", "Z": b"2", "a": b"3"},
    {},
]


@pytest.mark.parametrize("tree", TREES, ids=[",".join(tree)[:20] for tree in TREES])
def test_a_device_hashes_as_this_host_does(
    tmp_path: Path, device: Worker, tree: dict[str, bytes]
) -> None:
    root = tmp_path / "artifact"
    root.mkdir()
    for name, content in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "empty").mkdir()
    found = device.call("serve.sha256", path=str(root))
    assert (found["sha256"], found["size_bytes"]) == hash_files(root)
    assert found["size_bytes"] == sum(map(len, tree.values()))
    for name, content in tree.items():
        one = device.call("serve.sha256", path=str(root / name))
        assert (one["sha256"], one["size_bytes"]) == hash_files(root / name)
        assert one["sha256"] == sha256(content).hexdigest()


def test_a_folder_s_hash_sees_names_and_borders(tmp_path: Path) -> None:
    def tree(name: str, **files: bytes) -> tuple[str, int]:
        root = tmp_path / name
        root.mkdir()
        for file, content in files.items():
            (root / file).write_bytes(content)
        return hash_files(root)

    found = [
        tree("1", a=b"12", b=b"3"),
        tree("2", a=b"1", b=b"23"),
        tree("3", a=b"12", c=b"3"),
        tree("4", ab=b"123"),
    ]
    assert len({sha for sha, _ in found}) == 4
    assert {size for _, size in found} == {3}


def test_two_processes_saving_leave_one_whole_file(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgedeploy import digest;"
        "digest._memo.update({'x' * i: ([i], 'y') for i in range(500)});"
        "[digest.save_memo(Path(sys.argv[1])) for _ in range(20)]"
    )
    started: list[Any] = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)
    ]
    assert [process.wait(30) for process in started] == [0, 0]
    assert len(json.loads((tmp_path / "hashes.json").read_text())) == 500
    assert len(list(tmp_path.iterdir())) == 1
