"""The index over all runs follows the files, whatever happened to it or to them."""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kept_runs import PAIRS, cut, finished, job, row_file

from edgedeploy.errors import StorageError
from edgedeploy.index import all_rows
from edgedeploy.records import Row
from edgedeploy.store import Run, create_run, runs_folder


@pytest.fixture
def run() -> Run:
    made = create_run(job(), "1.0")
    made.update(planned=PAIRS)
    return made


def values() -> list[float]:
    return sorted(float(each.figures["latency_p50_s"].value or 0) for each in all_rows())


def test_the_index_follows_the_files(run: Run) -> None:
    assert all_rows() == []
    finished(run, "host", "fp32", 0.001)
    made = finished(run, "host", "int8", 0.002)
    assert values() == [0.001, 0.002]
    light = all_rows()[1]
    assert light.figures == made.figures
    assert light.artifact is None
    assert light.measurement is None
    finished(run, "host", "int8", 0.003)
    assert values() == [0.001, 0.003]
    shutil.rmtree(row_file(run, "host", "fp32").parent)
    assert values() == [0.003]
    shutil.rmtree(run.folder)
    assert values() == []


def test_the_index_can_be_asked_for_some() -> None:
    for name in ("digits", "it's; DROP TABLE rows"):
        made = create_run(job(name), "1.0")
        for target, precision in PAIRS:
            finished(made, target, precision, workload=name)
    assert len(all_rows()) == 6
    assert len(all_rows(workload="digits")) == 3
    assert len(all_rows(workload="it's; DROP TABLE rows")) == 3
    assert len(all_rows(target="other")) == 2
    assert all_rows(workload="digits", target="nowhere") == []


def test_a_damaged_row_is_a_failed_row_not_the_one_it_was(run: Run) -> None:
    finished(run, "host", "fp32", 0.001)
    finished(run, "host", "int8", 0.002)
    assert len(values()) == 2
    path = row_file(run, "host", "int8")
    cut(path)
    for _ in range(2):
        good, bad = all_rows()
        assert good.status == "ok"
        assert (bad.run, bad.workload, bad.target, bad.precision, bad.status) == (
            run.id,
            "digits",
            "host",
            "int8",
            "failed",
        )
        assert bad.failure is not None
        assert f"{path} is damaged" in bad.failure.message
        assert f"--resume {run.id}" in bad.failure.hint
        assert {figure.value for figure in bad.figures.values()} == {None}
    (run.folder / "run.json").unlink()
    os.utime(path)
    assert all_rows()[1].workload == ""
    finished(run, "host", "int8", 0.004)
    assert values() == [0.001, 0.004]


def zeros_in_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : len(content) - 1000] = bytes(len(content) - 5096)
    path.write_bytes(content)


def no_database(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)


def other_table(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE rows (x INTEGER)")
        connection.execute("PRAGMA user_version = 1")
    connection.close()


def other_records(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE rows SET record = '{'")
    connection.close()


def older_version(path: Path) -> None:
    other_table(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 0")
    connection.close()


@pytest.mark.parametrize(
    "damage", [cut, zeros_in_the_middle, no_database, other_table, other_records, older_version]
)
def test_a_damaged_index_is_made_anew(run: Run, damage: Any) -> None:
    for i in range(40):
        finished(run, f"target-{i}", "fp32", 0.001 * (i + 1))
    before = all_rows()
    assert len(before) == 40
    path = runs_folder() / "index.sqlite"
    damage(path)
    assert all_rows() == before
    assert path.stat().st_size > 4096
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM rows").fetchone() == (40,)
    connection.close()


def test_an_index_that_cannot_be_kept_is_made_in_memory(run: Run) -> None:
    finished(run, "host", "fp32")
    (runs_folder() / "index.sqlite").mkdir()
    assert len(all_rows()) == 1


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow over 8 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


def test_no_room_for_the_index_or_a_row(run: Run, small_files: None) -> None:
    for i in range(20):
        finished(run, f"target-{i}", "fp32")
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    assert len(all_rows()) == 20
    with pytest.raises(StorageError, match="File too large"):
        finished(run, "host", "fp32")
    with pytest.raises(StorageError, match="File too large"):
        run.write_file("report.html", bytes(10_000))
    assert not list(run.folder.rglob("*.part"))
    assert len(list((run.folder / "rows").iterdir())) == 20


def test_two_processes_read_one_index(run: Run) -> None:
    for i in range(30):
        finished(run, f"target-{i}", "fp32")
    code = "from edgedeploy.index import all_rows; print(len(all_rows()))"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert {process.communicate(timeout=60)[0].strip() for process in started} == {"30"}


def thousands(count: int) -> None:
    """Rows as a run leaves them, in runs of fifty."""
    made = create_run(job(), "1.0")
    finished(made, "host", "fp32")
    text = row_file(made, "host", "fp32").read_bytes()
    shutil.rmtree(made.folder)
    for i in range(count):
        folder = runs_folder() / f"20250101-{i // 50:06}-digits" / "rows" / f"host{i % 50}@fp32"
        folder.mkdir(parents=True)
        record = msgspec.json.decode(text, type=Row)
        record = msgspec.structs.replace(record, run=folder.parents[1].name, target=f"host{i % 50}")
        (folder / "row.json").write_bytes(msgspec.json.encode(record))


@pytest.mark.parametrize(
    ("count", "first_s", "again_s"),
    [(500, 2.0, 1.0), pytest.param(10_000, 8.0, 3.0, marks=pytest.mark.slow)],
)
def test_many_rows_are_read_at_once(count: int, first_s: float, again_s: float) -> None:
    thousands(count)
    start = time.perf_counter()
    assert len(all_rows()) == count
    middle = time.perf_counter()
    found = all_rows()
    end = time.perf_counter()
    assert len({(each.run, each.target) for each in found}) == count
    assert middle - start < first_s
    assert end - middle < again_s
