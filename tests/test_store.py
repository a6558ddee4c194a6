"""Runs on disk: rows whole or not at all, and an index that follows the files."""

import contextlib
import errno
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specimens import latencies, row

from edgedeploy.errors import InputError, StorageError
from edgedeploy.index import all_rows
from edgedeploy.records import Figure, Row, Target
from edgedeploy.report.collect import report_of
from edgedeploy.store import Job, Run, create_run, open_run, run_ids, runs_folder
from edgedeploy.workload import ModelSpec, Workload

PAIRS = (("host", "fp32"), ("host", "int8"), ("other", "fp32"))


def job(name: str = "digits") -> Job:
    targets = tuple(
        Target(name=each, board="a board", transport="local", compiler="c", profiler="p")
        for each in ("host", "other")
    )
    return Job(workload=Workload(name=name, model=ModelSpec(source="a:b")), targets=targets)


@pytest.fixture
def run() -> Run:
    made = create_run(job(), "1.0")
    made.update(planned=PAIRS)
    return made


def finished(run: Run, target: str, precision: str, p50_s: float = 0.001, **changes: Any) -> Row:
    figures = {"latency_p50_s": Figure(value=p50_s, unit="s", source="measured")}
    fields = {"run": run.id, "target": target, "precision": precision, "figures": figures}
    made = row(**{**fields, **changes})
    starts = np.arange(1000, dtype=np.int64) * 1_000_000
    run.write_row(made, {"latency": (starts, latencies(p50_s))})
    return made


def row_file(run: Run, target: str, precision: str) -> Path:
    return run.folder / "rows" / f"{target}@{precision}" / "row.json"


def test_what_was_written_reads_back(run: Run) -> None:
    assert run.pending() == list(PAIRS)
    made = [finished(run, *pair) for pair in (PAIRS[2], PAIRS[0])]
    opened = open_run(run.id)
    assert opened.state == run.state
    assert opened.rows() == [made[1], made[0]]  # in the order planned
    assert opened.pending() == [PAIRS[1]]
    starts, values = opened.series("host", "fp32")["latency"]
    np.testing.assert_array_equal(values, latencies(0.001))
    assert starts[-1] == 999_000_000
    assert opened.series("host", "int8") == {}
    assert open_run(str(run.folder)).id == open_run("last").id == run.id


def test_a_row_appears_whole_or_not_at_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    original = Path.write_bytes

    def noted(self: Path, data: bytes) -> int:
        seen.append(run.has_row("host", "fp32"))
        if len(seen) == 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", noted)
    with pytest.raises(StorageError, match=r"cannot write .*No space left") as caught:
        finished(run, "host", "fp32")
    assert "EDGEDEPLOY_RUNS" in caught.value.hint
    assert not any((run.folder / "rows").iterdir())
    finished(run, "host", "fp32")
    assert seen == [False, False]
    assert run.has_row("host", "fp32")


def test_others_may_read_what_others_may_read_here(run: Run) -> None:
    finished(run, "host", "fp32")
    folder = row_file(run, "host", "fp32").parent
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(run.folder.stat().st_mode)


def test_what_an_interrupted_process_left_is_removed(run: Run) -> None:
    finished(run, "host", "fp32")
    (run.folder / "rows" / ".host@int8.77.part").mkdir()
    (run.folder / "rows" / ".host@int8.77.part" / "row.json").write_text("{}")
    (run.folder / ".run.json.77.part").write_text("{")
    assert not run.has_row("host", "int8")
    assert len(all_rows()) == 1
    run.clean()
    assert [path.name for path in (run.folder / "rows").iterdir()] == ["host@fp32"]
    assert not list(run.folder.glob(".*"))


def test_names_that_look_alike_are_different_rows(run: Run) -> None:
    names = ["a-b", "a_b", "a/b", "a b", "../x", "ü", "x" * 200, "x" * 201, "", "A"]
    for i, name in enumerate(names):
        finished(run, name, "fp32", p50_s=1.0 + i)
    finished(run, "a", "b-fp32", p50_s=99.0)
    run.update(planned=tuple((name, "fp32") for name in names))
    found = [row.figures["latency_p50_s"].value for row in run.rows()]
    assert found == [1.0 + i for i in range(len(names))]
    folders = list((run.folder / "rows").iterdir())
    assert len(folders) == len(names) + 1
    assert {path.parent for path in folders} == {run.folder / "rows"}


def test_ids_are_unique_and_last_is_the_latest() -> None:
    runs = [create_run(job("a/b" if i % 2 else "digits"), "1.0") for i in range(6)]
    assert len({run.id for run in runs}) == 6
    assert set(run_ids()) == {run.id for run in runs}
    assert all("/" not in run.id for run in runs)
    time.sleep(1.01)
    latest = create_run(job("a"), "1.0")
    assert open_run("last").id == latest.id


def test_no_run_and_another_run() -> None:
    with pytest.raises(InputError, match="there is no run in") as caught:
        open_run("last")
    assert "edgedeploy deploy digits" in caught.value.hint
    made = create_run(job(), "1.0")
    with pytest.raises(InputError, match="is not in") as caught:
        open_run(made.id[:-1] + "z")
    assert made.id in caught.value.hint


def test_a_workload_that_was_wrong_leaves_no_run(run: Run) -> None:
    run.discard_if_empty()
    assert not run.folder.exists()
    other = create_run(job(), "1.0")
    finished(other, "host", "fp32")
    other.discard_if_empty()
    assert other.has_row("host", "fp32")


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_a_row_cut_in_half_is_named(run: Run) -> None:
    finished(run, "host", "fp32")
    path = row_file(run, "host", "fp32")
    cut(path)
    for read in (run.rows, lambda: report_of(run)):
        with pytest.raises(StorageError) as caught:
            read()
        assert str(path) in caught.value.message
        assert "is damaged or of another version: Input data was truncated" in caught.value.message
        assert caught.value.hint == (
            f"Remove {path.parent}, then: edgedeploy deploy --resume {run.id}"
        )
        assert caught.value.exit_code == 1
    shutil.rmtree(path.parent)
    assert open_run(run.id).pending() == list(PAIRS)


@pytest.mark.parametrize("name", ["run.json", "model-18.json"])
def test_a_record_cut_in_half_is_named(run: Run, name: str) -> None:
    (run.folder / "model-18.json").write_text('{"model"')
    if name == "run.json":
        cut(run.folder / name)
    with pytest.raises(StorageError, match=rf"{name} is damaged") as caught:
        open_run(run.id).read_models()
    assert "deploy again" in caught.value.hint


def test_a_record_of_another_version_is_named(run: Run) -> None:
    finished(run, "host", "fp32")
    path = row_file(run, "host", "fp32")
    path.write_text(path.read_text().replace('"precision"', '"bits"'))
    with pytest.raises(StorageError, match="unknown field `bits`"):
        run.rows()


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_series_cut_in_half_are_named(run: Run, size: int) -> None:
    finished(run, "host", "fp32")
    path = row_file(run, "host", "fp32").with_name("series.npz")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(StorageError, match=r"series\.npz is damaged"):
        run.series("host", "fp32")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(place=st.integers(0, 10**6), value=st.integers(0, 255), length=st.integers(0, 3))
def test_no_damage_raises_anything_else(run: Run, place: int, value: int, length: int) -> None:
    finished(run, "host", "fp32")
    for name in ("row.json", "series.npz"):
        path = row_file(run, "host", "fp32").with_name(name)
        content = bytearray(path.read_bytes())
        start = place % len(content)
        content[start : start + length] = bytes([value])
        path.write_bytes(content)
    for read in (run.rows, lambda: run.series("host", "fp32")):
        with contextlib.suppress(StorageError):
            read()
    assert len(all_rows()) == 1


def test_a_run_that_was_interrupted_shows_what_is_left(run: Run) -> None:
    finished(run, "host", "fp32")
    report = report_of(open_run(run.id))
    assert [(each.target, each.precision, each.status) for each in report.rows] == [
        ("host", "fp32", "ok"),
        ("host", "int8", "missing"),
        ("other", "fp32", "missing"),
    ]
    for each in report.rows[1:]:
        assert each.failure is not None
        assert "interrupted" in each.failure.message
        assert each.failure.hint == f"edgedeploy deploy --resume {run.id}"
        assert each.measurement is None
        assert all(figure.value is None for figure in each.figures.values())


# the index


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
