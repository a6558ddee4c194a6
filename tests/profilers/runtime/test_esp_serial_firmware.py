"""The program with our real firmware: as a process of this host, and on virtual boards."""

import hashlib
import importlib.util
import mmap
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from esp_line import Missing, Refused, Stalled, StartedOver, Unplugged, WrongAnswer
from fake_gdb_stub import FakeStub
from faulty_line import FaultyLine, schedule

from edgedeploy.devices import open_device
from edgedeploy.target import load_target

ROOT = Path(__file__).parents[3]
TYPED = (Missing, Refused, Stalled, StartedOver, Unplugged, WrongAnswer)
QUICK = {"timeout_s": 0.15, "retries": 4}
LONGEST_S = 20.0
LAYERS = ["first", "depthwise", "pointwise", "skip", "pool", "classifier"]
VIRTUAL = {
    "esp32s3-virtual": ("qemu-system-xtensa", "xtensa-lx106-elf-gcc"),
    "rv32-virtual": ("qemu-system-riscv32", "riscv64-unknown-elf-gcc"),
}


@pytest.fixture(scope="session")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program built for this host."""
    if shutil.which("gcc") is None or shutil.which("make") is None:
        pytest.skip("gcc and make are not installed")
    folder = tmp_path_factory.mktemp("firmware")
    command = ["make", "-C", str(ROOT / "firmware"), "PORT=posix", f"BUILD={folder}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return str(folder / "firmware")


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory, tiny: ModuleType) -> str:
    """tiny.conv_net in int8, compiled for the board."""
    if importlib.util.find_spec("esp_ppq") is None:
        pytest.skip("esp-ppq, the compiler's toolchain, is not installed")
    folder = tmp_path_factory.mktemp("espdl")
    (folder / "out").mkdir()
    model = tiny.conv_net(folder / "net.onnx")
    np.savez(folder / "calibration.npz", x=tiny.images(16))
    compiler = tiny.program("compilers", "espdl")
    answer = compiler.compile_model(
        model, str(folder / "out"), "int8", str(folder / "calibration.npz"), {"chip": "esp32s3"}
    )
    return str(answer["path"])


@pytest.fixture
def program(tiny: ModuleType) -> Iterator[ModuleType]:
    module = tiny.program("profilers/runtime", "esp_serial")
    yield module
    module.close()


@contextmanager
def running(firmware: str, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The port of a board that runs as a process, and that process."""
    command = [firmware, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def story(
    program: ModuleType, artifact: str, options: dict[str, Any], images: Any
) -> dict[str, Any]:
    """All that a session does, and what its counts come in steps of."""
    try:
        found = {"sha256": program.artifact_sha256(artifact, options)}
        program.load(artifact, options)
        found["outputs"] = [program.run({"x": image})["y"].tolist() for image in images]
        timed = program.timed({"x": images[0]}, 1, 5)
        layers = program.layers({"x": images[0]}, 2)
        found["layers"] = [(layer["name"], layer["op"]) for layer in layers]
        found["vectors"] = program.self_test()
        counts = [layer.get("instructions") for layer in layers] + (timed["instructions"] or [])
        return {**found, "counts": counts, "step": program.facts()["ticks_per_count"]}
    finally:
        program.close()


def same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Equal, but that a counter may be a step ahead."""
    if {**found, "counts": wanted["counts"]} != wanted:
        return False
    if wanted["counts"][0] is None:
        return bool(found["counts"] == wanted["counts"])
    apart = np.abs(np.subtract(found["counts"], wanted["counts"]))
    return bool(apart.max() <= wanted["step"])


def runs_on(program: ModuleType, image: Any) -> None:
    """Run until something ends it."""
    while True:
        program.run({"x": image})


def test_the_firmware_runs_the_model_as_it_was_compiled(
    program: ModuleType, tiny: ModuleType, firmware: str, artifact: str
) -> None:
    data = Path(artifact).read_bytes()
    with running(firmware, "--model", artifact) as (port, _):
        found = story(program, artifact, {"port": port, **QUICK}, tiny.images(3))
        digest = hashlib.sha256(data).hexdigest()
        assert found["sha256"] == {"sha256": digest, "size_bytes": len(data)}
        exact = tiny.outputs_of(str(Path(artifact).parents[1] / "net.onnx"), tiny.images(3))
        assert np.abs(np.array(found["outputs"]) - exact).max() < 0.15
        assert [name for name, _ in found["layers"]] == LAYERS
        # nanoseconds of a process are no figure of a board
        assert found["counts"] == [None] * len(LAYERS)
        vectors = found["vectors"]
        assert (vectors["vectors"], vectors["failed"], vectors["values"]) == (1, 0, 5)
        program.load(artifact, {"port": port, **QUICK})
        memory = program.memory()
        assert memory["flash_model"] == len(data)
        assert 0 < memory["parameters"] < memory["flash_model"]
        assert "stack_peak" not in memory
        facts = program.facts()
        assert facts["board"] == "posix process"
        assert facts["self_test"] == {"vectors": 1, "failed": 0, "values": 5, "different": 0}


def test_a_process_is_not_taken_for_the_board_of_a_target(
    program: ModuleType, firmware: str, artifact: str
) -> None:
    own = load_target("esp32s3").run_options
    with (
        running(firmware, "--model", artifact) as (port, _),
        pytest.raises(Exception, match="says it is 'posix process', expected 'esp32s3'") as caught,
    ):
        program.load(artifact, {"port": port, **QUICK, **own})
    assert type(caught.value).__name__ == "BadInput"


def test_a_board_reset_stalled_or_gone_in_the_middle(
    program: ModuleType, tiny: ModuleType, firmware: str, artifact: str
) -> None:
    image = tiny.images(1)[0]
    with running(firmware, "--model", artifact) as (port, process):
        program.load(artifact, {"port": port, **QUICK})
        wanted = program.run({"x": image})["y"]
        assert program.state["board"].ask("reset") == b""
        assert np.array_equal(program.run({"x": image})["y"], wanted)
        assert program.facts()["sessions_lost"] == 1
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(Stalled, match="gave no answer to"):
            program.run({"x": -image})
        process.send_signal(signal.SIGCONT)
        assert np.array_equal(program.run({"x": image})["y"], wanted)
        # long enough to be in the middle of it
        threading.Timer(0.3, process.kill).start()
        with pytest.raises((Unplugged, Stalled)) as caught:
            runs_on(program, image)
        assert caught.value.hint


def test_an_erased_or_other_model_is_named(
    program: ModuleType, firmware: str, artifact: str, tmp_path: Path
) -> None:
    with running(firmware) as (port, _), pytest.raises(Exception, match="refuses") as caught:
        program.load(artifact, {"port": port, **QUICK})
    assert type(caught.value).__name__ == "BadInput"
    small = ("--fast-bytes", "1024", "--large-bytes", "0")
    with (
        running(firmware, "--model", artifact, *small) as (port, _),
        pytest.raises(Exception, match="does not fit") as caught,
    ):
        program.load(artifact, {"port": port, **QUICK})
    assert type(caught.value).__name__ == "Unsupported"


def test_samples_through_a_probe_give_the_same_outputs(
    program: ModuleType, tiny: ModuleType, firmware: str, artifact: str, tmp_path: Path
) -> None:
    images = tiny.images(9)
    path = tmp_path / "samples"
    path.write_bytes(bytes(4 * 800))
    with (
        running(firmware, "--model", artifact, "--samples", str(path)) as (port, _),
        path.open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as memory,
    ):
        program.load(artifact, {"port": port, **QUICK})
        wanted = program.run_many({"x": images})["y"]
        start = program.state["board"].info["samples_address"]
        with FakeStub(memory, start) as stub:
            program.load(artifact, {"port": port, "probe": stub.address, **QUICK})
            assert np.array_equal(program.run_many({"x": images})["y"], wanted)
            assert stub.packets.count(b"D") == 2 * 3  # four images fit


def faulty_story(
    program: ModuleType, artifact: str, port: str, seed: int, images: Any, **options: Any
) -> tuple[str, Any]:
    """How a story went over a line with the faults of `seed`: "right" or an error's name."""
    draw = random.Random(seed)
    gap, cuts = 10 ** draw.uniform(2.0, 3.8), draw.choice([0.0, 0.0, 0.1])
    delay_ms = int(2000 * options["timeout_s"])
    faults = [
        schedule(f"{seed} {side}", gap, delay_ms=delay_ms, cuts=cuts) for side in ("board", "host")
    ]
    outcome, hint, found = "right", "none needed", None
    start = time.monotonic()
    by = "pty" if seed % 4 == 0 else "tcp"
    with FaultyLine(port, to_board=faults[0], to_host=faults[1], by=by) as line:
        try:
            found = story(program, artifact, {"port": line.port, **options}, images)
        except TYPED as error:
            outcome, hint = type(error).__name__, error.hint
    assert hint
    assert time.monotonic() - start < LONGEST_S * options["timeout_s"] / QUICK["timeout_s"]
    return outcome, found


def check_outcomes(results: list[tuple[str, Any]], wanted: Any) -> None:
    outcomes = Counter(outcome for outcome, _ in results)
    print(dict(outcomes))
    assert all(same(found, wanted) for outcome, found in results if outcome == "right")
    assert outcomes["right"] > len(results) / 4
    assert outcomes["right"] < len(results) * 0.9


def test_two_hundred_faulty_lines_to_the_firmware(
    program: ModuleType, tiny: ModuleType, firmware: str, artifact: str
) -> None:
    images = tiny.images(2)

    def one(seed: int) -> tuple[str, Any]:
        own = tiny.program("profilers/runtime", "esp_serial")
        with running(firmware, "--model", artifact) as (port, _):
            return faulty_story(own, artifact, port, seed, images, **QUICK)

    with running(firmware, "--model", artifact) as (port, _):
        wanted = story(program, artifact, {"port": port, **QUICK}, images)
    with ThreadPoolExecutor(16) as pool:
        check_outcomes(list(pool.map(one, range(200))), wanted)


@pytest.fixture(params=VIRTUAL)
def board(
    request: pytest.FixtureRequest, shared_cache: Path, artifact: str
) -> Iterator[dict[str, Any]]:
    """The options that reach a virtual board with the model in its flash."""
    for needed in ("make", *VIRTUAL[request.param]):
        if shutil.which(needed) is None:
            pytest.skip(f"{needed} is not installed (`make toolchain`)")
    with open_device(load_target(request.param)) as device:
        device.put(Path(artifact))
        named = load_target(request.param).run_options["board"]
        yield {"board": named, **device.run_options()}


def test_virtual_boards_count_and_compute_the_same_each_time(
    program: ModuleType, tiny: ModuleType, artifact: str, board: dict[str, Any]
) -> None:
    images = tiny.images(7)
    data = Path(artifact).read_bytes()
    hashed = program.artifact_sha256(artifact, board)
    assert hashed == {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    program.load(artifact, board)
    assert program.facts()["virtual"] is True
    tested = program.facts()["self_test"]
    assert (tested["vectors"], tested["failed"]) == (1, 0)
    vectors = program.self_test()
    assert (vectors["vectors"], vectors["failed"]) == (1, 0)
    alone = np.stack([program.run({"x": image})["y"] for image in images])
    assert len({tuple(row.ravel()) for row in alone}) > 1
    assert np.array_equal(program.run_many({"x": images})["y"], alone)
    first = program.timed({"x": images[0]}, 1, 3)
    again = program.timed({"x": images[0]}, 0, 3)
    assert first["latency_s"] is first["cycles"] is None
    counts = first["instructions"] + again["instructions"]
    step = program.facts()["ticks_per_count"]
    assert max(counts) - min(counts) <= step
    said = [f"instructions are counted in steps of {step}"] if step > 1 else []
    assert first["notes"] == again["notes"] == said
    layers = program.layers({"x": images[0]}, 2)
    assert [layer["name"] for layer in layers] == LAYERS
    assert all("time_s" not in layer for layer in layers)
    total = sum(layer["instructions"] for layer in layers)
    assert counts[0] * 0.9 < total < counts[0] * 1.1
    memory = program.memory()
    assert 0 < memory["stack_peak"] < memory["stack_total"]


@pytest.mark.slow
def test_a_hundred_faulty_lines_to_each_virtual_board(
    program: ModuleType, tiny: ModuleType, artifact: str, board: dict[str, Any]
) -> None:
    images = tiny.images(2)
    options = {"timeout_s": 0.2, "retries": 4}
    wanted = story(program, artifact, {"port": board["port"], **options}, images)
    results = [
        faulty_story(program, artifact, board["port"], seed, images, **options)
        for seed in range(100)
    ]
    check_outcomes(results, wanted)
