"""Samples through a debug probe: the gdb remote protocol, and the same outputs as over the line."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import fake_board
import numpy as np
import pytest
from esp_line import Missing, Stalled, WrongAnswer
from esp_probe import Probe
from fake_board import FakeBoard, write_espdl
from fake_gdb_stub import ADDRESS, FakeStub

QUICK = {"timeout_s": 0.3, "retries": 2}
MACHINES = {
    "qemu-system-xtensa": (["-M", "lx60-nommu", "-cpu", "lx106"], 0x6200_0000),
    "qemu-system-riscv32": (["-M", "virt", "-bios", "none", "-m", "256M"], 0x8400_0000),
}


def info(size: int) -> dict[str, int]:
    return {"samples_address": ADDRESS, "samples_bytes": size}


@pytest.fixture
def program(tiny: ModuleType) -> Iterator[ModuleType]:
    module = tiny.program("profilers/runtime", "esp_serial")
    yield module
    module.close()


@pytest.fixture
def artifact(tmp_path: Path) -> str:
    return str(write_espdl(tmp_path / "model.espdl", {"edgedeploy": json.dumps(fake_board.LAYOUT)}))


@pytest.fixture
def samples() -> dict[str, Any]:
    draw = np.random.default_rng(7)
    return {
        "image": draw.uniform(-5, 5, (7, 1, 3, 4, 5)).astype(np.float32),
        "state": draw.uniform(-9, 9, (7, 1, 6)).astype(np.float32),
    }


# memory for all seven samples, for two at a time, and for none
@pytest.mark.parametrize(("size", "batches"), [(4096, 1), (16 + 2 * 144, 4), (100, 0)])
def test_outputs_are_the_same_by_either_way(
    program: ModuleType, artifact: str, samples: dict[str, Any], size: int, batches: int
) -> None:
    with FakeBoard(info=info(size)) as board, FakeStub(board.ram) as stub:
        program.load(artifact, {"port": board.port, **QUICK})
        wanted = program.run_many(samples)
        assert board.asked.count("batch") == 0
        program.load(artifact, {"port": board.port, "probe": stub.address, **QUICK})
        found = program.run_many(samples)
        assert board.asked.count("batch") == batches
        assert all(np.array_equal(found[name], values) for name, values in wanted.items())
        assert stub.packets.count(b"D") == 2 * batches
        alone = program.run({name: values[3] for name, values in samples.items()})
        assert all(np.array_equal(alone[name], values[3]) for name, values in wanted.items())


def test_samples_lost_in_memory_are_written_again(
    program: ModuleType, artifact: str, samples: dict[str, Any]
) -> None:
    with FakeBoard(info=info(4096)) as board, FakeStub(board.ram, forgets=1) as stub:
        program.load(artifact, {"port": board.port, "probe": stub.address, **QUICK})
        program.run_many(samples)
        assert board.asked.count("batch") == 2
        stub.forgets = 999
        board.ram[:] = bytes(4096)
        with pytest.raises(WrongAnswer, match="not those sent"):
            program.run_many(samples)


def test_results_other_than_the_board_computed_are_refused(
    program: ModuleType, artifact: str, samples: dict[str, Any]
) -> None:
    with FakeBoard(info=info(4096)) as board, FakeStub(bytearray(4096)) as stub:
        program.load(artifact, {"port": board.port, "probe": stub.address, **QUICK})
        stub.memory[: 7 * 72] = bytes(7 * 72)

        def anything(_: bytes) -> tuple[int, bytes]:
            return 0, (512).to_bytes(4, "little") + (504).to_bytes(4, "little") + bytes(4)

        board.on_batch = anything  # type: ignore[method-assign]
        with pytest.raises(WrongAnswer, match="outputs read have CRC"):
            program.run_many(samples)


def test_a_board_that_starts_over_in_a_batch_does_it_again(
    program: ModuleType, artifact: str, samples: dict[str, Any]
) -> None:
    with (
        FakeBoard(info=info(4096), resets={"batch": 1}) as board,
        FakeStub(board.ram) as stub,
    ):
        program.load(artifact, {"port": board.port, "probe": stub.address, **QUICK})
        found = program.run_many(samples)
        assert found["next"].shape == (7, 2, 3)
        assert program.facts()["sessions_lost"] == 1


def test_damaged_and_unasked_replies_do_no_harm() -> None:
    memory = bytearray(1000)
    data = bytes(range(256)) * 3
    with FakeStub(memory, damages={1, 4, 9}, chatty=True) as stub:
        with Probe(stub.address, 1) as probe:
            probe.write(ADDRESS + 5, data)
            assert probe.read(ADDRESS + 5, len(data)) == data
        assert memory[5 : 5 + len(data)] == data
        # 128 bytes a packet, less what stands around the digits
        assert max(map(len, stub.packets)) <= 128
        assert stub.packets[-1] == b"D"


def test_what_goes_wrong_with_a_probe_is_named() -> None:
    with (
        FakeStub(bytearray(100)) as stub,
        pytest.raises(WrongAnswer, match=r"wrote nothing to 0x3c000040: 'E14'"),
        Probe(stub.address, 1) as probe,
    ):
        probe.write(ADDRESS + 64, bytes(64))
    assert stub.packets[-1] == b"D"
    with (
        FakeStub(bytearray(100)) as stub,
        pytest.raises(WrongAnswer, match="read nothing at 0x0"),
        Probe(stub.address, 1) as probe,
    ):
        probe.read(0, 4)
    with (
        FakeStub(bytearray(), mute=True) as stub,
        pytest.raises(Stalled, match="no whole reply to qSupported"),
        Probe(stub.address, 0.1),
    ):
        pytest.fail("it spoke")
    with (
        pytest.raises(Missing, match=r"no gdb stub answers at 127.0.0.1:1") as caught,
        Probe("127.0.0.1:1", 1),
    ):
        pytest.fail("somebody answered")
    assert "drop option probe" in caught.value.hint


@pytest.mark.parametrize("emulator", MACHINES)
def test_an_emulators_memory_is_written_and_read(emulator: str) -> None:
    found = shutil.which(emulator)
    if found is None:
        pytest.skip(f"{emulator} is not installed")
    arguments, address = MACHINES[emulator]
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    command = [found, *arguments, "-display", "none", "-monitor", "none", "-serial", "none"]
    command += ["-icount", "shift=0,sleep=off", "-gdb", f"tcp:127.0.0.1:{number}"]
    data = np.random.default_rng(1).bytes(300_000)
    with subprocess.Popen(command) as process:
        try:
            for _ in range(100):
                with socket.socket() as trial:
                    if trial.connect_ex(("127.0.0.1", number)) == 0:
                        break
                time.sleep(0.05)
            with Probe(f"127.0.0.1:{number}", 10) as probe:
                probe.write(address + 3, data)
            with Probe(f"127.0.0.1:{number}", 10) as probe:
                assert probe.read(address + 3, len(data)) == data
        finally:
            process.kill()
