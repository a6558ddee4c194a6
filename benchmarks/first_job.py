"""The whole first job: MobileNetV2 in PyTorch in, int8 measured out, empty cache; at most 11 s.

64 calibration images of 224x224, 200 timed inferences. A bare script that does the same with the
legacy exporter is taken in turns with it. Then the second `deploy`, with nothing changed: the
cached stages together with the interpreter's start are at most 2 s; and `--help`, under 0.3 s.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import argument, edgedeploy, environment, say

BARE = """
import sys, time, warnings
import numpy as np, onnx, onnxsim, torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
import onnxruntime
from PIL import Image
from edgedeploy.zoo.mobilenet import build
warnings.simplefilter("ignore")
folder, scratch = sys.argv[1:]
torch.manual_seed(0)
module = build().eval()
torch.onnx.export(module, (torch.rand(1, 3, 224, 224),), scratch + "/m.onnx", dynamo=False,
                  opset_version=18, input_names=["x"])
model, _ = onnxsim.simplify(onnx.load(scratch + "/m.onnx"))
onnx.save(model, scratch + "/s.onnx")
quant_pre_process(scratch + "/s.onnx", scratch + "/p.onnx")
images = [np.asarray(Image.open(f"{folder}/{i}.png"), np.float32).transpose(2, 0, 1)[None] / 255
          for i in range(64)]
class Reader(CalibrationDataReader):
    left = iter([{"x": image} for image in images])
    def get_next(self):
        return next(self.left, None)
quantize_static(scratch + "/p.onnx", scratch + "/q.onnx", Reader(), per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(scratch + "/q.onnx", options)
durations = []
for _ in range(220):
    start = time.perf_counter_ns()
    session.run(None, {"x": images[0]})
    durations.append(time.perf_counter_ns() - start)
print(sorted(durations[20:])[100] / 1e9)
"""


def images(folder: Path) -> None:
    """64 seeded images of smooth noise."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(64):
        coarse = rng.integers(0, 256, (14, 14, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((224, 224), Image.Resampling.BICUBIC).save(
            folder / f"{i}.png"
        )


def elapsed_s(*command: str) -> float:
    """Wall time of a whole process that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the times of the job, bare and ours, of the second job, and of --help."""
    rounds = int(argument("rounds", "3"))
    bare, ours, second, helps = [], [], [], []
    cli = (sys.executable, "-m", "edgedeploy.cli")
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as scratch:
            environment(Path(scratch))
            folder = Path(scratch, "images")
            folder.mkdir()
            images(folder)
            bare.append(elapsed_s(sys.executable, "-c", BARE, str(folder), scratch))
            job = (
                "deploy",
                "mobilenetv2",
                "-t",
                "host",
                "-p",
                "int8",
                "--runs",
                "200",
                "--calibration",
                str(folder),
                "--samples",
                "64",
            )
            ours.append(elapsed_s(*cli, *job))
            start = time.perf_counter()
            row = json.loads(edgedeploy(*job, "--json"))["rows"][0]
            total_s = time.perf_counter() - start
            second.append(total_s - row["stage_s"]["profile"] - row["stage_s"]["deploy"])
            helps.append(elapsed_s(*cli, "--help"))
    say(
        "first_job",
        bare_s=statistics.median(bare),
        ours_s=statistics.median(ours),
        limit_s=11,
        ratio=round(statistics.median(ours) / statistics.median(bare), 3),
        rounds=rounds,
    )
    say("second_job", cached_stages_s=statistics.median(second), limit_s=2)
    say("help", elapsed_s=statistics.median(helps), limit_s=0.3)


if __name__ == "__main__":
    main()
