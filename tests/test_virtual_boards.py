"""The whole way to the virtual boards: real quantizer, cross compilers, emulators, our firmware."""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedeploy.calibrate import save_arrays
from edgedeploy.compile import compile_model
from edgedeploy.compilers import Compilers
from edgedeploy.deployment import Session, deployed, emulated
from edgedeploy.export import Exported, export
from edgedeploy.pipeline import Pipeline
from edgedeploy.records import Artifact, Calibration, Plan, Report
from edgedeploy.report.collect import report_of
from edgedeploy.report.table import compare_rows
from edgedeploy.store import Job, create_run
from edgedeploy.target import load_target, load_targets
from edgedeploy.verify import read_groups
from edgedeploy.workload import Workload, load_workload

BOARDS = ("esp32s3-virtual", "rv32-virtual")
TOOLS = (
    "make",
    "qemu-system-xtensa",
    "xtensa-lx106-elf-gcc",
    "qemu-system-riscv32",
    "riscv64-unknown-elf-gcc",
)
absent = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.skipif(bool(absent), reason=f"{absent} not installed (`make toolchain`)"),
    pytest.mark.skipif(
        importlib.util.find_spec("esp_ppq") is None, reason="esp-ppq is not installed"
    ),
]
Arrays = dict[str, np.ndarray[Any, Any]]
# Two outputs; an input that several layers round in their own way; what a chip lacks behind them.
NETWORK = """
import torch
from torch import nn


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(4, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 12, 1)
        self.c = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4)

    def forward(self, x):
        y = nn.functional.gelu(x + 3 * self.a(x))
        boxes = self.b(y).permute(0, 2, 3, 1).reshape(1, -1, 6)
        return boxes.cumsum(-1), torch.abs(self.c(y))


def build():
    torch.manual_seed(0)
    return Residual()


def data(split):
    generator = torch.Generator().manual_seed(1)
    return [(0.4 * torch.randn(4, 8, 8, generator=generator).numpy(), 0) for _ in range(32)]
"""
WORKLOAD = """
end_nodes = ["/b/Conv", "/c/Conv"]
[model]
source = "net.py:build"
outputs = ["boxes", "map"]
[[inputs]]
shape = [1, 4, 8, 8]
dtype = "float32"
[calibration]
layout = "python"
data = "net.py:data"
"""


def made(workload: Workload, precision: str) -> tuple[Exported, Artifact]:
    target = load_target(BOARDS[0])
    exported, _ = export(workload, target.opset)

    def calibration() -> Calibration:
        from edgedeploy.calibrate import calibrate

        return calibrate(workload, exported.inputs)[0]

    with Compilers() as compilers:
        artifact, _ = compile_model(
            exported.model,
            target,
            precision,
            workload,
            compilers=compilers,
            calibration=calibration,
        )
    return exported, artifact


def ran(session: Session, inputs: Arrays, folder: Path) -> Arrays:
    given, got = folder / "inputs.npz", folder / "outputs.npz"
    save_arrays(given, inputs)
    session.infer(given, got)
    with np.load(got) as outputs:
        return {name: outputs[name] for name in outputs.files}


@pytest.mark.parametrize("precision", ["int8", "int16", "mixed"])
def test_boards_give_what_the_vendors_executor_gives(
    precision: str, tmp_path: Path, shared_cache: Path
) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "net.toml").write_text(WORKLOAD)
    options = {"mixed_layers": 1} if precision == "mixed" else {}
    workload = load_workload(tmp_path / "net.toml", compile_options=options)
    exported, artifact = made(workload, precision)
    assert artifact.tail_path is not None
    assert any("nodes run on the host" in note for note in artifact.notes)
    groups = read_groups(Path(exported.model.reference))
    inputs = {name: np.tile(value, (4, 1, 1, 1, 1)) for name, value in groups["inputs"].items()}
    drawn = np.random.default_rng(3)
    inputs = {k: v + drawn.normal(0, 0.2, v.shape).astype(v.dtype) for k, v in inputs.items()}
    with emulated(artifact, load_target(BOARDS[0]), workload) as session:
        expected = ran(session, inputs, tmp_path)
    assert set(expected) == {"boxes", "map"}
    assert expected["boxes"].shape[1:] == (1, 128, 6)
    for board in BOARDS:
        with deployed(artifact, load_target(board), workload) as session:
            found = ran(session, inputs, tmp_path)
            check = session.worker.call("self_test")
        assert check["vectors"] >= 2, board
        assert check["failed"] == 0, board
        for name, value in expected.items():
            assert np.array_equal(found[name], value), (board, name)


def report(workload: str, targets: str, precision: str) -> Report:
    job = Job(
        workload=load_workload(workload),
        targets=tuple(load_targets(targets)),
        precisions=(precision,),
        plan=Plan(latency_count=200, layer_runs=2),
    )
    run = create_run(job, "0")
    Pipeline(run).execute()
    return report_of(run)


def test_host_and_boards_stand_side_by_side_and_are_told_apart(shared_cache: Path) -> None:
    found = report("digits", f"host,{','.join(BOARDS)}", "int8")
    rows = {row.target: row for row in found.rows}
    assert [row.status for row in found.rows] == ["ok"] * 3, [r.failure for r in found.rows]
    for board in BOARDS:
        figures = rows[board].figures
        assert figures["accuracy_top1"].source == "emulated"
        value = figures["accuracy_top1"].value
        assert value is not None
        assert value > 0.99
        assert figures["latency_p50_s"].value is None
        assert figures["energy_per_inference_j"].value is None
        ladder = rows[board].ladder
        assert ladder is not None
        last = ladder.rungs[-1]
        assert (last.name, last.reference, last.equal) == ("deployed", "emulated", True)
        assert ladder.layers[0].snr_db is not None
        measurement = rows[board].measurement
        assert measurement is not None
        counted = sum(layer.instructions or 0 for layer in measurement.layers)
        total = figures["instructions"].value
        assert total is not None
        assert 0.9 * total < counted <= 1.1 * total
    assert rows["host"].figures["latency_p50_s"].source == "measured"
    table = compare_rows(found)
    assert table.mixed
    assert set(table.sources) == {"measured", "emulated"}


def test_counts_repeat(shared_cache: Path) -> None:
    first, second = (report("digits", "rv32-virtual", "int8").rows[0] for _ in range(2))
    assert first.figures["instructions"] == second.figures["instructions"]
    assert first.measurement is not None
    assert first.measurement.series[0].count == 200
