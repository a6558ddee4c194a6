"""Best int8 row over PyTorch eager fp32, MobileNetV2 of 10 classes at 224, batch 1, one thread.

At least 5.5. Eager PyTorch, ONNX Runtime and OpenVINO are taken in turns in one run.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import argument, environment, say, timed_p50

EAGER = """
import json, sys, time
import torch
from edgedeploy.zoo.mobilenet import build
torch.set_num_threads(1)
torch.manual_seed(0)
module, x = build().eval(), torch.rand(1, 3, 224, 224)
durations = []
with torch.inference_mode():
    warm = time.perf_counter()
    while time.perf_counter() - warm < 1:
        module(x)
    for _ in range(int(sys.argv[1])):
        start = time.perf_counter_ns()
        module(x)
        durations.append(time.perf_counter_ns() - start)
durations.sort()
print(json.dumps(durations[len(durations) // 2] / 1e9))
"""


# Eager PyTorch spends much of its time in page faults where memory comes in small pages: both are
# told, so that the ratio does not flatter.
ALLOCATORS = {"default": "", "huge_pages": "glibc.malloc.hugetlb=1"}


def main() -> None:
    """Print each row's p50 and the ratio of the best int8 one."""
    rounds, count = int(argument("rounds", "5")), int(argument("count", "200"))
    eager: dict[str, list[float]] = {}
    rows: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        environment(Path(scratch))
        for _ in range(rounds):
            for allocator, tunables in ALLOCATORS.items():
                command = [sys.executable, "-c", EAGER, str(count)]
                done = subprocess.run(
                    command,
                    check=True,
                    capture_output=True,
                    text=True,
                    env={**os.environ, "GLIBC_TUNABLES": tunables},
                )
                eager.setdefault(allocator, []).append(float(json.loads(done.stdout)))
            for target in ("host", "host-openvino"):
                for precision in ("fp32", "int8"):
                    p50_s = timed_p50("mobilenetv2", target, precision, count)
                    rows.setdefault((target, precision), []).append(p50_s)
    medians = {row: statistics.median(values) for row, values in rows.items()}
    eager_s = {name: statistics.median(values) for name, values in eager.items()}
    for (target, precision), p50_s in medians.items():
        say("int8_speedup", target=target, precision=precision, p50_s=p50_s)
    best = min(p50_s for (_, precision), p50_s in medians.items() if precision == "int8")
    say(
        "int8_speedup",
        eager_p50_s=eager_s,
        best_int8_p50_s=best,
        ratio=round(eager_s["default"] / best, 2),
        ratio_to_the_faster_eager=round(min(eager_s.values()) / best, 2),
        limit=5.5,
        rounds=rounds,
    )


if __name__ == "__main__":
    main()
