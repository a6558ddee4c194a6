"""The vendor's own tool hailortcli: run on one HEF, and what it writes into its CSV."""

from __future__ import annotations

import csv
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hailort_faults import STATUSES, BadInput, Failed, Missing, TimedOut, meaning
from hailort_versions import numbers

TOOL = "hailortcli"
# what it takes to start, load the model and write its file, beyond the seconds it is told to run
AROUND_S = 60.0
NEEDED = ("net_name", "status", "status_description", "fps", "hw_latency")


def tool() -> str:
    """Where the tool is; raises `Missing`."""
    found = shutil.which(TOOL)
    if found is None:
        msg = f"{TOOL} is not on the PATH"
        raise Missing(msg, "Install HailoRT's package, which has it, of the library's version.")
    return found


def version() -> str | None:
    """The version that the tool tells, its local part included; None where it is not there.

    Raises `BadInput` where it does not run: it refuses a library of another version.
    """
    if shutil.which(TOOL) is None:
        return None
    done = called(["--version"], AROUND_S)
    text = done.stdout.strip()
    found = text.rpartition(" ")[2]
    if done.returncode or not numbers(found):
        said = (done.stderr.strip() or text or "nothing").splitlines()[-1]
        msg = f"`{TOOL} --version` ended with {done.returncode} and said: {said}"
        raise BadInput(msg, "Install HailoRT whole, tool and library of one version.")
    return found


def called(arguments: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """The tool's end, whatever it was; raises `Missing`, `TimedOut`."""
    try:
        return subprocess.run(
            [tool(), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        msg = f"`{TOOL} {' '.join(arguments)}` did not end within {timeout_s:g} s"
        raise TimedOut(msg, "`dmesg | grep hailo` may tell; restart if the chip hangs.") from error


def measured(
    hef: Path, network: str, seconds: int, chip: str, arguments: list[str]
) -> dict[str, float | None]:
    """One `hailortcli run` of `seconds` on a HEF: the figures of its row, in its own units.

    fps a second, latencies ms. None where the cell is empty: it could not tell.
    """
    with tempfile.TemporaryDirectory(prefix="hailortcli-") as folder:
        table = Path(folder, "run.csv")
        command = ["run", str(hef), "-t", str(seconds), "-s", chip, "--csv", str(table), *arguments]
        done = called(command, seconds + AROUND_S)
        text = table.read_text(encoding="utf-8", errors="replace") if table.is_file() else ""
    shown = " ".join(["run", *arguments])
    said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
    row = row_of(text, network)
    status = (row or {}).get("status", "")
    if status.isdigit() and int(status):
        name = STATUSES.get(int(status), f"HAILO_STATUS_{status}")
        raise meaning(name, f"{TOOL} {shown}", {}, said)
    if done.returncode:
        msg = f"`{TOOL} {shown}` ended with {done.returncode} and said: {said}"
        raise Failed(msg, "Run it by hand to see more; nothing else may use the chip meanwhile.")
    if row is None:
        header = text.splitlines()[0] if text.strip() else "nothing"
        msg = f"`{TOOL} {shown}` wrote {header!r}, expected columns {NEEDED} and a row {network!r}"
        raise Failed(msg, "This tool's version writes another table; HailoRT 4.23 is known.")
    return {name: figure(value) for name, value in row.items() if name not in NEEDED[:3]}


def row_of(text: str, network: str) -> dict[str, str] | None:
    """The row of a network in the tool's CSV, or its only row; None where there is none."""
    reader = csv.DictReader(text.splitlines())
    if not set(NEEDED) <= set(reader.fieldnames or ()):
        return None
    rows: list[dict[str, Any]] = list(reader)
    mine = [row for row in rows if row["net_name"] == network] or rows
    if len(mine) != 1:
        return None
    return {name: value or "" for name, value in mine[0].items() if isinstance(name, str)}


def figure(cell: str) -> float | None:
    """A number of the table; None where the cell is empty."""
    try:
        return float(cell)
    except ValueError:
        return None
