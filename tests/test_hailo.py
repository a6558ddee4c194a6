"""The whole way to a Hailo chip against stand-ins that refuse what the real SDK and runtime do."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sshd as servers
from sshd import FarHost

from edgedeploy.compile import toolchain_rungs
from edgedeploy.compilers import Compilers
from edgedeploy.deployment import deployed
from edgedeploy.export import export
from edgedeploy.pipeline import Pipeline, exit_code
from edgedeploy.records import Plan, Report, Row
from edgedeploy.report.collect import report_of
from edgedeploy.report.html import to_html
from edgedeploy.report.markdown import to_markdown
from edgedeploy.store import Job, create_run
from edgedeploy.target import load_target, load_targets
from edgedeploy.verify import read_groups
from edgedeploy.workload import Workload, load_workload

sshd, far_host = servers.sshd, servers.far_host

FAKES = Path(__file__).with_name("fakes")
# long enough for the power sensor: ten updates of 5 ms
PLAN = Plan(
    latency_min_count=50,
    latency_min_s=0.4,
    latency_max_s=0.5,
    warm_up_max_s=0.2,
    throughput_s=0.2,
    idle_s=0.3,
    cool_down_s=0.0,
)
Arrays = dict[str, npt.NDArray[Any]]


@pytest.fixture
def standins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_cache: Path) -> Path:
    """The stand-ins installed, and the folder with the state of their chip."""
    state = tmp_path / "chip"
    state.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.setenv("PATH", f"{FAKES}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HAILO_STANDIN_STATE", str(state))
    return state


def chip(state: Path, **changes: Any) -> None:
    (state / "state.json").write_text(json.dumps(changes), encoding="utf-8")


def deploy(workload: Workload | str, target: str = "hailo8", **changes: Any) -> Report:
    found = load_workload(workload) if isinstance(workload, str) else workload
    job = Job(workload=found, targets=tuple(load_targets(target)), plan=PLAN, **changes)
    run = create_run(job, "0")
    Pipeline(run).execute()
    return report_of(run)


def only(report: Report) -> Row:
    (row,) = report.rows
    return row


def ok(report: Report) -> Row:
    row = only(report)
    assert row.failure is None, row.failure
    return row


def test_digits_to_the_chip_and_two_models_at_once(standins: Path) -> None:
    chip(standins, latency_s=0.001)
    report = deploy("digits", beside=(load_workload("digits", name="digits again"),))
    row = ok(report)
    # no figure of a stand-in passes for measured
    counted = {"parameters", "macs"}
    assert {f.source for name, f in row.figures.items() if name not in counted} <= {
        "emulated",
        None,
    }
    assert row.figures["accuracy_top1"].value == pytest.approx(0.9972, abs=0.003)
    assert row.figures["latency_p50_s"].value is not None
    assert 0.001 < row.figures["latency_p50_s"].value < 0.05
    assert row.figures["latency_chip_s"].value is not None
    assert row.ladder is not None
    names = [(rung.name, rung.reference) for rung in row.ladder.rungs]
    assert names[-5:] == [
        ("native", "torch"),
        ("optimized", "torch"),
        ("emulated", "torch"),
        ("deployed", "torch"),
        ("deployed", "emulated"),
    ]
    assert row.ladder.first_broken is None
    assert row.measurement is not None
    together = row.measurement.together
    assert together is not None
    assert [share.workload for share in together.shares] == ["digits", "digits again"]
    assert all(0 < share.rate_hz < 1.1 * share.alone_rate_hz for share in together.shares)
    assert row.artifact is not None
    assert row.artifact.downgrades == (
        "optimization level 2 asked for, 0 done: there's no available GPU",
    )
    assert "normalization1 = normalization([0.0], [255.0])" in row.artifact.script
    page = to_html(report, {})
    assert "overcurrent protection, which was off meanwhile" in page  # what power rests on
    assert page.count("; emulated") == 2  # of what each model got beside the other
    assert "normalization1 = normalization([0.0], [255.0])" in page
    assert "made by a stand-in for the toolchain" in page


def test_resnet20_loses_less_than_half_a_point(standins: Path, data_folder: Path) -> None:
    row = ok(deploy("resnet20-cifar10"))
    assert row.figures["accuracy_top1"].value == pytest.approx(0.9164, abs=0.005)
    assert row.artifact is not None
    script = row.artifact.script
    assert "normalization([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])" in script
    assert "calibset_size=1024" in script


def boxes(outputs: Arrays, size: int = 128) -> npt.NDArray[Any]:
    """YuNet's boxes (N, 5): left, top, width, height in pixels, and score = cls * obj."""
    found = []
    for stride in (8, 16, 32):
        columns, rows = np.meshgrid(np.arange(size // stride), np.arange(size // stride))
        prior = np.stack([columns.ravel(), rows.ravel()], axis=1)
        box = outputs[f"bbox_{stride}"][0]
        middle, extent = (prior + box[:, :2]) * stride, np.exp(box[:, 2:]) * stride
        score = outputs[f"cls_{stride}"][0] * outputs[f"obj_{stride}"][0]
        found.append(np.concatenate([middle - extent / 2, extent, score], axis=1))
    return np.concatenate(found)


def test_yunet_is_cut_and_its_boxes_stay(standins: Path, data_folder: Path, tmp_path: Path) -> None:
    """The tail on the host gives the whole model's boxes for what the body on the chip gives."""
    workload, target = load_workload("yunet-128"), load_target("hailo8")
    exported, _ = export(workload, target.opset)
    report = deploy(workload)
    row = ok(report)
    assert row.artifact is not None
    assert row.artifact.tail_path is not None
    assert (
        len(json.loads(Path(row.artifact.folder or "", "model.json").read_text())["outputs"]) == 12
    )
    assert "nodes run on the host" in to_markdown(report)
    assert row.ladder is not None
    assert row.ladder.first_broken is None, row.ladder
    given = tmp_path / "inputs.npz"
    reference = read_groups(Path(exported.model.reference))
    np.savez(given, **reference["inputs"])
    with Compilers() as compilers, deployed(row.artifact, target, workload) as session:
        answer = toolchain_rungs(row.artifact, target, compilers, str(given), str(tmp_path))
        whole, chips = tmp_path / "whole.npz", tmp_path / "chip.npz"
        native = next(rung for rung in answer["rungs"] if rung["name"] == "native")
        session.behind(Path(native["path"]), whole)
        session.infer(given, chips)
    with np.load(whole) as cut, np.load(chips) as on_chip:
        for i in range(len(next(iter(reference["inputs"].values())))):
            uncut = boxes({name: value[i] for name, value in reference["outputs"].items()})
            same = boxes({name: cut[name][i] for name in cut.files})
            np.testing.assert_allclose(same, uncut, atol=0.02)  # of a pixel
            quantized = boxes({name: on_chip[name][i] for name in on_chip.files})
            best = uncut[:, 4].argmax()
            if uncut[best, 4] > 0.5:  # a face: the chip's box is the same one
                assert abs(quantized[best, :4] - uncut[best, :4]).max() < 4


def test_without_the_sdk_all_else_is_done(
    shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    report = deploy("digits", emulate=True)
    row = only(report)
    assert exit_code(report.rows) == 3
    assert row.failure is not None
    assert row.failure.message.startswith("Hailo Dataflow Compiler 3.33")
    assert "EDGEDEPLOY_PYTHON_HAILO" in row.failure.hint
    assert row.preparation is not None
    samples = np.load(Path(row.preparation.folder, "calibration-images.npy"))
    assert samples.shape == (1024, 8, 8, 1)
    assert 0 <= samples.min() < samples.max() <= 255
    assert row.figures["accuracy_top1"].source == "emulated"
    assert row.figures["accuracy_top1"].value == pytest.approx(0.9972, abs=0.003)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"devices": []}, "missing", "no"),
        ({"busy": True}, "missing", "use"),
        ({"driver_version": "4.20.0"}, "missing", "not of one version"),
        ({"firmware_version": "4.20.0"}, "missing", "4.20.0"),
    ],
)
def test_a_chip_that_cannot_be_had_leaves_the_sdks_numbers(
    standins: Path, changes: dict[str, Any], status: str, words: str
) -> None:
    chip(standins, **changes)
    row = only(deploy("digits"))
    assert row.failure is not None
    assert row.status == status, row.failure
    assert words in row.failure.message
    assert row.failure.hint
    if status == "missing":
        assert row.emulation is not None
        assert row.emulation.program == "hailo_emulator"
        assert row.figures["accuracy_top1"].source == "emulated"


def test_another_target_is_one_file(
    standins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    (own / "targets").mkdir(parents=True)
    shipped = Path(__file__).parents[1] / "targets" / "hailo8l.toml"
    text = shipped.read_text(encoding="utf-8").replace('name = "hailo8l"', 'name = "mine"', 1)
    (own / "targets" / "mine.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("EDGEDEPLOY_PATH", str(own))
    chip(standins, architecture="HAILO8L", board_name="Hailo-8L (stand-in)")
    row = ok(deploy("digits", "mine"))
    assert row.target == "mine"
    assert row.measurement is not None
    assert "hailo8l" in json.dumps(row.measurement.facts).lower()


def test_the_chip_of_another_host(
    standins: Path,
    far_host: FarHost,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compiled here, measured there: nothing of this project or its settings is on that host."""
    python = tmp_path / "python-there"
    settings = f"HAILO_STANDIN_STATE={standins} PYTHONPATH={FAKES} PATH={FAKES}:/usr/bin:/bin"
    python.write_text(f'#!/bin/sh\nexec env -i HOME="$HOME" {settings} {sys.executable} "$@"\n')
    python.chmod(0o755)
    inventory = tmp_path / "devices.toml"
    inventory.write_text(
        f'[[device]]\nname = "lab"\nhost = "far"\ntarget = "rpi5-hailo8"\npython = "{python}"\n'
        f'folder = "{far_host.folder}"\nlock = "{far_host.token}"\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("EDGEDEPLOY_DEVICES", str(inventory))
    there, here = ok(deploy("digits", "rpi5-hailo8")), ok(deploy("digits"))
    for row in (there, here):
        assert row.measurement is not None
        assert row.ladder is not None
        assert row.ladder.first_broken is None
    assert there.figures["accuracy_top1"] == here.figures["accuracy_top1"]
    assert there.figures["snr_db"] == here.figures["snr_db"]
    assert there.artifact is not None
    assert here.artifact is not None
    assert there.artifact.sha256 == here.artifact.sha256  # one compilation for both
    assert there.deployment is not None
    assert there.deployment.transport == "ssh"
    assert there.deployment.path.startswith(str(far_host.folder))
    assert there.figures["power_w"].value is not None
    assert there.figures["latency_chip_s"].value is not None


def test_a_downgrade_fails_where_it_is_not_wanted(standins: Path) -> None:
    row = only(deploy("digits", strict=True))
    assert row.failure is not None
    assert "optimization level 2 asked for, 0 done" in row.failure.message
    assert row.measurement is None


def test_nothing_of_the_vendor_stands_in_the_package() -> None:
    package = Path(__file__).parents[1] / "edgedeploy"
    found = [
        path.name
        for path in package.rglob("*")
        if path.suffix in {".py", ".toml", ".j2"} and "hailo" in path.read_text("utf-8").lower()
    ]
    assert found == []
