"""The SQLite index over runs/: figures of every row, so that thousands of rows read at once."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edgedeploy.figures import row_figures
from edgedeploy.records import Failure, Row
from edgedeploy.store import runs_folder

SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (
    path TEXT PRIMARY KEY, state TEXT NOT NULL, run TEXT NOT NULL, workload TEXT NOT NULL,
    target TEXT NOT NULL, precision TEXT NOT NULL, status TEXT NOT NULL,
    latency_p50_s REAL, record BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS by_row ON rows (workload, target, precision);
"""
VERSION = 1
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)


def all_rows(*, workload: str | None = None, target: str | None = None) -> list[Row]:
    """Rows of all runs, oldest first, without their details (artifact, measurement, ladder).

    The index is brought up to date with the files first; a damaged one is made anew, and one that
    cannot be kept is made in memory. A row's file that cannot be read is a failed row.
    """
    conditions, values = ["1"], list[str]()
    for column, value in (("workload", workload), ("target", target)):
        if value is not None:
            conditions.append(f"{column} = ?")
            values.append(value)
    query = f"SELECT record FROM rows WHERE {' AND '.join(conditions)} ORDER BY run, path"
    path = runs_folder() / "index.sqlite"
    for _ in range(2):
        with contextlib.suppress(sqlite3.DatabaseError, *UNREADABLE):
            return _answered(str(path), query, values)
        for file in (path, path.with_name("index.sqlite-journal")):
            with contextlib.suppress(OSError):
                file.unlink()
    return _answered(":memory:", query, values)


def _answered(path: str, query: str, values: list[str]) -> list[Row]:
    decode = msgspec.json.Decoder(Row).decode
    with contextlib.closing(_open(path)) as connection, connection:
        _refresh(connection)
        return [decode(record) for (record,) in connection.execute(query, values)]


def _open(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30)
    try:
        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            connection.execute("DROP TABLE IF EXISTS rows")
        connection.executescript(SCHEMA)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _refresh(connection: sqlite3.Connection) -> None:
    known: dict[str, str] = dict(connection.execute("SELECT path, state FROM rows"))
    found: dict[str, str] = {}
    root = runs_folder()
    for name, stat in _row_files(root):
        found[name] = f"{stat.st_size} {stat.st_mtime_ns}"
    gone = [(path,) for path in known if path not in found]
    connection.executemany("DELETE FROM rows WHERE path = ?", gone)
    changed = [path for path, state in found.items() if known.get(path) != state]
    decode = msgspec.json.Decoder(Row).decode
    for path in changed:
        try:
            row = decode((root / path).read_bytes())
        except (OSError, *UNREADABLE) as err:
            row = _unread(root / path, err)
        light = msgspec.structs.replace(
            row, artifact=None, deployment=None, measurement=None, ladder=None
        )
        p50 = row.figures.get("latency_p50_s")
        connection.execute(
            "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                path,
                found[path],
                row.run,
                row.workload,
                row.target,
                row.precision,
                row.status,
                p50.value if p50 else None,
                msgspec.json.encode(light),
            ),
        )


def _unread(path: Path, err: Exception) -> Row:
    """The row that stands for a file that is damaged, or of another version."""
    run = path.parents[2]
    target, _, precision = path.parent.name.rpartition("@")
    try:
        state = json.loads((run / "run.json").read_text(encoding="utf-8"))
        workload = str(state["job"]["workload"]["name"])
    except (OSError, ValueError, KeyError, TypeError):
        workload = ""
    failure = Failure(
        target=target,
        stage="profile",
        kind="failed",
        message=f"{path} is damaged or of another version: {err}",
        hint=f"Remove {path.parent}, then: edgedeploy deploy --resume {run.name}",
    )
    return Row(
        run=run.name,
        workload=workload,
        target=target,
        precision=precision,
        status="failed",
        figures=row_figures(model=None, artifact=None, measurement=None, series={}, ladder=None),
        failure=failure,
    )


def _row_files(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Names under `root` of all finished rows' records, and their state."""
    for run in os.scandir(root) if root.is_dir() else ():
        try:
            rows = list(os.scandir(f"{run.path}/rows"))
        except OSError:
            continue
        for row in rows:
            if row.name.startswith("."):
                continue
            with contextlib.suppress(OSError):
                name = f"{run.name}/rows/{row.name}/row.json"
                yield name, Path(root, name).stat()
