"""The virtual boards against the vendor's own executor, bit for bit, on many real inputs.

For each network and board: the vectors embedded in the model, `--count` real inputs through the
board and through the emulator of the vendor's quantizer, and instructions of one inference. All
figures are emulated. `--workloads` and `--boards` name some of them, `--precision` another one;
`--images` is a folder or .zip under EDGEDEPLOY_DATA.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from common import argument, say

from edgedeploy.calibrate import calibrate, inferences, save_arrays
from edgedeploy.compile import compile_model
from edgedeploy.compilers import Compilers
from edgedeploy.data import open_dataset
from edgedeploy.deployment import Session, deployed, emulated
from edgedeploy.export import export
from edgedeploy.records import Calibration
from edgedeploy.target import load_target
from edgedeploy.workload import DataSpec, InputSpec, Workload, load_workload

BOARDS = "esp32s3-virtual,rv32-virtual"
WORKLOADS = (
    "digits,resnet20-cifar10,mlperf-tiny-ic,mlperf-tiny-kws,mobilenetv2-035-96,pmridd2-64,"
    "pmridd2-128,yunet-128,rac-n0,cropnet"
)
ROUNDING = 1e-6
IMAGES = "imagenet/imagenette160_val_trainorigin500.zip"
Arrays = dict[str, np.ndarray[Any, Any]]


def samples(workload: Workload, inputs: tuple[InputSpec, ...], count: int) -> tuple[Arrays, str]:
    """Real inputs: the evaluation set's, else pictures; (N, *shape) by name, and their source."""
    spec: DataSpec = workload.evaluation or DataSpec(
        layout="images", data=argument("images", IMAGES)
    )
    dataset = open_dataset(msgspec.structs.replace(spec, count=count), inputs, workload.folder)
    found: dict[str, list[np.ndarray[Any, Any]]] = {}
    for arrays, _ in inferences(dataset, inputs):
        for name, value in arrays.items():
            found.setdefault(name, []).append(value)
    data = dataset.source.replace(os.environ.get("EDGEDEPLOY_DATA", "\0"), "EDGEDEPLOY_DATA")
    return {name: np.stack(values) for name, values in found.items()}, data


def outputs(session: Session, inputs: Path, folder: Path) -> tuple[Arrays, float]:
    """What a session gives for an .npz of inputs, and the seconds it took."""
    start = time.perf_counter()
    path = folder / "outputs.npz"
    session.infer(inputs, path)
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}, time.perf_counter() - start


def compared(name: str, boards: list[str], precision: str, count: int) -> bool:
    """One network on the boards; whether every value was equal."""
    workload = load_workload(name)
    target = load_target(boards[0])
    exported, _ = export(workload, target.opset)
    equal = True

    def calibration() -> Calibration:
        return calibrate(workload, exported.inputs)[0]

    with tempfile.TemporaryDirectory() as scratch, Compilers() as compilers:
        folder, given = Path(scratch), Path(scratch, "inputs.npz")
        arrays, source = samples(workload, exported.inputs, count)
        save_arrays(given, arrays)
        reference: Arrays = {}
        for board in boards:
            target = load_target(board)
            artifact, _ = compile_model(
                exported.model,
                target,
                precision,
                workload,
                compilers=compilers,
                calibration=calibration,
            )
            if not reference:
                with emulated(artifact, target, workload) as session:
                    reference, emulator_s = outputs(session, given, folder)
            with deployed(artifact, target, workload, timeout_s=3600) as session:
                found, board_s = outputs(session, given, folder)
                check = session.worker.call("self_test")
                timed = session.worker.call("measure.profile", **plan(given, folder))["timed"]
            values = sum(value.size for value in reference.values())
            different = sum(
                int((found[key].view(np.uint32) != reference[key].view(np.uint32)).sum())
                for key in reference
            )
            off = max(
                float(np.abs(found[key] - value).max() / max(np.abs(value).max(), 1e-30))
                for key, value in reference.items()
            )
            instructions = int(np.mean(timed["instructions"]))
            macs = exported.model.macs
            # only a float operator at the end, such as Softmax, may round in another way
            equal &= off <= ROUNDING and check["failed"] == 0 and check["vectors"] > 0
            say(
                "virtual_boards",
                source="emulated",
                workload=name,
                precision=precision,
                board=board,
                data=source,
                inputs=len(next(iter(arrays.values()))),
                values=values,
                different=different,
                largest_relative_error=off,
                embedded_vectors=check["vectors"],
                embedded_failed=check["failed"],
                instructions=instructions,
                macs=macs,
                instructions_per_mac=round(instructions / macs, 2) if macs else None,
                board_s=round(board_s, 1),
                emulator_s=round(emulator_s, 1),
            )
    return equal


def plan(given: Path, folder: Path) -> dict[str, Any]:
    """A measurement of the first sample without rests."""
    with np.load(given) as arrays:
        first = {name: arrays[name][:1] for name in arrays.files}
    path = folder / "first.npz"
    save_arrays(path, first)
    rests = {"idle_s": 0.0, "cool_down_s": 0.0, "warm_up_min_s": 0.0}
    return {"inputs": str(path), "plan": {**rests, "latency_count": 2}}


def main() -> None:
    """Print a line for each network and board; exit 1 where a value differed."""
    count = int(argument("count", "200"))
    boards = argument("boards", BOARDS).split(",")
    names = argument("workloads", WORKLOADS).split(",")
    precision = argument("precision", "int8")
    found = [compared(name, boards, precision, count) for name in names]
    sys.exit(0 if all(found) else 1)


if __name__ == "__main__":
    main()
