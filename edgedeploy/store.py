"""runs/ on disk: every record of a run, finished rows only under their final names."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgedeploy.cache import storage_error
from edgedeploy.digest import bytes_sha256
from edgedeploy.errors import InputError, StorageError, nearest
from edgedeploy.export import Exported
from edgedeploy.profile import RawSeries, read_series, save_series
from edgedeploy.records import Plan, Record, Row, Target
from edgedeploy.workload import Workload

T = TypeVar("T")


class Job(Record):
    """What a run was asked to do: enough to go on with it.

    `strict`: a toolchain that did less than asked fails its row. `emulate`: where a toolchain or
    device is missing, the target's approximation gives an accuracy. `beside` are workloads that run
    on the device together with the one measured.
    """

    workload: Workload
    targets: tuple[Target, ...]
    precisions: tuple[str, ...] | None = None
    plan: Plan = Plan()
    use_cache: bool = True
    with_ladder: bool = True
    strict: bool = False
    emulate: bool = False
    beside: tuple[Workload, ...] = ()
    host: dict[str, Any] = {}


class RunState(Record):
    """run.json: the job, and whether all of it was done."""

    id: str
    created_at: str
    edgedeploy_version: str
    job: Job
    complete: bool = False
    planned: tuple[tuple[str, str], ...] = ()


def runs_folder() -> Path:
    """`EDGEDEPLOY_RUNS`, else runs/ here."""
    return Path(os.environ.get("EDGEDEPLOY_RUNS", "runs")).resolve()


class Run:
    """One run's folder."""

    def __init__(self, folder: Path, state: RunState) -> None:
        self.folder = folder
        self.state = state

    @property
    def id(self) -> str:
        """The run's name, unique among the runs of its folder."""
        return self.state.id

    def has_row(self, target: str, precision: str) -> bool:
        """Whether that row is finished."""
        return (self._row_folder(target, precision) / "row.json").is_file()

    def preparation_folder(self, target: str, precision: str) -> Path:
        """Where what a missing toolchain would be given is kept for that row."""
        return self.folder / "prepared" / f"{_plain(target)}@{_plain(precision)}"

    def write_row(self, row: Row, raw: RawSeries | None) -> None:
        """Keep a finished row; it appears whole or not at all."""
        final = self._row_folder(row.target, row.precision)
        with _kept(self.folder), contextlib.ExitStack() as stack:
            part = final.parent / f".{final.name}.{os.getpid()}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            stack.callback(shutil.rmtree, part, ignore_errors=True)
            if raw:
                save_series(part / "series.npz", raw)
            (part / "row.json").write_bytes(msgspec.json.format(msgspec.json.encode(row)))
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)

    def forget_missing(self) -> None:
        """Let rows be done again that lacked a toolchain or device, or whose host went away."""
        for row in self.rows():
            if row.failure is not None and (row.failure.lost or row.failure.kind == "missing"):
                shutil.rmtree(self._row_folder(row.target, row.precision))
                self.update(complete=False)

    def read_row(self, target: str, precision: str) -> Row:
        """A finished row."""
        return _read(self._row_folder(target, precision) / "row.json", Row)

    def rows(self) -> list[Row]:
        """Finished rows in the order planned."""
        planned = [pair for pair in self.state.planned if self.has_row(*pair)]
        return [self.read_row(*pair) for pair in planned]

    def pending(self) -> list[tuple[str, str]]:
        """Planned rows not yet finished; all that were asked for where it never came to a plan."""
        job, planned = self.state.job, self.state.planned
        if not planned and not self.state.complete:
            asked = [(t.name, job.precisions or t.by_default or t.precisions) for t in job.targets]
            planned = tuple((name, each) for name, precisions in asked for each in precisions)
        return [pair for pair in planned if not self.has_row(*pair)]

    def series(self, target: str, precision: str) -> RawSeries:
        """A row's raw series; empty where it has none."""
        path = self._row_folder(target, precision) / "series.npz"
        try:
            return read_series(path) if path.exists() else {}
        except Exception as err:  # what a damaged archive raises is without number
            raise _damaged(path, err) from err

    def write_model(self, opset: int, exported: Exported) -> None:
        """Keep the model record of an opset."""
        self.write_file(f"model-{opset}.json", msgspec.json.format(msgspec.json.encode(exported)))

    def read_models(self) -> list[Exported]:
        """The model records of the run."""
        return [_read(path, Exported) for path in sorted(self.folder.glob("model-*.json"))]

    def update(self, **changes: Any) -> None:
        """Change run.json, whole or not at all."""
        self.state = msgspec.structs.replace(self.state, **changes)
        self.write_file("run.json", msgspec.json.format(msgspec.json.encode(self.state)))

    def write_file(self, name: str, content: bytes) -> Path:
        """Write a file of the run, whole or not at all."""
        path = self.folder / name
        with _kept(path):
            part = self.folder / f".{name}.{os.getpid()}.part"
            try:
                part.write_bytes(content)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        return path

    def clean(self) -> None:
        """Remove what an interrupted process left half done."""
        for part in self.folder.glob("rows/.*.part"):
            shutil.rmtree(part, ignore_errors=True)
        for part in self.folder.glob(".*.part"):
            part.unlink(missing_ok=True)

    def discard_if_empty(self) -> None:
        """Remove a run in which nothing was measured: its workload was wrong from the start."""
        if not any(self.folder.glob("rows/*")):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _row_folder(self, target: str, precision: str) -> Path:
        return self.folder / "rows" / f"{_plain(target)}@{_plain(precision)}"


def create_run(job: Job, version: str) -> Run:
    """A new run folder, named by the time and the workload."""
    now = datetime.now(UTC)
    root = runs_folder()
    stem = f"{now:%Y%m%d-%H%M%S}-{_plain(job.workload.name)}"
    with _kept(root):
        root.mkdir(parents=True, exist_ok=True)
        folder = _fresh(root, stem)
    state = RunState(
        id=folder.name,
        created_at=now.isoformat(timespec="seconds"),
        edgedeploy_version=version,
        job=job,
    )
    run = Run(folder, state)
    run.update()
    return run


def open_run(name: str) -> Run:
    """A run by its id, by its folder's path, or `last`.

    Raises `InputError` where there is none of that name, with the nearest.
    """
    root = runs_folder()
    if name == "last":
        known = run_ids()
        if not known:
            msg = f"there is no run in {root}"
            raise InputError(msg, hint="Make one: edgedeploy deploy digits --target host")
        name = known[-1]
    folder = root / name
    if not (folder / "run.json").is_file():
        folder = Path(name).resolve()
    if not (folder / "run.json").is_file():
        msg = f"run {name!r} is not in {root}"
        raise InputError(msg, hint=nearest(name, run_ids()[-50:]))
    return Run(folder, _read(folder / "run.json", RunState))


def run_ids() -> list[str]:
    """Ids of all runs, oldest first."""
    root = runs_folder()
    return sorted(path.parent.name for path in root.glob("*/run.json")) if root.is_dir() else []


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as err:
        raise _damaged(path, err) from err


def _damaged(path: Path, err: Exception) -> StorageError:
    msg = f"{path} is damaged or of another version: {err}"
    hint = f"Remove {path.parent} and deploy again; a run is never shown in part."
    if path.parent.parent.name == "rows":
        run = path.parent.parent.parent.name
        hint = f"Remove {path.parent}, then: edgedeploy deploy --resume {run}"
    return StorageError(msg, hint=hint)


def _fresh(root: Path, stem: str) -> Path:
    for i in range(1000):
        folder = root / (stem if i == 0 else f"{stem}-{i + 1}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    msg = f"a thousand runs named {stem} lie in {root}"
    raise InputError(msg, hint="Move some away.")


def _plain(name: str) -> str:
    """A name as part of a file's: what had to be changed is told apart by its hash."""
    plain = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)[:60]
    return plain if plain == name else f"{plain}-{bytes_sha256(name.encode())[:6]}"


@contextlib.contextmanager
def _kept(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise storage_error(err, path) from err
