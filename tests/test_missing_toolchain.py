"""A toolchain that is not there: what it would be given, an accuracy by another, exit code 3."""

import sys
from pathlib import Path
from typing import Any

import pytest

from edgedeploy.errors import InputError
from edgedeploy.pipeline import Pipeline, exit_code
from edgedeploy.records import Plan, Report
from edgedeploy.report.collect import report_of
from edgedeploy.report.html import to_html
from edgedeploy.report.markdown import to_markdown
from edgedeploy.share import parameters
from edgedeploy.store import Job, create_run
from edgedeploy.target import load_targets
from edgedeploy.workload import ModelSpec, Workload, load_workload

PLAN = Plan(
    latency_count=20, layer_runs=0, idle_s=0.0, cool_down_s=0.0, warm_up_max_s=0.1, throughput_s=0.0
)
# What is wrong with it: nothing ("copier 1" is installed), no SDK, or one that does less.
COMPILER = '''
"""A compiler that copies, where its SDK is installed."""
import json
import os
import shutil

import numpy as np

STATE = os.environ.get("COPIER", "there")


class Missing(Exception):
    hint = "Install the copier."


class BadInput(Exception):
    hint = "Give other samples."


def probe():
    if STATE == "missing":
        raise Missing("Copier 3.33")
    return {"tools": {"copier": "1"}}


def prepare_model(model, output, precision, calibration, options, inputs=None):
    samples = next(iter(np.load(calibration).values()))
    if options.get("least", 0) > len(samples):
        raise BadInput("%d samples" % len(samples))
    with open(os.path.join(output, "script.txt"), "w") as file:
        json.dump(inputs, file)
    np.save(os.path.join(output, "calibration.npy"), samples)
    return {
        "files": ["script.txt", "calibration.npy"],
        "script": "normalize 255",
        "options": {"level": 2},
        "notes": ["%d samples written" % len(samples)],
    }


def compile_model(model, output, precision, calibration, options, inputs=None, states=None):
    path = os.path.join(output, "model.onnx")
    shutil.copy(model, path)
    kept = os.path.join(os.path.dirname(output), "kept")
    os.mkdir(kept)
    with open(os.path.join(states, "seen"), "a") as file:
        file.write("x")
    answer = {"path": path, "format": "onnx", "kept": kept, "script": "normalize 255", **probe()}
    if STATE == "less":
        answer["downgrades"] = ["optimization level 2 asked for, 0 done: no GPU"]
    if STATE == "stand-in":
        answer["virtual"] = True
    return answer


def rungs(kept, inputs, output, options):
    import onnxruntime

    path = os.path.join(os.path.dirname(kept), "artifact", "model.onnx")
    session = onnxruntime.InferenceSession(path)
    name = session.get_outputs()[0].name
    with np.load(inputs) as arrays:
        samples = {key: arrays[key] for key in arrays.files}
    count = len(next(iter(samples.values())))
    outputs = [session.run([name], {k: v[i] for k, v in samples.items()})[0] for i in range(count)]
    exact, worse = os.path.join(output, "a.npz"), os.path.join(output, "b.npz")
    np.savez(exact, **{name: np.stack(outputs)})
    np.savez(worse, **{name: -np.stack(outputs)})
    return {
        "rungs": [{"name": "native", "path": exact}, {"name": "optimized", "path": worse}],
        "meanings": {"native": "the parser", "optimized": "look at the normalization"},
    }
'''
TARGET = """
board = "a made-up board"
transport = "local"
compiler = "copier"
profiler = "ort"
precisions = ["int8"]
calibration_count = 40
run_options = {threads = 1}

[approximation]
compiler = "ort"
quantizer = "ort"
profiler = "ort"
note = "weights by channel"
quantize_options = {activation = "qint8"}
"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    for name, text in (("compilers/copier.py", COMPILER), ("targets/board.toml", TARGET)):
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_text(text.lstrip(), encoding="utf-8")
    monkeypatch.setenv("EDGEDEPLOY_PATH", str(folder))
    return folder


def deploy(workload: Workload | None = None, **changes: Any) -> Report:
    job = Job(
        workload=workload or load_workload("digits"),
        targets=tuple(load_targets("board")),
        plan=PLAN,
        **changes,
    )
    run = create_run(job, "0")
    Pipeline(run).execute()
    return report_of(run)


def test_a_missing_toolchain_leaves_what_it_would_be_given(
    board: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPIER", "missing")
    report = deploy()
    (row,) = report.rows
    assert exit_code(report.rows) == 3, row.failure
    assert row.failure is not None
    assert (row.failure.stage, row.failure.message) == ("compile", "Copier 3.33")
    assert row.failure.hint == "Install the copier."
    assert row.preparation is not None
    assert row.preparation.notes == ("40 samples written",)
    folder = Path(row.preparation.folder)
    assert folder.parent.parent.name == row.run
    assert (folder / "calibration.npy").is_file()
    script = (folder / "script.txt").read_text(encoding="utf-8")
    assert '"value_range": [0.0, 1.0], "mean": null' in script
    assert '"shape": [1, 1, 8, 8]' in script
    assert row.emulation is None
    for text in (to_markdown(report), to_html(report, {})):
        assert "calibration.npy" in text
        assert "40 samples written" in text
    assert "normalize 255" in to_html(report, {})


def test_an_approximation_gives_an_accuracy_when_asked(
    board: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPIER", "missing")
    report = deploy(emulate=True)
    (row,) = report.rows
    assert row.failure is not None
    assert (row.status, row.failure.stage) == ("missing", "compile")
    accuracy = row.figures["accuracy_top1"]
    assert accuracy.source == "emulated"
    assert accuracy.value is not None
    assert accuracy.value > 0.98
    assert row.figures["snr_db"].source == "emulated"
    assert row.artifact is None
    assert row.figures["artifact_bytes"].value is None
    assert row.ladder is not None
    assert row.ladder.rungs[-1].name == "emulated"
    assert "by ort here: weights by channel" in to_markdown(report)


def test_wrong_samples_are_told_before_the_missing_toolchain(
    board: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPIER", "missing")
    report = deploy(load_workload("digits", compile_options={"least": 1000}))
    assert exit_code(report.rows) == 2, report.rows[0].failure
    assert report.rows[0].failure is not None
    assert report.rows[0].failure.message == "40 samples"


def test_a_silent_downgrade_is_told_and_fails_where_asked(
    board: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPIER", "less")
    report = deploy(use_cache=False)
    assert exit_code(report.rows) == 0
    told = "optimization level 2 asked for, 0 done: no GPU"
    assert told in to_markdown(report)
    report = deploy(strict=True, use_cache=False)
    assert exit_code(report.rows) == 1
    failure = report.rows[0].failure
    assert failure is not None
    assert failure.message == f"the toolchain did less than asked: {told}"


def test_the_toolchains_own_steps_stand_in_the_ladder(
    board: Path, own_folders: Path, shared_cache: Path
) -> None:
    (row,) = deploy().rows
    assert row.ladder is not None
    rungs = {rung.name: rung for rung in row.ladder.rungs}
    assert list(rungs)[-3:] == ["native", "optimized", "deployed"]
    assert not rungs["native"].broken
    assert rungs["optimized"].broken
    assert rungs["optimized"].meaning == "look at the normalization"
    assert rungs["native"].meaning == ""
    assert row.ladder.first_broken == "optimized"
    assert (shared_cache / "states" / "copier" / "seen").read_text(encoding="utf-8")


def test_all_that_a_stand_in_made_is_emulated(
    board: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPIER", "stand-in")
    report = deploy(use_cache=False)
    (row,) = report.rows
    assert row.failure is None, row.failure
    had = {f.source for name, f in row.figures.items() if name not in {"parameters", "macs"}}
    assert had == {"emulated", None}
    assert "made by a stand-in for the toolchain (copier 1)" in to_markdown(report)


def test_models_beside_each_other_share_the_device(board: Path, shared_cache: Path) -> None:
    report = deploy(beside=(load_workload("digits", name="again"),))
    (row,) = report.rows
    assert row.measurement is not None
    together = row.measurement.together
    assert together is not None
    assert together.reason is None
    assert [share.workload for share in together.shares] == ["digits", "again"]
    assert all(share.count > 0 and share.alone_rate_hz > 0 for share in together.shares)
    assert "again: " in to_markdown(report)


def test_what_cannot_run_beside_is_told(board: Path, shared_cache: Path, tmp_path: Path) -> None:
    absent = ModelSpec(source=str(tmp_path / "no.onnx"))
    report = deploy(beside=(load_workload("digits", name="again", model=absent),))
    (row,) = report.rows
    assert row.measurement is not None
    assert row.measurement.together is not None
    assert "no.onnx" in str(row.measurement.together.reason)


def test_parameters_are_read_without_importing(tmp_path: Path) -> None:
    program = tmp_path / "p.py"
    program.write_text("import nothing_such\ndef f(a, b=1, *, c): ...\n", encoding="utf-8")
    assert parameters(program, "f") == ("a", "b", "c")
    assert parameters(program, "g") is None
    program.write_text("def f(:", encoding="utf-8")
    assert parameters(program, "f") is None


def test_resume_takes_no_new_wishes() -> None:
    from edgedeploy import cli

    with pytest.raises(InputError, match="--strict"):
        cli.app(["deploy", "--resume", "last", "--strict"], standalone_mode=False)


def test_an_approximation_that_fails_does_not_hide_what_is_missing(
    board: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPIER", "missing")
    target = board / "targets" / "board.toml"
    target.write_text(TARGET.replace('["int8"]', '["int8", "int16"]'), encoding="utf-8")
    report = deploy(emulate=True, precisions=("int16",))
    (row,) = report.rows
    assert row.failure is not None
    assert (row.status, row.failure.message) == ("missing", "Copier 3.33")
    assert row.emulation is not None
    assert row.emulation.note.startswith("none: ")
    assert row.figures["accuracy"].value is None


def test_the_python_named_for_the_toolchain_may_be_what_is_wrong(
    board: Path, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python that lacks the program's own packages says nothing of what else can be done."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setenv("EDGEDEPLOY_PYTHON_COPIER", str(python))
    (row,) = deploy().rows
    assert row.status == "missing"
    assert row.preparation is not None


def test_precisions_not_deployed_in_unless_asked(board: Path, shared_cache: Path) -> None:
    target = board / "targets" / "board.toml"
    text = TARGET.replace('["int8"]', '["int8", "int16"]\nby_default = ["int8"]')
    target.write_text(text, encoding="utf-8")
    assert [row.precision for row in deploy().rows] == ["int8"]


def test_the_bytes_of_a_file_that_an_option_names_count(
    board: Path, shared_cache: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.script"
    own.write_text("a", encoding="utf-8")
    workload = load_workload("digits", compile_options={"script": str(own)})
    assert not deploy(workload).rows[0].cached["compile"]
    assert deploy(workload).rows[0].cached["compile"]
    own.write_text("b", encoding="utf-8")
    assert not deploy(workload).rows[0].cached["compile"]


def test_a_neighbours_downgrade_is_told_and_fails_where_asked(
    board: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPIER", "less")
    (row,) = deploy(beside=(load_workload("digits", name="again"),), use_cache=False).rows
    assert row.measurement is not None
    assert row.measurement.together is not None
    assert row.measurement.together.notes == (
        "again: optimization level 2 asked for, 0 done: no GPU",
    )


def test_parameters_are_read_in_a_programs_own_modules_too(tmp_path: Path) -> None:
    program = tmp_path / "p.py"
    program.write_text("from p_parts import f as g, h\nfrom os import walk\n", encoding="utf-8")
    parts = tmp_path / "p" / "p_parts.py"
    parts.parent.mkdir()
    parts.write_text("def f(a): ...\ndef h(b, *, c): ...\n", encoding="utf-8")
    found = [parameters(program, name) for name in ("g", "h", "f", "walk")]
    assert found == [("a",), ("b", "c"), None, None]
