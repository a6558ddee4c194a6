"""What the loop that times says of memory and the host, null where a system does not tell."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import PLAN, runtime

from edgedeploy._inproc import measure


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells and forgets a peak")
def test_memory_is_over_the_empty_runtime() -> None:
    kept: list[bytearray] = []

    def load(artifact: str, options: dict[str, Any]) -> dict[str, Any]:
        del artifact
        kept.append(bytearray(b"x") * 40_000_000)
        bytearray(b"x") * 60_000_000
        return {"inputs": [], "options": options}

    answer = measure.prepare(runtime(load=load), print, "a", {"threads": 1})
    memory = answer["memory_bytes"]
    assert 95e6 < memory["load_peak"] < 130e6
    assert memory["empty_runtime"] > 1e6
    assert answer["loaded"]["options"] == {"threads": 1}
    assert answer["load_s"] > 0
    kept.clear()
    # nothing taken is 0, never less
    assert measure.prepare(runtime(), print, "a", {})["memory_bytes"]["load_peak"] >= 0


def test_memory_is_null_where_the_system_does_not_tell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure.host, "read_text", lambda _: None)
    assert measure.host.resident_bytes() is None
    assert measure.prepare(runtime(), print, "a", {})["memory_bytes"] == {}
    np.savez(tmp_path / "in.npz", x=np.ones((1, 1, 2)))
    answer = measure.profile(runtime(), lambda _: None, str(tmp_path / "in.npz"), PLAN)
    assert answer["steady_peak_bytes"] is None


def test_memory_is_null_where_a_peak_cannot_be_forgotten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure.host, "reset_peak", lambda: False)
    assert measure.prepare(runtime(), print, "a", {})["memory_bytes"] == {}
    np.savez(tmp_path / "in.npz", x=np.ones((1, 1, 2)))
    answer = measure.profile(runtime(), lambda _: None, str(tmp_path / "in.npz"), PLAN)
    assert answer["steady_peak_bytes"] is None


def host(monkeypatch: pytest.MonkeyPatch, **files: str) -> dict[str, Any]:
    texts = {
        "/proc/cpuinfo": "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nflags\t: fpu hypervisor\n"
        "cpu MHz\t\t: 1995.3\n\nprocessor\t: 1\nmodel name\t: Another\n",
        "/proc/meminfo": "MemTotal:  1000 kB\nMemFree: 1 kB",
        **files,
    }
    monkeypatch.setattr(measure.host, "read_text", texts.get)
    return measure.host.host_facts()


def test_host_facts_without_cpufreq(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = host(monkeypatch)
    assert facts["cpu"] == "A CPU @ 2 GHz"
    assert facts["governor"] is None
    assert facts["clock_hz"] == 1995.3e6
    assert facts["virtual_machine"] is True
    assert facts["memory_total_bytes"] == 1024_000
    assert facts["temperatures_c"] == {}
    assert facts["board"] is None


def test_host_facts_with_cpufreq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 2}, raising=False)
    policy = "/sys/devices/system/cpu/cpu2/cpufreq/"
    files = {policy + "scaling_cur_freq": "2400000", policy + "scaling_governor": "performance"}
    facts = host(monkeypatch, **files)
    assert (facts["governor"], facts["clock_hz"], facts["affinity"]) == (
        "performance",
        2.4e9,
        [2, 3],
    )
    # some drivers have no number to give
    files[policy + "scaling_cur_freq"] = "<unknown>"
    assert host(monkeypatch, **files)["clock_hz"] == 1995.3e6
    files["/proc/cpuinfo"] = ""
    facts = host(monkeypatch, **files)
    assert facts["clock_hz"] is None
    assert facts["cpu"]


def test_temperatures_are_in_celsius(monkeypatch: pytest.MonkeyPatch) -> None:
    root = "/sys/class/thermal"
    files = {
        f"{root}/thermal_zone0/temp": "45500",
        f"{root}/thermal_zone0/type": "x86_pkg_temp",
        f"{root}/thermal_zone1/temp": "-1000",
        f"{root}/thermal_zone2/type": "asleep",
        f"{root}/cooling_device0/temp": "7",
    }
    zones = sorted({path.split("/")[4] for path in files})
    monkeypatch.setattr(os, "listdir", lambda _: zones)
    monkeypatch.setattr(os.path, "isdir", lambda _: True)
    assert host(monkeypatch, **files)["temperatures_c"] == {
        "x86_pkg_temp": 45.5,
        "thermal_zone1": -1.0,
    }


def test_facts_of_this_host_are_json() -> None:
    import json

    facts = json.loads(json.dumps(measure.host.host_facts()))
    assert facts["cores"] >= 1
    assert facts["python"] == sys.version.split()[0]


OLD_PROGRAM = """
import time
def probe(): return {"tools": {"old": "1"}}
def load(artifact, options): return {"inputs": [], "options": options}
"""

SESSION = """
import sys
sys.path.insert(0, sys.argv[1])
import measure
call = lambda: sum(range(200))
warm = measure.warm_up(call, 0.0, 0.2)
window, starts, durations = measure.latency(call, 0.0, 1.0, 5, 20)
streams = measure.throughput(lambda _: call, call, {}, 0.02, None)
assert warm["count"] and window["count"] == len(starts) == 20 and streams[0]["count"]
host = measure.host
print(sorted(host.host_facts())[:2], measure._packed(starts)[:4] != "", host.reset_peak())
"""


def test_the_device_s_side_runs_on_python_3_8(tmp_path: Path) -> None:
    found = sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python"))
    if not found:
        pytest.skip("no Python 3.8 here")
    from edgedeploy.worker import INPROC, SERVE, Worker

    old = str(found[-1])
    done = subprocess.run(
        [old, "-W", "error", "-c", SESSION, str(INPROC)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("['affinity', 'board'] True")
    program = tmp_path / "old.py"
    program.write_text(OLD_PROGRAM)
    with Worker("old", [old, str(SERVE), str(program)]) as worker:
        answer = worker.call("measure.prepare", artifact="x", options={"threads": 1})
        assert worker.meta["python"].startswith("3.8.")
        assert answer["loaded"]["options"] == {"threads": 1}
        assert worker.call("serve.sha256", path=str(program))["size_bytes"] == len(OLD_PROGRAM)
        worker.call("serve.import_only", modules=["json"])
        worker.start("nothing")
        with pytest.raises(Exception, match="has no function nothing"):
            worker.finish()
