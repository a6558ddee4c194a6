"""The whole way to NVIDIA cards: real engines where no driver is, stand-ins for what needs one."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import sshd as servers
from sshd import FarHost

from edgedeploy.errors import InputError, MissingError
from edgedeploy.interpreter import choose
from edgedeploy.pipeline import Pipeline, exit_code
from edgedeploy.records import Plan, Report, Row
from edgedeploy.report.collect import report_of
from edgedeploy.report.markdown import to_markdown
from edgedeploy.store import Job, create_run
from edgedeploy.target import compiler_program, load_targets
from edgedeploy.workload import load_workload

sshd, far_host = servers.sshd, servers.far_host
FAKES = Path(__file__).with_name("fakes")
PLAN = Plan(
    latency_count=60, layer_runs=2, idle_s=0.0, cool_down_s=0.0, warm_up_max_s=0.1, throughput_s=0.1
)
H200 = {"name": "NVIDIA H200 (stand-in)"}
ORIN = {"name": "Orin (stand-in)", "compute_capability": "8.7", "integrated": True}


@pytest.fixture
def rtx_toolchain(shared_cache: Path) -> None:
    try:
        choose(compiler_program("trt_rtx"))
    except MissingError as err:
        pytest.skip(f"no environment with TensorRT-RTX: {err.message}")


def standin(monkeypatch: pytest.MonkeyPatch, major: int, gpu: dict[str, Any]) -> dict[str, str]:
    """Settings by which the stand-ins are found, set for what runs on this host."""
    settings = {
        "EDGEDEPLOY_PYTHON_TRT": sys.executable,
        "PYTHONPATH": str(FAKES),
        "TENSORRT_STANDIN_MAJOR": str(major),
        "TENSORRT_STANDIN_GPU": json.dumps(gpu),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return settings


def deploy(target: str, *precisions: str, **changes: Any) -> Report:
    job = Job(
        workload=load_workload("digits"),
        targets=tuple(load_targets(target, **changes)),
        precisions=precisions or None,
        plan=PLAN,
    )
    run = create_run(job, "0")
    Pipeline(run).execute()
    return report_of(run)


def by_precision(report: Report) -> dict[str, Row]:
    return {row.precision: row for row in report.rows}


def test_real_engines_are_built_and_not_run(rtx_toolchain: None) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is an NVIDIA card here")
    report = deploy("rtx-4090")
    rows = by_precision(report)
    assert list(rows) == ["fp32", "fp16", "int8"]
    assert exit_code(report.rows) == 3
    for row in rows.values():
        assert row.failure is not None
        assert row.failure.message == "built, not run: no NVIDIA driver"
        assert row.artifact is not None
        assert row.artifact.format == "tensorrt-rtx-engine"
        assert row.figures["accuracy_top1"].source == "emulated"
        assert row.figures["accuracy_top1"].value == pytest.approx(0.9972, abs=0.003)
        assert row.figures["artifact_bytes"].source == "measured"
        assert row.figures["latency_p50_s"].value is None
        assert any("engine for SM89" in note for note in row.artifact.notes)
    snr = {name: row.figures["snr_db"].value or 0.0 for name, row in rows.items()}
    assert snr["fp32"] > 100 > snr["fp16"] > 50 > snr["int8"] > 25
    assert "built: " in to_markdown(report)
    again = by_precision(deploy("rtx-4090", "int8"))["int8"]
    assert again.cached["compile"]


def test_the_cards_compiled_for_are_named_or_found(rtx_toolchain: None) -> None:
    (row,) = deploy("rtx", "fp16", compute_capability="8.6,8.9").rows
    assert row.artifact is not None
    assert any("engine for SM86 and SM89" in note for note in row.artifact.notes)
    if not Path("/dev/nvidia0").exists():
        (row,) = deploy("rtx", "fp16").rows
        assert row.failure is not None
        assert (row.status, row.failure.stage) == ("missing", "compile")
        assert "--compute-capability 8.6,8.9" in row.failure.hint


@pytest.mark.parametrize(
    ("target", "text", "words"),
    [("rtx", "89", "is neither one nor a list"), ("host", "8.9", "and host does not")],
)
def test_wrong_compute_capabilities_are_refused(target: str, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_targets(target, compute_capability=text)


@pytest.mark.parametrize("major", [10, 11])
def test_a_data_centre_card_by_stand_ins(
    major: int, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin(monkeypatch, major, H200)
    later = ("bf16",) if major == 11 else ()
    rows = by_precision(deploy("h200", "tf32", "fp16", "int8", "fp8", *later))
    for row in rows.values():
        assert row.failure is None, row.failure
        had = {f.source for name, f in row.figures.items() if name not in {"parameters", "macs"}}
        assert had <= {"emulated", None}
        assert row.figures["accuracy_top1"].value == pytest.approx(0.9972, abs=0.006)
        assert row.figures["latency_device_p50_s"].value is not None
        assert row.measurement is not None
        series = {s.key: s for s in row.measurement.series}
        assert series["device_latency"].clock == "cuda-events"
        assert row.artifact is not None
        version = row.artifact.tools["tensorrt"]
        assert version.startswith(f"{major}.")
        assert version.endswith("+standin")
        assert row.ladder is not None
        assert row.ladder.first_broken is None, row.ladder
    assert rows["fp8"].artifact is not None
    told = " ".join(rows["fp8"].artifact.notes)
    assert "float8 E4M3 in the place of int8: 13 activations and 5 weights, 5 of these from" in told


def test_a_jetson_builds_on_itself(
    far_host: FarHost, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = standin(monkeypatch, 10, ORIN)
    for name in ("PYTHONPATH", "TENSORRT_STANDIN_MAJOR", "TENSORRT_STANDIN_GPU"):
        monkeypatch.delenv(name)
    python = tmp_path / "python-there"
    there = " ".join(f"{name}='{value}'" for name, value in settings.items())
    command = f'exec env -i HOME="$HOME" PATH="$PATH" {there} {sys.executable} "$@"'
    python.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
    python.chmod(0o755)
    inventory = tmp_path / "devices.toml"
    inventory.write_text(
        '[[device]]\nname = "lab"\nhost = "far"\ntarget = "jetson-orin-nano"\n'
        f'python = "{python}"\nfolder = "{far_host.folder}"\nlock = "{far_host.token}"\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("EDGEDEPLOY_DEVICES", str(inventory))
    (row,) = deploy("jetson-orin-nano", "int8").rows
    assert row.failure is None, row.failure
    assert row.figures["accuracy_top1"].value == pytest.approx(0.9972, abs=0.003)
    assert row.deployment is not None
    assert row.deployment.transport == "ssh"
    assert row.artifact is not None
    assert "8.7" in json.dumps(row.artifact.tools)


def test_a_jetson_without_a_host_gets_its_typed_model(
    shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "EDGEDEPLOY_DEVICES", os.devnull)
    report = deploy("jetson-orin-nano", "fp16")
    (row,) = report.rows
    assert exit_code(report.rows) == 3
    assert row.failure is not None
    assert row.failure.message.startswith("a host for this target")
    assert row.preparation is not None
    assert set(row.preparation.files) == {"model.onnx", "commands.txt"}
