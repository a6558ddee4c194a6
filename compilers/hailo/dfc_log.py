"""What the vendor's SDK prints: kept in a file while it still reaches the log, and read."""

from __future__ import annotations

import os
import re
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    Table = dict[str, Any]

LEVEL = re.compile(r"Reducing optimization level to (-?\d+) ?(?:\(.*?\) )?because (.+)")
COMPRESSION = re.compile(r"Reducing compression level to (-?\d+) because (.+)")
DEFAULT_LEVEL = re.compile(r"Using default optimization level of (-?\d+)")
ENTRIES = re.compile(r"Using dataset with (\d+) entries for calibration")
SKIPPED = re.compile(r"^(.+?) skipped$")
DONE = re.compile(
    r"(?:Model Optimization Algorithm )?(.+?) is done \(completion time is (\d+):(\d+):([\d.]+)\)"
)
MARK = re.compile(r"^(?:\d{4}-\S+ \S+ - )?\[(info|warning|error|critical)\]\s*")
COLORS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# what a level adds over the one below, by the algorithm's name in the log
ADDS = {
    1: re.compile(r"bias correction", re.IGNORECASE),
    2: re.compile(r"(quantization-aware )?fine-?tun(e|ing)", re.IGNORECASE),
    3: re.compile(r"adaround", re.IGNORECASE),
    4: re.compile(r"adaround", re.IGNORECASE),
}
POLL_S = 0.2


class Capture:
    """Within it all that this process prints, C and Python, goes to the file `path` as well.

    A pipe would block what prints under the interpreter's lock; a file does not, and a thread
    passes on what has come, so that a log ends where the process did.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._over = threading.Event()

    def __enter__(self) -> Capture:
        self._streams = sys.stdout, sys.stderr
        flush()
        self._saved = os.dup(1), os.dup(2)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        file = os.open(str(self.path), flags, 0o666)
        self._start = os.fstat(file).st_size
        for end in (1, 2):
            os.dup2(file, end)
        os.close(file)
        # the interpreter's streams may have been led elsewhere; what the SDK prints is wanted here
        sys.stdout, sys.stderr = (
            os.fdopen(os.dup(end), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
            for end in (1, 2)
        )
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        flush()
        for stream in (sys.stdout, sys.stderr):
            stream.close()
        sys.stdout, sys.stderr = self._streams
        os.dup2(self._saved[0], 1)
        os.dup2(self._saved[1], 2)
        self._over.set()
        self._thread.join()
        for saved in self._saved:
            os.close(saved)

    def _pass_on(self) -> None:
        with self.path.open("rb") as file:
            file.seek(self._start)
            last = False
            while True:
                for block in iter(lambda: file.read(1 << 16), b""):
                    os.write(self._saved[1], block)
                if last:
                    return
                last = self._over.wait(POLL_S)

    def text(self) -> str:
        """What was printed since it was entered."""
        flush()
        with self.path.open("rb") as file:
            file.seek(self._start)
            return file.read().decode("utf-8", errors="replace")


def flush() -> None:
    """Write out what the interpreter holds back."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def lines(text: str) -> list[tuple[str, str]]:
    """Mark (info, warning, error or empty) and words of each line; no colours, no progress bars."""
    found = []
    for raw in COLORS.sub("", text).replace("\r", "\n").splitlines():
        line = raw.strip()
        mark = MARK.match(line)
        if mark:
            found.append((mark.group(1), line[mark.end() :].strip()))
        elif line:
            found.append(("", line))
    return found


def optimization(text: str, asked: Table, samples: int) -> Table:
    """What the optimization did, by its log: effective levels, what was taken back, its warnings.

    `asked` are `optimization_level` and `compression_level` as the script has them, `samples` those
    it was to calibrate with. Answers these two as done, `calibset_size` as used, `downgrades`,
    `warnings`, `skipped` and `steps` with their time.
    """
    found: Table = {**asked, "calibset_size": samples}
    downgrades, warnings, skipped, steps = [], [], [], []
    for mark, line in lines(text):
        if match := LEVEL.search(line):
            found["optimization_level"] = int(match.group(1))
            downgrades.append(
                f"optimization level {asked['optimization_level']} asked for,"
                f" {match.group(1)} done: {match.group(2).strip()}"
            )
        elif match := COMPRESSION.search(line):
            found["compression_level"] = int(match.group(1))
            if asked["compression_level"] > int(match.group(1)):
                downgrades.append(
                    f"compression level {asked['compression_level']} asked for,"
                    f" {match.group(1)} done: {match.group(2).strip()}"
                )
        elif mark in ("warning", "error", "critical"):
            warnings.append(line)
        elif match := ENTRIES.search(line):
            found["calibset_size"] = int(match.group(1))
        elif match := DEFAULT_LEVEL.search(line):
            found["optimization_level"] = int(match.group(1))
        elif match := SKIPPED.match(line):
            skipped.append(match.group(1))
        elif match := DONE.search(line):
            hours, minutes, seconds = match.groups()[1:]
            time_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
            steps.append({"name": match.group(1), "time_s": time_s})
    level = asked["optimization_level"]
    told = any(text.startswith("optimization level") for text in downgrades)
    if found["optimization_level"] < level and not told:
        downgrades.append(
            f"optimization level {level} asked for, {found['optimization_level']} done"
        )
    left_out = [name for name in skipped if level in ADDS and ADDS[level].fullmatch(name)]
    if left_out and found["optimization_level"] == level:
        downgrades.append(f"optimization level {level} asked for, {left_out[0]} skipped")
    if found["calibset_size"] < samples:
        downgrades.append(f"{samples} calibration samples asked for, {found['calibset_size']} used")
    found["downgrades"] = list(dict.fromkeys(downgrades))
    found["warnings"] = list(dict.fromkeys(warnings))
    return {**found, "skipped": skipped, "steps": steps}


def warned(text: str) -> list[str]:
    """What a step's log warns of, once each."""
    return list(dict.fromkeys(line for mark, line in lines(text) if mark == "warning"))
