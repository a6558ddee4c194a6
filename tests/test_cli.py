"""The command line on the built-in workload: every verb, for people and as JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgedeploy.errors import EXIT_CODES
from edgedeploy.records import Report

SHORT = ("--runs", "1000", "--duration", "0.05")


class Shell:
    """Runs the command line in folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "EDGEDEPLOY_RUNS": str(folder / "runs"),
            "EDGEDEPLOY_CACHE": str(folder / "cache"),
            "COLUMNS": "100",
        }

    def __call__(self, *arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "edgedeploy.cli", *arguments]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
        )
        assert done.returncode == code, done.stderr
        self.stderr = done.stderr
        return done.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell in which `digits` was deployed once."""
    made = Shell(tmp_path_factory.mktemp("cli"))
    made("deploy", "digits", "--target", "host", *SHORT)
    return made


def test_deploy_json_is_the_report_record(shell: Shell) -> None:
    text = shell("deploy", "digits", *SHORT, "--json")
    report = msgspec.json.decode(text, type=Report)
    assert [(r.target, r.precision, r.status) for r in report.rows] == [
        ("host", "fp32", "ok"),
        ("host", "int8", "ok"),
    ]
    for row in json.loads(text)["rows"]:
        for name, figure in row["figures"].items():
            assert {"value", "unit"} <= set(figure), name
            if figure["value"] is None:
                assert figure["reason"], name
            else:
                assert figure["source"] in {"measured", "estimated"}, name
        assert row["figures"]["accuracy_top1"]["value"] > 0.985
        assert row["figures"]["latency_p99_s"]["value"] > row["figures"]["latency_p50_s"]["value"]
    assert {row.cached["export"] for row in report.rows} == {True}


def test_every_format_is_written_beside_the_run(shell: Shell) -> None:
    run = sorted((shell.folder / "runs").glob("*-digits"))[0]
    page = (run / "report.html").read_text()
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    for name in ("report.json", "report.csv", "report.md", "report.tex", "run.json"):
        assert (run / name).stat().st_size > 100


def test_few_samples_give_no_p99(shell: Shell) -> None:
    row = shell.json("bench", "digits", "-p", "int8", "--runs", "60")["rows"][0]
    assert row["figures"]["latency_count"]["value"] == 60
    assert row["figures"]["latency_p50_s"]["value"] > 0
    assert row["figures"]["latency_p99_s"] == {
        "value": None,
        "unit": "s",
        "source": None,
        "reason": "p99 needs 1000 samples, 60 were taken",
    }
    assert row["ladder"] is None


def test_stages_alone(shell: Shell) -> None:
    model = shell.json("export", "digits", "--output", "model")
    assert model["parameters"] == 35258
    assert (shell.folder / "model" / "model.onnx").stat().st_size > 100_000
    artifacts = shell.json("compile", "digits", "-t", "host,host-openvino", "-p", "int8")
    assert [a["precision"] for a in artifacts] == ["int8", "int8"]
    ladders = shell.json("verify", "digits", "-p", "int8", "--strict")
    rungs = ladders["host int8"]["rungs"]
    names = ["torch", "onnx", "simplified", "quantized", "deployed"]
    assert [rung["name"] for rung in rungs] == names
    assert (
        ladders["host int8"]["layers"][0]["snr_db"] <= ladders["host int8"]["layers"][-1]["snr_db"]
    )


def test_explain_cache_names_what_changed(shell: Shell) -> None:
    shell("compile", "digits", "-p", "int8", "--samples", "10", "--explain-cache")
    assert "cache: export of digits: hit: same inputs" in shell.stderr
    assert (
        "cache: calibrate of digits: miss: changed since the latest entry: data spec"
        in shell.stderr
    )
    assert "cache: quantize of digits: miss" in shell.stderr
    assert "calibration: " in shell.stderr


def test_report_and_compare(shell: Shell) -> None:
    second = shell.json("bench", "digits", *SHORT)["runs"][0]
    first = sorted(path.name for path in (shell.folder / "runs").glob("*-digits*"))[0]
    table = shell("report", first)
    assert "99.72 %" in table
    everything = shell.json("report", "--all")
    assert len(everything["rows"]) >= 4
    assert shell("report", "last", "--format", "csv").count("\n") >= 2
    found = shell.json("compare", first, second)
    assert {c["verdict"] for c in found} <= {"faster", "slower", "same", "not_comparable"}
    same = shell.json("compare", first, first)
    assert [c["verdict"] for c in same] == ["same", "same"]
    shell("compare", first, first, "--fail-if", "slower:5%,accuracy:1%")
    shell("compare", first, second, "--fail-if", "quicker", code=2)


def test_targets_and_doctor(shell: Shell) -> None:
    assert {"host", "host-openvino"} <= {target["name"] for target in shell.json("targets")}
    found = shell.json("doctor")
    programs = {(p["kind"], p["name"]): p for p in found["programs"]}
    assert programs["compiler", "ort"]["found"]
    assert programs["compiler", "ort"]["interpreter_kind"] in {"current", "named"}
    for program in found["programs"]:
        assert program["found"] or (program["reason"] and program["remedy"]), program
    assert next(t for t in found["targets"] if t["name"] == "host")["ready"]


def test_help_documents_exit_codes_and_imports_nothing_slow(shell: Shell) -> None:
    assert all(f"{code} " in " ".join(shell("--help").split()) for code in EXIT_CODES)
    program = (
        "import sys; sys.argv = ['edgedeploy', '--help']\n"
        "import edgedeploy.cli as cli\n"
        "try:\n    cli.main()\nexcept SystemExit:\n"
        "    slow = {'numpy', 'torch', 'onnx', 'onnxruntime', 'rich.console'} & set(sys.modules)\n"
        "    print('slow:', sorted(slow), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "slow: []" in done.stderr
