"""The poller the way it is run: through serve.py, and under the oldest Python it is sent to."""

import ast
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
INPROC = ROOT / "edgedeploy" / "_inproc"
INSTRUMENTS = ROOT / "profilers" / "instrument"
PLAIN = ("rapl", "hwmon", "nvml", "jetson", "hwmon_common/hwmon_sensors", "hailo")


def runs(executable: str) -> bool:
    """Whether this Python starts: a version manager's stand-in may exist without its Python."""
    done = subprocess.run([executable, "--version"], check=False, capture_output=True)
    return done.returncode == 0


OLDEST = shutil.which("python3.8")


@pytest.mark.parametrize("executable", [sys.executable, *filter(runs, filter(None, [OLDEST]))])
def test_through_serve_with_rapl(tmp_path: Path, executable: str) -> None:
    zone = tmp_path / "class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    for name, text in [
        ("name", "package-0"),
        ("energy_uj", "1500000"),
        ("max_energy_range_uj", "262143328850"),
    ]:
        (zone / name).write_text(f"{text}\n")
    command = [executable, str(INPROC / "serve.py"), str(INSTRUMENTS / "rapl.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def call(name: str, **arguments: Any) -> dict[str, Any]:
            requests.write(json.dumps({"call": name, "arguments": arguments}) + "\n")
            requests.flush()
            answer: dict[str, Any] = json.loads(answers.readline())
            return answer

        bad = call("sample.start", options={"sysfs": str(tmp_path)}, period_s=0)
        assert bad["error"]["kind"] == "input"
        absent = call("sample.start", options={"sysfs": str(tmp_path / "none")}, period_s=0.002)
        assert absent["error"]["kind"] == "missing"
        opened = call("sample.start", options={"sysfs": str(tmp_path)}, period_s=0.002)["answer"]
        assert opened["channels"][0]["name"] == "package-0"
        time.sleep(0.05)
        (zone / "energy_uj").write_text("2750000\n")
        time.sleep(0.05)
        answer = call("sample.stop")["answer"]
        requests.close()
        assert process.wait(10) == 0
    values = answer["channels"][0]["values"]
    assert values[0] == 1.5
    assert values[-1] == 2.75
    assert answer["channels"][0]["total"]


@pytest.mark.parametrize(
    "path",
    [*sorted(INPROC.glob("*.py")), *(INSTRUMENTS / f"{name}.py" for name in PLAIN)],
    ids=lambda path: path.name,
)
def test_is_written_for_python_3_8(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    first = next(n for n in tree.body if isinstance(n, ast.ImportFrom))
    if path.name != "far.py":  # which tells a Python that is older still
        assert first.module == "__future__"
    # What the grammar of 3.8 lets through and 3.8 does not know: built-in generics and unions
    # outside annotations, which stay unread there.
    annotations = {
        id(inner)
        for node in ast.walk(tree)
        for field in ("annotation", "returns")
        if (found := getattr(node, field, None)) is not None
        for inner in ast.walk(found)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and id(node) not in annotations:
            name = getattr(node.value, "id", "")
            assert name not in ("list", "dict", "tuple", "set", "type"), node.lineno
        if isinstance(node, ast.keyword) and node.arg == "strict":
            message = f"line {node.value.lineno}: zip(strict=) is of 3.10"
            pytest.fail(message)
