"""Inferences of TensorRT's stand-ins: both majors and TensorRT-RTX, options, several at once."""

import threading
from pathlib import Path

import numpy as np
import pytest
import trt_standin
from trt_standin import Runner, artifact, calls, every_kind, expected, faults, machine, pictures

runner = trt_standin.runner
H2D, D2H = 1, 2


def copies(kind: int) -> int:
    """How many copies of a direction were queued since the calls were cleared."""
    return sum(each[4] == kind for each in calls("cudaMemcpyAsync"))


def clear() -> None:
    machine().calls.clear()


@every_kind
def test_load_describes_tensors_and_options(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    answer = trt.load(artifact(tmp_path / "net", kind), {"spin": "block"})
    assert answer["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 3, 8, 8]}]
    assert answer["outputs"] == [
        {"name": "y", "dtype": "float32", "shape": [1, 4, 8, 8]},
        {"name": "z", "dtype": "float32", "shape": [1, 4]},
    ]
    assert answer["options"] == {
        "device": 0,
        "cuda_graph": False,
        "transfers": True,
        "spin": "block",
    }


@every_kind
def test_outputs_are_onnx_runtimes_whatever_the_options(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    path = artifact(tmp_path / "net", kind) + "/model.engine"
    x = pictures(3)
    wanted = expected(x)
    for options in ({}, {"cuda_graph": True, "transfers": False, "spin": "block"}):
        trt.load(path, options)
        found = [trt.run({"x": each[None]}) for each in x]
        for name, value in wanted.items():
            assert np.array_equal(np.concatenate([each[name] for each in found]), value)


@every_kind
def test_a_bound_call_copies_runs_and_waits(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    trt.load(artifact(tmp_path / "net", kind), {})
    x = pictures()
    call = trt.bind({"x": x})
    clear()
    call()
    names = [each[0] for each in calls()]
    assert names == [
        "cudaMemcpyAsync",
        "execute_async_v3",
        "cudaMemcpyAsync",
        "cudaMemcpyAsync",
        "cudaStreamSynchronize",
    ]
    assert (copies(H2D), copies(D2H)) == (1, 2)
    slot = trt.program.first().slots[-1]
    assert np.array_equal(slot.buffers["z"].array, expected(x)["z"])


@every_kind
def test_without_transfers_tensors_stay_on_the_card(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    trt.load(artifact(tmp_path / "net", kind), {"transfers": False})
    call = trt.bind({"x": pictures()})
    clear()
    call()
    assert [each[0] for each in calls()] == ["execute_async_v3", "cudaStreamSynchronize"]
    assert "without copies" in trt.facts()["latency_scope"]
    assert trt.facts()["transfers"] is False


@every_kind
def test_a_cuda_graph_is_captured_once_and_launched(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    trt.load(artifact(tmp_path / "net", kind), {"cuda_graph": True})
    clear()
    x = pictures()
    call = trt.bind({"x": x})
    assert len(calls("cudaStreamBeginCapture")) == 1
    assert int(calls("cudaStreamBeginCapture")[0][2]) == 1  # other threads are left alone
    slot = trt.program.first().slots[-1]
    slot.fill({"x": x * 2})
    clear()
    call()
    assert [each[0] for each in calls()] == ["cudaGraphLaunch", "cudaStreamSynchronize"]
    assert np.array_equal(slot.buffers["y"].array, expected(x * 2)["y"])
    assert "one CUDA graph" in trt.facts()["latency_scope"]


@every_kind
def test_how_the_host_waits_is_told_to_cuda(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    path = artifact(tmp_path / "net", kind)
    for spin, flag in (("spin", 1), ("block", 4)):
        clear()
        trt.load(path, {"spin": spin})
        assert calls("cudaSetDeviceFlags") == [("cudaSetDeviceFlags", flag)]
        assert trt.facts()["host_waits_by"] == spin


@every_kind
def test_several_in_flight_have_streams_and_buffers_of_their_own(
    runner: Runner, tmp_path: Path
) -> None:
    kind, trt = runner
    trt.load(artifact(tmp_path / "net", kind), {})
    x = pictures(4)
    starts = [trt.bind_async({"x": each[None]}) for each in x]
    slots = trt.program.first().slots[-4:]
    for slot in slots:
        slot.buffers["z"].array[:] = 0
    clear()
    waits = [start() for start in starts]
    assert not calls("cudaStreamSynchronize")
    assert not any(slot.buffers["z"].array.any() for slot in slots)
    assert len({each[1] for each in calls("execute_async_v3")}) == 4
    for wait in waits:
        wait()
    found = np.concatenate([slot.buffers["z"].array for slot in slots])
    assert np.array_equal(found, expected(x)["z"])


@every_kind
def test_bound_calls_run_in_threads(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    trt.load(artifact(tmp_path / "net", kind), {})
    x = pictures(3)
    bound = [trt.bind({"x": each[None]}) for each in x]
    slots = trt.program.first().slots[-3:]
    for slot in slots:
        slot.buffers["y"].array[:] = 0
    threads = [threading.Thread(target=lambda c=c: [c() for _ in range(5)]) for c in bound]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    found = np.concatenate([slot.buffers["y"].array for slot in slots])
    assert np.array_equal(found, expected(x)["y"])


@every_kind
def test_a_thread_takes_the_card_that_is_not_the_first(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    trt_standin.gpu(count=2)
    trt.load(artifact(tmp_path / "net", kind), {"device": 1, "cuda_graph": True})
    call = trt.bind({"x": pictures()})
    clear()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            call()
            call()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert not errors
    # start and wait each make sure of it, once a thread
    assert calls("cudaSetDevice") == [("cudaSetDevice", 1)] * 2
    assert trt.facts()["device_index"] == 1


@every_kind
def test_device_times_are_those_of_events_around_one_inference(
    runner: Runner, tmp_path: Path
) -> None:
    kind, trt = runner
    trt_standin.gpu(latency_s=0.002)
    trt.load(artifact(tmp_path / "net", kind), {"spin": "block"})
    slots = len(trt.program.first().slots)
    clear()
    answer = trt.device_times({"x": pictures()}, 5)
    assert answer["clock"] == "cuda-events"
    assert len(answer["latency_s"]) == len(answer["enqueue_s"]) == 5
    # two were queued, the events enclose the second alone
    assert all(0.002 <= seconds < 0.004 for seconds in sorted(answer["latency_s"])[:3])
    assert answer["scope"].startswith("copies and inference, between two events")
    assert answer["notes"] == []
    assert calls("cudaEventCreateWithFlags") == [("cudaEventCreateWithFlags", 1)] * 2
    assert len(calls("cudaEventDestroy")) == 2
    assert len(trt.program.first().slots) == slots


@pytest.mark.parametrize("runner", ["trt-10"], indirect=True)
def test_a_host_that_queues_slowly_is_told(runner: Runner) -> None:
    from trt_run_options import host_bound

    options = {"cuda_graph": False}
    assert runner[0] == "trt-10"
    assert host_bound([1e-3] * 3, [5e-4] * 3, options) == []
    (note,) = host_bound([2e-4] * 3, [1.9e-4] * 3, options)
    assert note.startswith("the host takes 190 µs to queue an inference that takes 200 µs")
    assert note.endswith("try run option cuda_graph = true")
    assert host_bound([], [], options) == []


@pytest.mark.parametrize("runner", ["trt-10", "trt-11"], indirect=True)
def test_layers_come_from_a_context_of_their_own(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    trt.load(artifact(tmp_path / "net", kind), {"cuda_graph": True})
    bound = trt.bind({"x": pictures()})
    clear()
    found = trt.layers({"x": pictures()}, 4)
    assert [(each["name"], each["op"]) for each in found] == [
        ("conv + relu", "CaskConvolution"),
        ("mean", "Reduce"),
    ]
    assert all(0 < each["time_s"] < 1 for each in found)
    assert len(calls("create_execution_context")) == len(calls("~IExecutionContext")) == 1
    assert not calls("cudaGraphLaunch")
    bound()


@pytest.mark.parametrize("runner", ["trt-10"], indirect=True)
def test_layers_of_an_engine_that_tells_only_names(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    path = artifact(tmp_path / "net", kind, profiling_verbosity="LAYER_NAMES_ONLY")
    trt.load(path, {})
    found = trt.layers({"x": pictures()}, 2)
    assert [(each["name"], each["op"]) for each in found] == [("conv + relu", ""), ("mean", "")]


@pytest.mark.parametrize("runner", ["rtx"], indirect=True)
def test_a_library_that_reports_no_layers_is_said_to(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    trt.load(artifact(tmp_path / "net", kind), {})
    with pytest.raises(faults.Unsupported, match=r"TensorRT-RTX 1\.7\.1\.116\S* reported no times"):
        trt.layers({"x": pictures()}, 2)
    assert calls("kernel_specialization")[0] == ("kernel_specialization", "EAGER")


@every_kind
def test_memory_is_the_engines_and_what_the_card_lost(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    trt.load(artifact(tmp_path / "net", kind), {})
    found = trt.memory()
    assert found["device_activations"] == 1_000_000
    assert found.get("device_weights") == (None if kind == "trt-10" else 50_000)
    # weights, activations, and buffers of 768, 1024 and 16 bytes in grains of 512
    assert found["device_delta"] == 50_000 + 1_000_000 + 1024 + 1024 + 512
    trt.bind({"x": pictures()})
    assert trt.memory() == found


@every_kind
def test_facts_are_versions_card_and_options(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    trt_standin.gpu(clock_hz=1_500_000_000, ecc=True, integrated=True)
    versions = {
        "trt-10": {"tensorrt": "10.3.0+standin", "cuda-python": "12.9.4+standin"},
        "trt-11": {"tensorrt": "11.4.0+standin", "cuda-python": "13.0.3+standin"},
        "rtx": {"tensorrt-rtx": "1.7.1.116+standin", "cuda-python": "13.0.3+standin"},
    }[kind]
    assert trt.probe() == {"tools": versions}
    assert trt.facts() == {"tools": versions, "virtual": True}
    trt.load(artifact(tmp_path / "net", kind), {})
    found = trt.facts()
    assert found["virtual"] is True
    assert found["tools"] == versions
    assert found["device"] == "NVIDIA H200 (stand-in)"
    assert found["compute_capability"] == "9.0"
    assert found["engine_compute_capability"] == ["9.0"]
    assert (found["ecc"], found["integrated"], found["mig"]) == (True, True, False)
    assert found["device_clock_max_hz"] == 1_500_000_000
    assert found["cuda_driver"] == "13.0"
    assert found["cuda_runtime"] == {"trt-10": "12.9"}.get(kind, "13.0")
    assert found["bus_id"] == "0000:01:00.0"
    assert found["precision"] == "fp32"
    assert found["layers"] == 2
    assert found["driver"] is None  # the stand-in's is none of this machine's
    assert any("shares the memory of its CPU" in note for note in found["notes"])


@every_kind
def test_models_beside_each_other_share_the_card(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    trt.load(artifact(tmp_path / "net", kind), {"spin": "block"})
    answer = trt.beside(artifact(tmp_path / "other", kind, seed=5), {"transfers": True})
    assert answer["options"]["spin"] == "block"
    x = pictures()
    bound = [trt.bind({"x": x}), trt.bind_beside(0, {"x": x})]
    for call in bound:
        call()
    first, other = trt.program.models
    assert np.array_equal(first.slots[-1].buffers["y"].array, expected(x)["y"])
    assert np.array_equal(other.slots[-1].buffers["y"].array, expected(x, seed=5)["y"])
    with pytest.raises(
        faults.BadInput, match="there is no model 1 beside the first, 1 were loaded so"
    ):
        trt.bind_beside(1, {"x": x})
    with pytest.raises(faults.BadInput, match="spin is 'spin', the first model's is 'block'"):
        trt.beside(str(tmp_path / "other"), {"spin": "spin"})


@every_kind
def test_everything_is_given_back_in_order(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    trt.load(artifact(tmp_path / "net", kind), {"cuda_graph": True})
    call = trt.bind({"x": pictures()})
    trt.device_times({"x": pictures()}, 2)
    clear()
    trt.close()
    names = [each[0] for each in calls()]
    wanted = ["cudaGraphExecDestroy", "cudaGraphDestroy", "~IExecutionContext"]
    wanted += ["cudaStreamDestroy", "cudaFree", "~ICudaEngine", "~Runtime"]
    assert [names.index(name, names.index("cudaGraphExecDestroy")) for name in wanted] == sorted(
        names.index(name, names.index("cudaGraphExecDestroy")) for name in wanted
    )
    assert names[-2:] == ["~ICudaEngine", "~Runtime"]
    state = machine()
    assert not state.handles
    assert not state.device_blocks
    assert not state.pinned_blocks
    assert set(state.taken.values()) == {0}
    with pytest.raises(faults.BadInput, match="what was bound is gone"):
        call()
    with pytest.raises(faults.BadInput, match="no artifact is loaded"):
        trt.run({"x": pictures()})


@every_kind
def test_a_dynamic_batch_runs_within_its_profile(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    answer = trt.load(artifact(tmp_path / "net", kind, batch=4), {})
    assert answer["inputs"][0]["shape"] == ["x_0", 3, 8, 8]
    for count in (1, 4, 3):
        x = pictures(count)
        found = trt.run({"x": x})
        assert np.array_equal(found["y"], expected(x)["y"])
    assert len(trt.program.first().slots) == 1
    call = trt.bind({"x": pictures(4)})
    call()
    assert trt.program.first().slots[-1].buffers["z"].array.shape == (4, 4)
    with pytest.raises(
        faults.BadInput, match=r"\(5, 3, 8, 8\).*its profile from \(1, 3, 8, 8\) to \(4"
    ):
        trt.run({"x": pictures(5)})
