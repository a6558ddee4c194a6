"""Our p50 over the p50 of a bare ONNX Runtime loop on the same session options: at most 1.02.

The two are taken in turns in one run (A B A B …), each in a fresh process; the ratio is of the
medians of the rounds' p50.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import argument, artifact_of, environment, say, timed_p50

BARE = """
import json, sys, time
import numpy as np, onnxruntime
path, count = sys.argv[1], int(sys.argv[2])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
feed = {i.name: np.random.default_rng(0).random(i.shape, dtype=np.float32)
        for i in session.get_inputs()}
warm = time.perf_counter()
while time.perf_counter() - warm < 0.5:
    session.run(None, feed)
durations = []
for _ in range(count):
    start = time.perf_counter_ns()
    session.run(None, feed)
    durations.append(time.perf_counter_ns() - start)
durations.sort()
print(json.dumps(durations[len(durations) // 2] / 1e9))
"""


def bare_p50_s(path: Path, count: int) -> float:
    """The median of a loop with nothing around it."""
    command = [sys.executable, "-c", BARE, str(path), str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout))


def main() -> None:
    """Print the ratio for `digits` and MobileNetV2 at 224."""
    rounds = int(argument("rounds", "5"))
    with tempfile.TemporaryDirectory() as scratch:
        environment(Path(scratch))
        for workload, count in (("digits", 20000), ("mobilenetv2", 300)):
            for precision in ("fp32", "int8"):
                path = artifact_of(workload, "host", precision)
                bare, ours = [], []
                for _ in range(rounds):
                    bare.append(bare_p50_s(path, count))
                    ours.append(timed_p50(workload, "host", precision, count))
                ratio = statistics.median(ours) / statistics.median(bare)
                say(
                    "overhead",
                    workload=workload,
                    precision=precision,
                    bare_p50_s=statistics.median(bare),
                    our_p50_s=statistics.median(ours),
                    ratio=round(ratio, 4),
                    limit=1.02,
                    rounds=rounds,
                )


if __name__ == "__main__":
    main()
