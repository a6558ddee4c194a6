"""The program for boards on a serial line: what it makes of a model, and of a board's answers."""

import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from esp_line import BadInput, Refused, Unsupported, WrongAnswer
from fake_board import LAYOUT, FakeBoard, computed, write_espdl

QUICK = {"timeout_s": 0.3, "retries": 2}


@pytest.fixture
def program(tiny: ModuleType) -> Iterator[ModuleType]:
    module = tiny.program("profilers/runtime", "esp_serial")
    yield module
    module.close()


@pytest.fixture
def artifact(tmp_path: Path) -> str:
    metadata = {"mlperf": "ic01", "edgedeploy": json.dumps(LAYOUT), "other": ""}
    return str(write_espdl(tmp_path / "model.espdl", metadata))


@pytest.fixture
def inputs() -> dict[str, Any]:
    draw = np.random.default_rng(5)
    return {
        "image": draw.uniform(-5, 5, (1, 3, 4, 5)).astype(np.float32),
        "state": draw.uniform(-9, 9, (1, 6)).astype(np.float32),
    }


def expected(inputs: dict[str, Any]) -> dict[str, Any]:
    """What the fake model answers, worked out apart from the program."""
    image = np.floor(inputs["image"].astype(float) * 32 + 0.5).clip(-128, 127)
    state = np.floor(inputs["state"].astype(float) * 256 + 0.5).clip(-32768, 32767)
    held = np.moveaxis(image, 1, 3).astype("i1").tobytes() + state.astype("<i2").tobytes()
    found = computed(held)
    picture = np.frombuffer(found[:60], "i1").reshape(1, 4, 5, 3) / 8
    return {
        "picture": np.moveaxis(picture, 3, 1).astype(np.float32),
        "next": (np.frombuffer(found[60:], "<i2") / 64).reshape(2, 3).astype(np.float32),
    }


def same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return set(found) == set(wanted) and all(
        found[name].dtype == value.dtype and np.array_equal(found[name], value)
        for name, value in wanted.items()
    )


def test_a_model_runs_under_its_own_names_and_axes(
    program: ModuleType, artifact: str, inputs: dict[str, Any]
) -> None:
    data = Path(artifact).read_bytes()
    with FakeBoard(data) as board:
        options = {"port": board.port, **QUICK}
        hashed = program.artifact_sha256(artifact, options)
        assert hashed == {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        answer = program.load(artifact, options)
        assert answer["inputs"] == [
            {"name": "image", "dtype": "float32", "shape": [1, 3, 4, 5]},
            {"name": "state", "dtype": "float32", "shape": [1, 6]},
        ]
        assert [each["name"] for each in answer["outputs"]] == ["picture", "next"]
        assert answer["options"] == {**program.DEFAULTS, **options}
        assert same(program.run(inputs), expected(inputs))
        assert board.asked.count("hello") == 1


def test_many_are_each_the_same_as_alone(
    program: ModuleType, artifact: str, inputs: dict[str, Any]
) -> None:
    draw = np.random.default_rng(6)
    samples = {
        name: draw.uniform(-9, 9, (5, *value.shape)).astype(np.float32)
        for name, value in inputs.items()
    }
    with FakeBoard() as board:
        program.load(artifact, {"port": board.port, **QUICK})
        found = program.run_many(samples)
        for index in range(5):
            wanted = expected({name: values[index] for name, values in samples.items()})
            assert same({name: values[index] for name, values in found.items()}, wanted)
        none = program.run_many({name: values[:0] for name, values in samples.items()})
        assert {name: values.shape for name, values in none.items()} == {
            "picture": (0, 1, 3, 4, 5),
            "next": (0, 2, 3),
        }


def test_a_board_times_itself_in_runs_of_what_it_keeps(
    program: ModuleType, artifact: str, inputs: dict[str, Any]
) -> None:
    with FakeBoard() as board:
        program.load(artifact, {"port": board.port, **QUICK})
        assert program.timed(inputs, 3, 20) == {
            "clock": "device",
            "latency_s": [0.001] * 20,
            "cycles": [240_017] * 20,
            "instructions": None,
            "notes": [],
        }
        assert board.asked.count("run") == 3
        assert board.asked.count("write") == 3  # the inputs went there once, in parts of 59 bytes
        assert board.warm_up == 1
        assert program.layers(inputs, 4) == [
            {"name": "/first/Conv", "op": "Conv", "cycles": 1000.0, "time_s": 1000 / 240e6},
            {"name": "/last/Gemm", "op": "Gemm", "cycles": 500.0, "time_s": 500 / 240e6},
        ]


def test_a_virtual_board_has_instructions_and_no_time(
    program: ModuleType, artifact: str, inputs: dict[str, Any]
) -> None:
    info = {"virtual": True, "tick_unit": "instructions", "clock_hz": 0}
    with FakeBoard(info=info) as board:
        program.load(artifact, {"port": board.port, **QUICK})
        answer = program.timed(inputs, 0, 3)
        assert answer["instructions"] == [240_017] * 3
        assert answer["latency_s"] is answer["cycles"] is None
        assert program.layers(inputs, 2)[0] == {
            "name": "/first/Conv",
            "op": "Conv",
            "instructions": 1000.0,
        }
        facts = program.facts()
        assert facts["clock_hz"] is None
        assert facts["virtual"] is True


def test_memory_facts_and_self_test_say_what_the_board_says(
    program: ModuleType, artifact: str, inputs: dict[str, Any]
) -> None:
    assert program.facts() == program.probe()
    with FakeBoard() as board:
        program.load(artifact, {"port": board.port, **QUICK})
        assert program.memory() == {
            "flash_model": 5_000,
            "parameters": 4_000,
            "unpacked_weights": 100,
            "sram_arena": 2_000,
            "psram_arena": 0,
            "largest_tensor": 1_500,
            "sram_total": 320_000,
            "psram_total": 8_000_000,
            "flash_code": 60_000,
            "static": 9_000,
        }
        facts = program.facts()
        assert facts["tools"] == {
            **program.probe()["tools"],
            "firmware": "edgedeploy 9.9",
            "engine": "fake 1",
        }
        assert (facts["board"], facts["clock_hz"]) == ("fake", 240_000_000)
        program.run(inputs)
        vectors = program.self_test()
        assert vectors == {
            "vectors": 2,
            "failed": 1,
            "values": 66,
            "different": 3,
            "first_bad": 17,
            "expected": -5,
            "found": 12,
        }
        # the test has overwritten the inputs
        assert same(program.run(inputs), expected(inputs))


TESTED = {"vectors": 2, "failed": 1, "values": 66, "different": 3}
NONE = dict.fromkeys(TESTED, 0)


def test_a_load_tests_the_board_once_and_facts_tell_it(
    program: ModuleType, artifact: str, inputs: dict[str, Any]
) -> None:
    with FakeBoard() as board:
        options = {"port": board.port, **QUICK}
        program.artifact_sha256(artifact, options)
        assert "self_test" not in program.facts()
        program.load(artifact, options)
        assert program.facts()["self_test"] == TESTED
        assert board.asked[-1] == "self_test"
        board.resets = {"run": 1}
        assert same(program.run(inputs), expected(inputs))
        assert board.asked.count("load") == 2
        assert board.asked.count("self_test") == 1
        board.refuses = "the model file is damaged: its nodes"
        with pytest.raises(BadInput, match="damaged"):
            program.load(artifact, options)
        assert "self_test" not in program.facts()


@pytest.mark.parametrize(
    ("status", "payload", "note"),
    [
        (0, bytes(24), "the model has no embedded vectors"),
        (5, b"esp-dl cannot test a model of two inputs", "esp-dl cannot test a model of two"),
    ],
)
def test_a_self_test_that_cannot_be_run_is_told(
    program: ModuleType, artifact: str, status: int, payload: bytes, note: str
) -> None:
    with FakeBoard() as board:
        board.on_self_test = lambda _: (status, payload)  # type: ignore[method-assign]
        program.load(artifact, {"port": board.port, **QUICK})
        found = program.facts()["self_test"]
        assert found.pop("note").startswith(note)
        assert found == NONE


def test_a_self_test_without_an_end_is_told(
    program: ModuleType, artifact: str, inputs: dict[str, Any]
) -> None:
    with FakeBoard(stalls={"self_test": 3}) as board:
        program.load(artifact, {"port": board.port, **QUICK})
        found = program.facts()["self_test"]
        assert "gave no answer to self-test in 3 tries" in found.pop("note")
        assert found == NONE
        assert same(program.run(inputs), expected(inputs))


def test_another_board_is_refused(program: ModuleType, artifact: str) -> None:
    with FakeBoard(info={"board": "ESP32S3 rev 2"}) as board:
        options = {"port": board.port, **QUICK}
        for name in ("", "esp32s3", "ESP32S3 rev 2"):
            program.load(artifact, {**options, "board": name})
        board.asked.clear()
        for name in ("esp32p4", "esp32s3 rev 2a"):
            for call in (program.load, program.artifact_sha256):
                with pytest.raises(BadInput, match="says it is 'ESP32S3 rev 2'") as caught:
                    call(artifact, {**options, "board": name})
                assert f"expected '{name}'" in str(caught.value)
                assert "port" in caught.value.hint
        assert set(board.asked) == {"hello", "info"}


def test_bind_runs_what_it_was_given(
    program: ModuleType, artifact: str, inputs: dict[str, Any]
) -> None:
    with FakeBoard() as board:
        program.load(artifact, {"port": board.port, **QUICK})
        call = program.bind(inputs)
        assert (call(), call()) == (zlib.crc32(board.outputs),) * 2
        assert board.asked.count("write") == 3


@pytest.mark.parametrize(
    ("reason", "kind", "hint"),
    [
        ("operator GridSample of node /warp is not in this engine", Unsupported, "Change the"),
        ("Conv /c has 4 groups; this engine runs 1, or 1 a channel", Unsupported, "Change the"),
        ("the model does not fit: weights and tables need 9 more", Unsupported, "smaller"),
        ("esp-dl has no memory for tensor x", Unsupported, "smaller"),
        ("the model file is damaged: its nodes", BadInput, "deploy it again"),
        ("no model here: a file that begins with EDL2 is expected", BadInput, "deploy it again"),
    ],
)
def test_a_refused_model_is_unsupported_or_wrong_by_its_reason(
    program: ModuleType, artifact: str, reason: str, kind: type[Exception], hint: str
) -> None:
    with FakeBoard(refuses=reason) as board, pytest.raises(kind, match=reason) as caught:
        program.load(artifact, {"port": board.port, **QUICK})
    assert hint in caught.value.hint


def test_inputs_that_memory_loses_are_sent_again(
    program: ModuleType, artifact: str, inputs: dict[str, Any]
) -> None:
    with FakeBoard(forgets=2) as board:
        program.load(artifact, {"port": board.port, **QUICK})
        assert same(program.run(inputs), expected(inputs))
        board.forgets = 99
        with pytest.raises(WrongAnswer, match="not those sent"):
            program.run(inputs)


def test_other_outputs_in_a_later_run_are_no_timing(
    program: ModuleType, artifact: str, inputs: dict[str, Any]
) -> None:
    with FakeBoard(miscomputes=2) as board:
        program.load(artifact, {"port": board.port, **QUICK})
        with pytest.raises(WrongAnswer, match="other outputs in a later run"):
            program.timed(inputs, 0, 20)


def test_another_request_refused_says_which(
    program: ModuleType, artifact: str, inputs: dict[str, Any]
) -> None:
    with FakeBoard() as board:
        program.load(artifact, {"port": board.port, **QUICK})
        board.loaded = False
        with pytest.raises(Refused, match=r"refused run \(status 3\): no model") as caught:
            program.run(inputs)
        assert "flash" in caught.value.hint


def test_a_model_that_is_not_the_artifacts_is_not_run(
    program: ModuleType, tmp_path: Path, inputs: dict[str, Any]
) -> None:
    wrong: list[tuple[str, Any]] = [
        ("inputs", LAYOUT["inputs"][:1]),
        ("inputs", [{**LAYOUT["inputs"][0], "shape": [1, 3, 5, 4]}, LAYOUT["inputs"][1]]),
        ("outputs", [LAYOUT["outputs"][0], {**LAYOUT["outputs"][1], "shape": [7]}]),
        ("outputs", [{**LAYOUT["outputs"][0], "perm": [0, 2, 2, 1]}, LAYOUT["outputs"][1]]),
    ]
    with FakeBoard() as board:
        for side, rows in wrong:
            metadata = {"edgedeploy": json.dumps({**LAYOUT, side: rows})}
            path = write_espdl(tmp_path / "other.espdl", metadata)
            with pytest.raises(BadInput, match="the board") as caught:
                program.load(str(path), {"port": board.port, **QUICK})
            assert "deploy this one" in caught.value.hint
            with pytest.raises(BadInput, match="no artifact is loaded"):
                program.run(inputs)


def test_tensors_in_another_order_are_not_run(program: ModuleType, artifact: str) -> None:
    with FakeBoard() as board:
        board.names[0] = ["a", "b"]  # of another exporter, and no matter
        program.load(artifact, {"port": board.port, **QUICK})
        board.names[1] = ["next", "picture"]
        with pytest.raises(BadInput, match=r"\('picture', 'next'\) in the order"):
            program.load(artifact, {"port": board.port, **QUICK})


def test_wrong_inputs_are_refused_before_anything_is_sent(
    program: ModuleType, artifact: str, inputs: dict[str, Any]
) -> None:
    image, state = inputs["image"], inputs["state"]
    with FakeBoard() as board:
        program.load(artifact, {"port": board.port, **QUICK})
        asked = len(board.asked)
        for given_, message in [
            ({"image": image}, "the model's are"),
            ({"image": image, "state": state.astype(float)}, "is float64"),
            ({"image": image[:, :2], "state": state}, "expected float32"),
            ({"image": image * np.nan, "state": state}, "no numbers"),
        ]:
            with pytest.raises(BadInput, match=message):
                program.run(given_)
        with pytest.raises(BadInput, match="samples are"):
            program.run_many({"image": np.stack([image] * 2), "state": state[None]})
        assert len(board.asked) == asked


def test_options_are_checked(program: ModuleType, artifact: str) -> None:
    for options, message in [
        ({}, "option port is not set"),
        ({"port": "x", "bauds": 1}, "'bauds' is not known"),
        ({"port": "x", "retries": -1}, "retries is -1"),
        ({"port": "x", "timeout_s": "1"}, "timeout_s is '1'"),
        ({"port": "x", "baud": True}, "baud is True"),
        ({"port": 3}, "port is 3"),
    ]:
        with pytest.raises(BadInput, match=message) as caught:
            program.load(artifact, options)
        assert caught.value.hint


def test_a_model_that_does_not_load_leaves_none_to_run(
    program: ModuleType, artifact: str, inputs: dict[str, Any]
) -> None:
    with FakeBoard() as board:
        program.load(artifact, {"port": board.port, **QUICK})
        board.refuses = "the model file is damaged: its nodes"
        with pytest.raises(BadInput, match="damaged"):
            program.load(artifact, {"port": board.port, **QUICK})
        with pytest.raises(BadInput, match="no artifact is loaded"):
            program.run(inputs)


def test_a_board_is_let_go_when_another_is_named(
    program: ModuleType, artifact: str, inputs: dict[str, Any]
) -> None:
    with FakeBoard() as first, FakeBoard() as second:
        program.load(artifact, {"port": first.port, **QUICK})
        program.load(artifact, {"port": second.port, **QUICK})
        assert program.state["board"].options["port"] == second.port
        program.load(artifact, {"port": first.port, **QUICK})
        assert first.asked.count("hello") == 2
        assert same(program.run(inputs), expected(inputs))
