"""What the benchmark programs share: a clean environment, the command line, lines of JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def environment(scratch: Path) -> None:
    """Put runs and cache below `scratch`, so that nothing earlier helps."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    os.environ["EDGEDEPLOY_RUNS"] = str(scratch / "runs")
    os.environ["EDGEDEPLOY_CACHE"] = str(scratch / "cache")


def argument(name: str, default: str) -> str:
    """`--name value` of this program's command line."""
    option = f"--{name}"
    return sys.argv[sys.argv.index(option) + 1] if option in sys.argv else default


def edgedeploy(*arguments: str) -> str:
    """The command line's stdout; its exit code must be 0."""
    command = [sys.executable, "-m", "edgedeploy.cli", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def artifact_of(workload: str, target: str, precision: str) -> Path:
    """The compiled artifact's path."""
    text = edgedeploy("compile", workload, "-t", target, "-p", precision, "--json")
    return Path(json.loads(text)[0]["path"])


def timed_p50(workload: str, target: str, precision: str, count: int) -> float:
    """The p50 in s that `edgedeploy bench` reports over `count` inferences."""
    runs = ("--runs", str(count))
    text = edgedeploy("bench", workload, "-t", target, "-p", precision, *runs, "--json")
    return float(json.loads(text)["rows"][0]["figures"]["latency_p50_s"]["value"])


def say(benchmark: str, **figures: Any) -> None:
    """One line of JSON on stdout."""
    sys.stdout.write(json.dumps({"benchmark": benchmark, **figures}) + "\n")
    sys.stdout.flush()
