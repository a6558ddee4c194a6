"""Runs on disk: rows whole or not at all, damage named, what is pending told."""

import contextlib
import errno
import shutil
import stat
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kept_runs import PAIRS, cut, finished, job, row_file
from specimens import latencies

from edgedeploy.errors import InputError, StorageError
from edgedeploy.index import all_rows
from edgedeploy.report.collect import report_of
from edgedeploy.store import Run, create_run, open_run, run_ids


@pytest.fixture
def run() -> Run:
    made = create_run(job(), "1.0")
    made.update(planned=PAIRS)
    return made


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
