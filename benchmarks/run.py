"""Run every benchmark and keep what it printed, with the machine, in benchmarks/results/."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from edgedeploy._inproc.host import host_facts

PROGRAMS = ("overhead", "int8_speedup", "first_job", "report_scale")


def main() -> None:
    """One file a run: a line of host facts, then a line a figure."""
    here = Path(__file__).resolve().parent
    lines = [json.dumps({"host": host_facts(), "at": datetime.now(UTC).isoformat()})]
    for name in PROGRAMS:
        command = [sys.executable, str(here / f"{name}.py")]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        sys.stdout.write(done.stdout)
        sys.stdout.flush()
        lines += done.stdout.splitlines()
    results = here / "results"
    results.mkdir(exist_ok=True)
    (results / "host.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
