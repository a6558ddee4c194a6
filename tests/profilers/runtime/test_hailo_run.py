"""Inferences on the stand-in's chip: numbers, several in flight, several models, letting go."""

import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import hailo_artifacts
import numpy as np
import pytest
from hailo_artifacts import artifact, chips, expected, free, pictures
from hailort_faults import BadInput, Failed, TimedOut, Unsupported
from numpy.testing import assert_allclose

board, hailo = hailo_artifacts.board, hailo_artifacts.hailo


@pytest.fixture
def loaded(hailo: ModuleType, tmp_path: Path) -> ModuleType:
    hailo.load(artifact(tmp_path / "net"), {})
    return hailo


def same(found: dict[str, Any], wanted: dict[str, Any], place: Any = slice(None)) -> None:
    """Outputs equal but for the last bit of a float that was computed in another order."""
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name].shape == value[place].shape
        assert found[name].dtype == value.dtype
        assert_allclose(found[name], value[place], rtol=1e-5, atol=1e-5)


def test_load_describes_the_model_by_its_own_names(hailo: ModuleType, tmp_path: Path) -> None:
    answer = hailo.load(artifact(tmp_path / "net") + "/model.hef", {"batch_size": 4})
    assert answer["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 3, 8, 8]}]
    assert answer["outputs"] == [
        {"name": "y", "dtype": "float32", "shape": [1, 4, 8, 8]},
        {"name": "z", "dtype": "float32", "shape": [1, 5]},
    ]
    assert answer["options"] == {
        "batch_size": 4,
        "power_mode": "performance",
        "timeout_ms": 10000,
        "device_id": "",
    }


def test_one_inference_and_many_give_the_models_outputs(loaded: ModuleType) -> None:
    _, x = pictures(20)
    wanted = expected(x)
    same(loaded.run({"x": x[3]}), wanted, 3)
    same(loaded.run({"x": x[4]}), wanted, 4)
    same(loaded.run_many({"x": x}), wanted)
    assert loaded.run_many({"x": x[:0]})["z"].shape == (0, 1, 5)


def test_outputs_are_not_overwritten_by_the_next_inference(loaded: ModuleType) -> None:
    _, x = pictures(2)
    first = loaded.run({"x": x[0]})
    kept = {name: value.copy() for name, value in first.items()}
    loaded.run({"x": x[1]})
    assert all(np.array_equal(first[name], kept[name]) for name in kept)


def test_a_bound_call_runs_one_inference_on_its_own_buffers(loaded: ModuleType) -> None:
    _, x = pictures(2)
    calls = [loaded.bind({"x": each}) for each in x]
    for call in calls:
        call()
    slots = loaded.current().models[0].slots
    found = [loaded.first().manifest.outcome(slot.outputs()) for slot in slots]
    wanted = expected(x)
    for place, outputs in enumerate(found):
        same(outputs, wanted, place)


def test_more_in_flight_than_the_queue_holds_wait_for_a_place(
    loaded: ModuleType, board: Path
) -> None:
    assert loaded.facts()["async_queue_size"] == 8
    _, x = pictures(30)
    waits = [loaded.bind_async({"x": each})() for each in x]
    for wait in waits:
        wait()
    slots = loaded.current().models[0].slots
    found = [loaded.first().manifest.outcome(slot.outputs()) for slot in slots]
    wanted = expected(x)
    for place, outputs in enumerate(found):
        same(outputs, wanted, place)


def test_two_models_take_turns_on_one_chip(loaded: ModuleType, tmp_path: Path) -> None:
    answer = loaded.beside(artifact(tmp_path / "other", "other", seed=5), {})
    assert answer["outputs"][1] == {"name": "z", "dtype": "float32", "shape": [1, 5]}
    _, x = pictures(2)
    calls = [loaded.bind({"x": x[0]}), loaded.bind_beside(0, {"x": x[1]})]
    threads = [threading.Thread(target=lambda c=call: [c() for _ in range(20)]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    models = loaded.current().models
    found = [model.manifest.outcome(model.slots[0].outputs()) for model in models]
    same(found[0], expected(x), 0)
    same(found[1], expected(x, seed=5), 1)
    assert loaded.facts()["models"] == ["net", "other"]


def test_places_beside_are_counted_and_options_checked(loaded: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no model 0 beside the first, 0 were loaded"):
        loaded.bind_beside(0, {})
    with pytest.raises(BadInput, match=r"device_id '0000:09:00.0' is not '0000:01:00.0'"):
        loaded.beside(str(tmp_path), {"device_id": "0000:09:00.0"})


def test_the_chip_named_is_the_one_taken_with_the_scheduler(
    hailo: ModuleType, board: Path, tmp_path: Path
) -> None:
    chips(board, devices=[{}, {"serial_number": "SECOND"}])
    hailo.load(artifact(tmp_path / "net"), {"device_id": "0000:02:00.0"})
    assert hailo.facts()["serial_number"] == "SECOND"
    assert free(board)  # the first chip
    hailo.beside(artifact(tmp_path / "other", "other"), {})
    _, x = pictures(1)
    hailo.bind_beside(0, {"x": x[0]})()


def test_where_the_first_chip_is_in_use_the_free_one_is_taken_and_told(
    hailo: ModuleType, board: Path, tmp_path: Path
) -> None:
    second = {"serial_number": "SECOND", "architecture": "HAILO8L"}
    chips(board, devices=[{"busy": True}, second])
    with pytest.raises(BadInput, match="the HEF is compiled for hailo8, the chip here is hailo8l"):
        hailo.load(artifact(tmp_path / "net"), {})
    hailo.load(artifact(tmp_path / "small", hw_arch="hailo8l"), {})
    facts = hailo.facts()
    assert (facts["serial_number"], facts["device_id"]) == ("SECOND", "0000:02:00.0")
    assert facts["notes"] == []


def test_power_mode_and_batch_reach_the_model(
    hailo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hailo.probe()
    kind = sys.modules["hailo_platform.pyhailort.infer_model"].InferModel
    told: list[Any] = []
    for name in ("set_power_mode", "set_batch_size"):
        original = getattr(kind, name)

        def noted(model: Any, value: Any, original: Any = original) -> None:
            told.append(getattr(value, "name", value))
            original(model, value)

        monkeypatch.setattr(kind, name, noted)
    hailo.load(artifact(tmp_path / "net"), {"power_mode": "ultra_performance", "batch_size": 8})
    assert told == [8, "ULTRA_PERFORMANCE"]


def test_a_batch_beyond_the_queue_is_refused_and_the_chip_left_free(
    hailo: ModuleType, board: Path, tmp_path: Path
) -> None:
    with pytest.raises(Failed, match=r"loading .*model\.hef: HailoRT refused it") as caught:
        hailo.load(artifact(tmp_path / "net"), {"batch_size": 9})
    assert "batch_size above its queue's size" in caught.value.hint
    assert free(board)


def test_facts_tell_versions_identity_and_sensors(
    hailo: ModuleType, board: Path, tmp_path: Path
) -> None:
    assert hailo.facts() == {"tools": {"hailort": "4.23.0+standin"}, "virtual": True}
    chips(board, temperature_c=61.5, throttling_enabled=False)
    hailo.load(artifact(tmp_path / "net"), {})
    facts = hailo.facts()
    assert facts["tools"] == {
        "hailort": "4.23.0+standin",
        "hailo-firmware": "4.23.0",
        "hailo-dataflow-compiler": "3.33.0",
    }
    assert facts["virtual"] is True
    assert facts["architecture"] == "hailo8"
    assert facts["serial_number"] == "STAND-IN-0001"
    assert facts["device"] == "HAILO-8 STAND-IN M.2 MODULE, MADE-UP FIGURES"
    assert facts["temperatures_c"] == {"chip ts0": 61.5, "chip ts1": 62.0}
    assert facts["chip_clock_hz"] == 400e6
    assert facts["chip_throttling_protection"] is False
    assert "clock_hz" not in facts
    assert "throttled" not in facts


def test_one_stand_in_among_the_tools_is_enough_to_be_told(hailo: ModuleType) -> None:
    assert hailo.virtual({"hailort": "4.23.0", "hailortcli": "4.23.0+standin"}) == {"virtual": True}
    assert hailo.virtual({"hailort": "4.23.0+local.1", "hailortcli": "4.23.0"}) == {}


def test_a_clock_below_that_at_load_is_told_as_throttled(loaded: ModuleType, board: Path) -> None:
    chips(board, clock_hz=200_000_000)
    assert loaded.facts()["throttled"] == ["its core's clock is 200 MHz, 400 MHz when loaded"]


def test_a_program_for_the_smaller_chip_runs_on_the_larger_with_a_note(
    hailo: ModuleType, tmp_path: Path
) -> None:
    hailo.load(artifact(tmp_path / "net", hw_arch="hailo8l"), {})
    assert hailo.facts()["notes"] == [
        "compiled for hailo8l, run on hailo8: slower than compiled for hailo8"
    ]
    _, x = pictures(1)
    same(hailo.run({"x": x[0]}), expected(x), 0)


def test_closing_frees_the_chip_even_while_calls_are_kept(loaded: ModuleType, board: Path) -> None:
    _, x = pictures(1)
    call, start = loaded.bind({"x": x[0]}), loaded.bind_async({"x": x[0]})
    start()()
    assert not free(board)
    loaded.close()
    assert free(board)
    for late in (call, start):
        with pytest.raises(BadInput, match="the chip was let go since this was bound"):
            late()
    with pytest.raises(BadInput, match="no artifact is loaded"):
        loaded.run({"x": x[0]})


def test_loading_again_replaces_the_model_before(loaded: ModuleType, tmp_path: Path) -> None:
    loaded.load(artifact(tmp_path / "other", "other", seed=5), {})
    _, x = pictures(1)
    same(loaded.run({"x": x[0]}), expected(x, seed=5), 0)
    assert loaded.facts()["models"] == ["other"]


def test_letting_the_chip_go_for_a_while_takes_all_models_up_again(
    loaded: ModuleType, board: Path, tmp_path: Path
) -> None:
    loaded.beside(artifact(tmp_path / "other", "other", seed=5), {})
    assert loaded.current().without(lambda: free(board))
    assert not free(board)
    _, x = pictures(1)
    same(loaded.run({"x": x[0]}), expected(x), 0)
    loaded.bind_beside(0, {"x": x[0]})()

    def breaks() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        loaded.current().without(breaks)
    same(loaded.run({"x": x[0]}), expected(x), 0)


def test_a_chip_that_answers_too_late_is_told_with_what_to_do(
    hailo: ModuleType, board: Path, tmp_path: Path
) -> None:
    chips(board, latency_s=0.3)
    hailo.load(artifact(tmp_path / "net"), {"timeout_ms": 20})
    _, x = pictures(1)
    told = r"running the model: the chip did not answer in time \(status 4, HAILO_TIMEOUT\)"
    with pytest.raises(TimedOut, match=told) as caught:
        hailo.run({"x": x[0]})
    assert "Raise run option timeout_ms" in caught.value.hint


def test_an_inference_that_fails_on_the_chip_gives_no_numbers(
    loaded: ModuleType, board: Path
) -> None:
    _, x = pictures(3)
    call = loaded.bind({"x": x[0]})
    call()
    chips(board, infer_status=63)
    with pytest.raises(Failed, match=r"the chip went away while it ran .*HAILO_STREAM_ABORT"):
        loaded.run({"x": x[0]})
    with pytest.raises(Failed, match="HAILO_STREAM_ABORT"):
        call()
    with pytest.raises(Failed, match="HAILO_STREAM_ABORT"):
        loaded.run_many({"x": x})


def test_layers_are_not_timed_and_the_remedy_names_the_profiler(loaded: ModuleType) -> None:
    with pytest.raises(Unsupported, match="HailoRT does not time layers") as caught:
        loaded.layers({}, 1)
    assert "measure-fw-actions" in caught.value.hint
    assert loaded.memory() == {}


@pytest.mark.parametrize(
    ("options", "told", "hint"),
    [
        ({"batch": 4}, "option 'batch' is not known", "Did you mean 'batch_size'?"),
        ({"power_mode": "eco"}, "option power_mode is 'eco', expected one of", "run option"),
        ({"batch_size": 0}, "option batch_size is 0, expected a value like 1", "1 or more"),
        ({"timeout_ms": 1.5}, "option timeout_ms is 1.5, expected", "1 or more"),
        ({"device_id": 3}, "option device_id is 3, expected a value like ''", "is text"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    hailo: ModuleType, options: dict[str, Any], told: str, hint: str
) -> None:
    with pytest.raises(BadInput) as caught:
        hailo.load("nowhere", options)
    assert told in str(caught.value)
    assert hint in caught.value.hint


def test_samples_of_different_numbers_are_refused(loaded: ModuleType) -> None:
    with pytest.raises(BadInput, match=r"inputs have \[1, 2\] samples"):
        loaded.run_many({"x": np.zeros((2, 1)), "y": np.zeros((1, 1))})
