"""A device with a clock of its own, its emulator, and the nodes behind a cut: made-up programs."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedeploy.errors import ConnectionLostError, EdgeDeployError, InputError, MissingError
from edgedeploy.interpreter import read_header
from edgedeploy.pipeline import Pipeline, exit_code
from edgedeploy.power import power_figures
from edgedeploy.records import Measurement, Plan, Report, Row, Series, Window
from edgedeploy.report.collect import report_of
from edgedeploy.report.html import to_html
from edgedeploy.report.table import compare_rows
from edgedeploy.row import RowState, Stages
from edgedeploy.share import program_files
from edgedeploy.stability import judge
from edgedeploy.store import Job, create_run, open_run
from edgedeploy.target import load_targets
from edgedeploy.workload import load_workload

PLAN = Plan(latency_count=30, layer_runs=2, idle_s=0.0, cool_down_s=0.0)
# The artifact is the model itself; `kept` holds what a real compiler writes for people.
COMPILER = '''
"""A compiler that copies."""
import json
import os
import shutil


def probe():
    return {"tools": {"copier": "1"}}


def compile_model(model, output, precision, calibration, options):
    path = os.path.join(output, "model.onnx")
    shutil.copy(model, path)
    kept = os.path.join(os.path.dirname(output), "kept")
    os.mkdir(kept)
    with open(os.path.join(kept, "seen.json"), "w") as file:
        json.dump({"options": options, "calibration": bool(calibration)}, file)
    return {"path": path, "format": "onnx", "kept": kept, **probe()}


def layer_errors(model, quantized, inputs, options):
    assert os.path.isfile(os.path.join(options["kept"], "seen.json"))
    return {"layers": [{"layer": "a", "snr_db": 12.5, "alone_snr_db": None}]}
'''
# Numbers by ONNX Runtime; what the device tells beside them depends on the test.
RUNTIME = '''
"""A device whose own loop times, or an emulator."""
import hashlib

import numpy as np
import onnxruntime

STATE = {}
TIMED = @TIMED@
MEMORY = @MEMORY@


def probe():
    return {"tools": {"copier": "1"}}


def artifact_sha256(path, options):
    with open(path, "rb") as file:
        data = file.read()
    if options.get("damaged"):
        data += b"x"
    return {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}


def load(artifact, options):
    if @ALONE@ and options:
        raise ValueError("an option of another program: %s" % options)
    session = STATE["session"] = onnxruntime.InferenceSession(artifact)
    names = [{"name": v.name, "dtype": "float32", "shape": v.shape} for v in session.get_inputs()]
    return {"inputs": names, "outputs": [], "options": {}}


def run(inputs):
    names = [value.name for value in STATE["session"].get_outputs()]
    shifted = {name: value + np.float32(@SHIFT@) for name, value in inputs.items()}
    return dict(zip(names, STATE["session"].run(names, shifted)))


def run_many(samples):
    STATE["many"] = True
    count = len(next(iter(samples.values())))
    each = [run({name: values[i] for name, values in samples.items()}) for i in range(count)]
    return {name: np.stack([one[name] for one in each]) for name in each[0]}


def timed(inputs, warm_up, count):
    found = {"clock": "device", "latency_s": None, "cycles": None, "instructions": None}
    had = {key: [value] * count for key, value in TIMED.items()}
    return {**found, **had, "notes": ["cut short"]}


def facts():
    return {**probe(), "many": STATE.get("many", False), "virtual": @VIRTUAL@}


def layers(inputs, count):
    return [{"name": "conv", "op": "Conv", **{k: 7.0 for k in TIMED if k != "latency_s"}}]


def memory():
    return MEMORY
'''
TARGET = """
board = "a made-up board"
transport = "{transport}"
compiler = "copier"
profiler = "device"
precisions = ["int8"]
source = "{source}"
"""
MEMORY = {"flash_model": 1000, "flash_code": 50, "sram_arena": 300, "static": 20, "stack_peak": 5}


@pytest.fixture
def toolchain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    monkeypatch.setenv("EDGEDEPLOY_PATH", str(folder))
    write(folder, "compilers/copier.py", COMPILER)
    device(folder, {"instructions": 1234.0})
    write(folder, "targets/counter.toml", TARGET.format(transport="local", source="emulated"))
    return folder


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")


def device(
    folder: Path,
    timed: dict[str, float],
    name: str = "device",
    *,
    shift: float = 0.0,
    virtual: bool = False,
    alone: bool = False,
) -> None:
    text = RUNTIME.replace("@TIMED@", repr(timed)).replace("@MEMORY@", repr(MEMORY))
    text = text.replace("@SHIFT@", repr(shift)).replace("@VIRTUAL@", repr(virtual))
    text = text.replace("@ALONE@", repr(alone))
    write(folder, f"profilers/runtime/{name}.py", text)


def deploy(target: str, workload: str = "digits", **changes: Any) -> Report:
    job = Job(
        workload=load_workload(workload, **changes),
        targets=tuple(load_targets(target)),
        plan=PLAN,
    )
    run = create_run(job, "0")
    Pipeline(run).execute()
    return report_of(run)


def only(report: Report) -> Row:
    (row,) = report.rows
    return row


def test_an_emulator_that_counts_gives_instructions_and_no_time(
    toolchain: Path, shared_cache: Path
) -> None:
    report = deploy("counter")
    row = only(report)
    assert row.failure is None, row.failure
    figures = row.figures
    assert figures["instructions"].value == 1234
    assert figures["instructions"].source == "emulated"
    assert {f.value for name, f in figures.items() if name.startswith("latency")} == {None}
    assert figures["latency_p50_s"].reason == "an emulator counts instructions and has no time"
    assert figures["throughput_hz"].value is None
    assert "cycles" not in figures
    assert figures["memory_flash_bytes"].value == 1050
    assert figures["memory_sram_bytes"].value == 325
    assert figures["memory_steady_bytes"].value == 325
    assert "memory_psram_bytes" not in figures
    measurement = row.measurement
    assert measurement is not None
    assert [s.quantity for s in measurement.series] == ["instructions"]
    assert measurement.series[0].count == 30
    assert [(m.what, m.reason) for m in measurement.missed] == [("timing", "cut short")]
    assert measurement.instability == ()
    assert measurement.layers[0].instructions == 7.0
    assert measurement.facts_after["many"] is False
    assert measurement.accuracy is not None
    assert measurement.accuracy.source == "emulated"
    assert row.ladder is not None
    assert (row.ladder.layers[0].layer, row.ladder.layers[0].snr_db) == ("a", 12.5)
    titles = [column.title for column in compare_rows(report).columns]
    assert "Instructions" in titles
    assert "SRAM" in titles
    assert "PSRAM" not in titles
    page = to_html(report, {})
    assert "an emulator counts instructions and has no time" in page
    assert "7 instructions" in page


def test_a_device_that_times_itself_gives_latency_by_its_own_clock(
    toolchain: Path, shared_cache: Path
) -> None:
    device(toolchain, {"latency_s": 0.002, "cycles": 480000.0})
    write(toolchain, "targets/counter.toml", TARGET.format(transport="local", source="measured"))
    row = only(deploy("counter"))
    assert row.figures["latency_p50_s"].value == pytest.approx(0.002)
    assert row.figures["latency_p50_s"].source == "measured"
    assert row.figures["cycles"].value == 480000
    assert row.measurement is not None
    series = {s.quantity: s for s in row.measurement.series}
    assert series["latency"].clock == "device"
    assert row.measurement.timing_reason is None
    assert row.measurement.layers[0].cycles == 7.0


def test_the_hash_is_the_devices_own(toolchain: Path, shared_cache: Path) -> None:
    row = only(deploy("counter", run_options={"damaged": True}))
    assert row.failure is not None
    assert row.failure.stage == "deploy"
    assert "has hash" in row.failure.message


def test_a_missing_board_keeps_what_its_emulator_says(toolchain: Path, shared_cache: Path) -> None:
    device(toolchain, {}, name="numbers")
    board = TARGET.format(transport="serial", source="measured") + 'emulator = "numbers"\n'
    board += """
[device_options.serial]
usb = ["FFFF:FFFF"]
chip = "made-up"
model_address = 0
model_bytes = 1048576
"""
    write(toolchain, "targets/board.toml", board)
    report = deploy("board")
    row = only(report)
    assert (row.status, row.failure and row.failure.stage) == ("missing", "deploy"), row.failure
    assert exit_code(report.rows) == 3
    assert row.measurement is None
    assert row.emulation is not None
    assert row.emulation.program == "numbers"
    accuracy = row.figures["accuracy_top1"]
    assert accuracy.value is not None
    assert accuracy.value > 0.97
    assert accuracy.source == "emulated"
    assert row.figures["snr_db"].source == "emulated"
    assert row.ladder is not None
    assert [rung.name for rung in row.ladder.rungs][-1] == "emulated"
    assert row.figures["latency_p50_s"].value is None
    sources = {cell.source for line in compare_rows(report).cells for cell in line if cell.source}
    assert "emulated" in sources


def test_a_device_is_held_against_its_emulator_bit_for_bit(
    toolchain: Path, shared_cache: Path
) -> None:
    device(toolchain, {}, name="numbers")
    text = TARGET.format(transport="local", source="emulated") + 'emulator = "numbers"\n'
    write(toolchain, "targets/counter.toml", text)
    row = only(deploy("counter"))
    assert row.ladder is not None
    last = row.ladder.rungs[-1]
    assert (last.name, last.reference, last.equal, last.broken) == (
        "deployed",
        "emulated",
        True,
        False,
    )
    device(toolchain, {}, name="numbers", shift=1e-3)
    row = only(deploy("counter"))
    assert row.ladder is not None
    assert row.ladder.rungs[-1].broken
    assert row.ladder.first_broken == "deployed"


def test_what_says_of_itself_that_it_is_virtual_is_emulated(
    toolchain: Path, shared_cache: Path
) -> None:
    device(toolchain, {"instructions": 5.0}, virtual=True)
    write(toolchain, "targets/counter.toml", TARGET.format(transport="local", source="measured"))
    row = only(deploy("counter"))
    told = ("accuracy_top1", "instructions", "memory_flash_bytes")
    assert {row.figures[name].source for name in told} == {"emulated"}
    assert row.measurement is not None
    assert row.measurement.source == "emulated"


def test_an_emulators_transport_measures_nothing(toolchain: Path) -> None:
    write(toolchain, "targets/wrong.toml", TARGET.format(transport="qemu", source="measured"))
    with pytest.raises(InputError, match="an emulator measures nothing"):
        load_targets("wrong")


def test_an_emulator_that_fails_costs_its_rung_alone(toolchain: Path, shared_cache: Path) -> None:
    device(toolchain, {}, name="numbers", alone=True)
    target = TARGET.format(transport="local", source="emulated") + 'emulator = "numbers"\n'
    write(toolchain, "targets/counter.toml", target)
    row = only(deploy("counter", run_options={"some": 1}))
    assert row.ladder is not None
    # the device's options are not the emulator's
    assert row.ladder.rungs[-1].reference == "emulated"
    text = (toolchain / "profilers/runtime/numbers.py").read_text()
    broken = text.replace("def run(inputs):", "def run(inputs):\n    raise ValueError('broken')")
    (toolchain / "profilers/runtime/numbers.py").write_text(broken)
    row = only(deploy("counter"))
    assert row.status == "ok"
    assert row.figures["instructions"].value == 1234
    assert row.ladder is not None
    rungs = {rung.name: rung for rung in row.ladder.rungs}
    assert "broken" in (rungs["emulated"].reason or "")
    assert rungs["deployed"].reference == "torch"
    write(toolchain, "targets/counter.toml", target.replace("numbers", "nmbers"))
    row = only(deploy("counter"))
    assert row.failure is not None
    assert "runtime profiler 'nmbers' is not known" in row.failure.message


def test_power_beside_a_device_with_a_clock_of_its_own_is_told_for_what_it_is() -> None:
    latency = Series(
        key="latency",
        quantity="latency",
        unit="s",
        clock="device",
        instrument="d",
        scope="",
        count=2,
    )
    meter = Series(
        key="m",
        quantity="power",
        unit="W",
        clock="host-monotonic",
        instrument="m",
        scope="",
        count=3,
        total=True,
    )
    measured = Measurement(
        plan=Plan(),
        source="measured",
        windows=(
            Window(phase="idle", start_ns=0, end_ns=10**9, count=0),
            Window(phase="latency", start_ns=10**9, end_ns=2 * 10**9, count=2),
        ),
        series=(latency, meter),
        series_file="",
    )
    t_ns = np.linspace(0, 2e9, 2001).astype(np.int64)
    figures = power_figures(measured, {"m": (t_ns, np.ones(2001))})
    assert figures["energy_per_inference_j"].value is None
    assert "marker pin" in (figures["energy_per_inference_j"].reason or "")
    assert figures["power_idle_w"].value == pytest.approx(1.0), figures["power_idle_w"].reason


class Flaky:
    """Where `_on_device` fails as told, in turn, and then measures."""

    def __init__(self, *errors: EdgeDeployError) -> None:
        self.errors = list(errors)
        self.tried = 0
        self.measure = Stages._on_device

    def __call__(self, stages: Stages, state: RowState, progress: Any) -> None:
        self.tried += 1
        if self.errors:
            raise self.errors.pop(0)
        self.measure(stages, state, progress)


def flaky(monkeypatch: pytest.MonkeyPatch, *errors: EdgeDeployError) -> Flaky:
    found = Flaky(*errors)

    def on_device(stages: Stages, state: RowState, progress: Any) -> None:
        found(stages, state, progress)

    monkeypatch.setattr(Stages, "_on_device", on_device)
    monkeypatch.setattr("edgedeploy.row.RETRY_WAITS_S", (0.01, 0.02))
    return found


def test_a_lost_link_is_measured_anew_and_told(
    toolchain: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = ConnectionLostError("the link to pi went away")
    found = flaky(monkeypatch, lost, MissingError("pi does not answer"))
    report = deploy("counter")
    row = only(report)
    assert row.failure is None
    assert found.tried == 3
    assert row.measurement is not None
    told = [m.reason for m in row.measurement.missed if m.what == "connection"]
    assert told == [
        "the link to pi went away; measured anew",
        "pi does not answer; measured anew",
    ]
    assert "the link to pi went away; measured anew" in to_html(report, {})


def test_a_link_that_stays_away_fails_the_row_until_resumed(
    toolchain: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky(monkeypatch, *(ConnectionLostError("the link went away") for _ in range(3)))
    report = deploy("counter")
    row = only(report)
    assert row.failure is not None
    assert (row.failure.message, row.failure.lost) == ("the link went away", True)
    run = open_run(row.run)
    run.forget_missing()
    assert run.pending() == [("counter", "int8")]
    Pipeline(run).execute()
    assert only(report_of(run)).status == "ok"


def test_a_board_that_was_never_there_is_not_waited_for(
    toolchain: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = flaky(monkeypatch, MissingError("no board"))
    row = only(deploy("counter"))
    assert (row.status, found.tried) == ("missing", 1)


CLOCKED = """

def device_times(inputs, count):
    return {"clock": "ticks", "latency_s": [0.0005] * count, "notes": ["copies left out"]}
"""


GAUGE = """# /// script
# requires-python = ">=3.8"
# dependencies = []
# ///
def probe():
    return {{"tools": {{}}}}


def open(options):
    one = {{"name": "power", "quantity": "power", "unit": "W", "scope": "board"}}
    return {{
        "channels": [{{**one, "counter_range": None, "period_s": 0.01, "total": True}}],
        "bus_id": {bus!r},
        "notes": [],
    }}


def read():
    return [7.0]


def close():
    return {{"notes": []}}
"""


def test_a_clock_beside_the_hosts_tells_who_is_waited_for(
    toolchain: Path, shared_cache: Path
) -> None:
    """The program's loop takes 2 ms an inference, of which the device works half a millisecond."""
    device(toolchain, {})
    program = toolchain / "profilers" / "runtime" / "device.py"
    text = program.read_text(encoding="utf-8").replace("def timed(", "def untimed(")
    text += (
        CLOCKED + "\n\ndef bind(inputs):\n    import time\n    return lambda: time.sleep(0.002)\n"
    )
    program.write_text(text, encoding="utf-8")
    write(toolchain, "targets/counter.toml", TARGET.format(transport="local", source="measured"))
    report = deploy("counter")
    row = only(report)
    assert row.failure is None, row.failure
    assert row.figures["latency_device_p50_s"].value == 0.0005
    assert row.figures["latency_device_p99_s"].reason == "p99 needs 1000 samples, 30 were taken"
    assert row.figures["latency_p50_s"].value is not None
    assert row.figures["latency_p50_s"].value > 0.002
    assert row.measurement is not None
    (bound,) = [v for v in row.measurement.instability if v.verdict == "host_bound"]
    assert "the device works 0.5 ms of the 2" in bound.message
    assert "Device p50" in [column.title for column in compare_rows(report).columns]
    assert [m.reason for m in row.measurement.missed if m.what == "device clock"] == [
        "copies left out"
    ]


def test_what_was_read_of_another_device_is_left_out(toolchain: Path, shared_cache: Path) -> None:
    """Two programs may count the devices of a machine in another order."""
    said = {"id": "0000:41:00.0"}
    device(toolchain, {})
    program = toolchain / "profilers" / "runtime" / "device.py"
    text = program.read_text(encoding="utf-8").replace("def timed(", "def untimed(")
    text += "\n\ndef bind(inputs):\n    import time\n    return lambda: time.sleep(0.005)\n"
    text += "\n\nuntold = facts\n\n\ndef facts():\n"
    text += f"    return {{**untold(), 'bus_id': {said['id']!r}}}\n"
    program.write_text(text, encoding="utf-8")
    board = TARGET.format(transport="local", source="measured").replace(
        "precisions", 'instruments = ["gauge"]\nprecisions', 1
    )
    write(toolchain, "targets/counter.toml", board)
    for other in ("0000:01:00.0", said["id"]):
        write(toolchain, "profilers/instrument/gauge.py", GAUGE.format(bus=other))
        row = only(deploy("counter"))
        assert row.failure is None, row.failure
        assert row.measurement is not None
        read = [each.key for each in row.measurement.series if each.instrument == "gauge"]
        told = [m.reason for m in row.measurement.missed if m.what == "gauge"]
        power = row.figures["power_w"]
        if other == said["id"]:
            assert (read, told) == (["gauge/power"], [])
            assert power.value == pytest.approx(7.0)
        else:
            assert read == []
            assert told == [
                "it reads the device at 0000:01:00.0, and the model ran on that at 0000:41:00.0"
            ]
            assert power.value is None
            assert told[0] in (power.reason or "")


def test_a_target_may_hold_latencies_closer(toolchain: Path, shared_cache: Path) -> None:
    board = TARGET.format(transport="local", source="emulated") + "spread_limit = 0.025\n"
    write(toolchain, "targets/counter.toml", board)
    assert load_targets("counter")[0].spread_limit == 0.025
    found = judge(2e-3 * np.linspace(1, 1.2, 1000), spread_limit=0.025)
    assert "spread" in [verdict.verdict for verdict in found]
    assert "spread" not in [v.verdict for v in judge(2e-3 * np.linspace(1, 1.2, 1000))]


def test_shared_modules_are_part_of_a_program(toolchain: Path) -> None:
    header = (
        '# /// script\n# dependencies = []\n# [tool.edgedeploy]\n# modules = ["common"]\n# ///\n'
    )
    write(toolchain, "compilers/one.py", header)
    write(toolchain, "compilers/common/common_parts.py", "X = 1\n")
    write(toolchain, "compilers/one/one_own.py", "Y = 1\n")
    names = [path.name for path in program_files(toolchain / "compilers" / "one.py")]
    assert names == ["one.py", "one_own.py", "common_parts.py"]
    assert read_header(toolchain / "compilers" / "one.py").dependencies == ()
