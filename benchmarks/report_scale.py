"""The HTML report over 10,000 stored measurements: at most 5 s, on an index already made."""

import json
import sys
import tempfile
import time
from pathlib import Path

from common import argument, edgedeploy, environment, say


def main() -> None:
    """Store one measured row many times over, then report on all."""
    count = int(argument("rows", "10000"))
    with tempfile.TemporaryDirectory() as scratch:
        environment(Path(scratch))
        edgedeploy("deploy", "digits", "-t", "host", "-p", "int8", "--runs", "1000")
        runs = Path(scratch, "runs")
        first = next(runs.glob("*/run.json")).parent
        stored = next(first.glob("rows/*/row.json"))
        row = json.loads(stored.read_text())
        for i in range(count - 1):
            row["run"] = f"copy-{i:05}"
            folder = runs / row["run"] / "rows" / stored.parent.name
            folder.mkdir(parents=True)
            (folder / "row.json").write_text(json.dumps(row))
        output = Path(scratch, "all.html")
        times = []
        for _ in range(3):
            start = time.perf_counter()
            edgedeploy("report", "--all", "--format", "html", "--output", str(output))
            times.append(time.perf_counter() - start)
        say(
            "report_scale",
            rows=count,
            first_s=times[0],
            later_s=min(times[1:]),
            limit_s=5,
            page_bytes=output.stat().st_size,
            python=sys.version.split()[0],
        )


if __name__ == "__main__":
    main()
