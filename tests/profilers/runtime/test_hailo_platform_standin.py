"""The stand-in for HailoRT: what it computes, and that it refuses what the real one refuses."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hailo_standin import FAKES, SHAPE, WEIGHTS, Array, State, forget, write_hef


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setenv("HAILO_STANDIN_STATE", str(tmp_path / "state"))
    return State(tmp_path / "state")


@pytest.fixture
def rt(state: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package, fresh, on a machine with one Hailo-8."""
    monkeypatch.syspath_prepend(str(FAKES))
    forget()
    import hailo_platform

    yield hailo_platform
    forget()


@pytest.fixture
def hef(tmp_path: Path) -> str:
    return write_hef(tmp_path / "tiny.hef")


def scheduled(rt: ModuleType) -> Any:
    params = rt.VDevice.create_params()
    params.scheduling_algorithm = rt.HailoSchedulingAlgorithm.ROUND_ROBIN
    return params


def floats(rt: ModuleType, device: Any, hef: str) -> Any:
    """An InferModel with float outputs."""
    model = device.create_infer_model(hef)
    for output in model.outputs:
        output.set_format_type(rt.FormatType.FLOAT32)
    return model


def bound(configured: Any, model: Any, frame: Array) -> Any:
    """Bindings of a frame with empty float outputs."""
    buffers = {one.name: np.empty(one.shape, np.float32) for one in model.outputs}
    return configured.create_bindings({model.input_names[0]: frame}, buffers)


def picture(seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)


def sums(frame: Array, weights: Array = WEIGHTS) -> Array:
    return np.asarray(frame.astype(np.float32) @ weights.T)


def test_what_a_hef_says(rt: ModuleType, hef: str) -> None:
    assert rt.__version__ == "4.23.0+standin"
    found = rt.HEF(hef)
    assert found.get_network_group_names() == ["tiny"]
    assert found.get_networks_names() == ["tiny/tiny"]
    (entry,) = found.get_input_vstream_infos()
    assert (entry.name, entry.shape) == ("tiny/input_layer1", SHAPE)
    assert entry.format.type is rt.FormatType.UINT8
    vector, plane = found.get_output_vstream_infos()
    assert (vector.shape, plane.shape) == ((2,), (4, 6, 2))
    assert (vector.quant_info.qp_scale, vector.quant_info.qp_zp) == (0.5, 100)
    assert found.bottleneck_fps() == 1000.0
    assert rt.HEF(Path(hef).read_bytes()).path is None


def test_infer_model_computes(rt: ModuleType, hef: str) -> None:
    frame = picture()
    with rt.VDevice(scheduled(rt)) as device:
        model = floats(rt, device, hef)
        model.set_batch_size(1)
        model.set_power_mode(rt.HailoPowerMode.PERFORMANCE)
        with model.configure() as configured:
            bindings = bound(configured, model, frame)
            configured.run([bindings], 1000)
            plane = bindings.output("tiny/conv1").get_buffer()
            np.testing.assert_allclose(plane, sums(frame), rtol=1e-5)
            mean = sums(frame).mean((0, 1))
            np.testing.assert_allclose(bindings.output("tiny/fc1").get_buffer(), mean, rtol=1e-5)
        quantized = device.create_infer_model(hef)
        with quantized.configure() as configured:
            outputs = {one.name: np.empty(one.shape, np.uint8) for one in quantized.outputs}
            bindings = configured.create_bindings({"tiny/input_layer1": frame}, outputs)
            configured.run([bindings], 1000)
            grid = np.clip(np.rint(sums(frame) / 0.5 + 100), 0, 255)
            np.testing.assert_array_equal(outputs["tiny/conv1"], grid.astype(np.uint8))


def test_buffers_that_cannot_be_meant(rt: ModuleType, hef: str) -> None:
    invalid = rt.pyhailort.errors.HailoRTInvalidArgumentException
    with rt.VDevice(scheduled(rt)) as device, floats(rt, device, hef).configure() as configured:
        entry = configured.create_bindings().input()
        for wrong in (picture().transpose(2, 0, 1).copy(), picture().astype(np.int8)):
            with pytest.raises(invalid, match="Invalid argument"):
                entry.set_buffer(wrong)
        with pytest.raises(rt.HailoRTException, match="Buffer must be C_CONTIGUOUS"):
            entry.set_buffer(picture().transpose(1, 0, 2))
        locked = picture()
        locked.flags.writeable = False
        with pytest.raises(ValueError, match="not writeable"):
            entry.set_buffer(locked)


def test_sizes_are_judged_when_launched(
    rt: ModuleType, hef: str, capfd: pytest.CaptureFixture[str]
) -> None:
    errors = rt.pyhailort.errors
    with rt.VDevice(scheduled(rt)) as device:
        model = floats(rt, device, hef)
        with model.configure() as configured:
            bindings = bound(configured, model, np.zeros((4, 6, 4), np.uint8))
            with pytest.raises(errors.HailoRTInvalidOperationException):
                configured.run([bindings], 1000)
            said = capfd.readouterr().err
            assert "Input buffer size 96 is different than expected 72 for input" in said
            with pytest.raises(errors.HailoRTNotFoundException):
                configured.run([configured.create_bindings()], 1000)
            with pytest.raises(errors.HailoRTNotFoundException):
                configured.create_bindings({"nope": picture()})
            with pytest.raises(errors.HailoRTInvalidOperationException):
                model.output()
            with pytest.raises(TypeError):
                configured.run([bindings])


def test_without_a_scheduler_the_group_is_activated(rt: ModuleType, hef: str) -> None:
    errors = rt.pyhailort.errors
    with rt.VDevice() as device:
        model = floats(rt, device, hef)
        with model.configure() as first, model.configure() as second:
            bindings = bound(first, model, picture())
            with pytest.raises(rt.HailoRTException, match=r"72 \(HAILO_STREAM_NOT_ACTIVATED\)"):
                first.run([bindings], 1000)
            first.activate()
            first.run([bindings], 1000)
            with pytest.raises(errors.HailoRTInvalidOperationException):
                second.activate()
            first.deactivate()
            second.activate()
            with pytest.raises(errors.HailoRTInvalidOperationException):
                first.set_scheduler_timeout(10)
    with rt.VDevice(scheduled(rt)) as device, floats(rt, device, hef).configure() as configured:
        configured.set_scheduler_priority(20)
        with pytest.raises(errors.HailoRTInvalidOperationException):
            configured.activate()


def test_use_after_release(rt: ModuleType, hef: str) -> None:
    device = rt.VDevice(scheduled(rt))
    model = floats(rt, device, hef)
    with model.configure() as configured:
        bindings = bound(configured, model, picture())
    with pytest.raises(AttributeError, match="NoneType"):
        configured.run([bindings], 1000)
    configured = model.configure()
    device.release()
    with pytest.raises(rt.pyhailort.errors.HailoRTInvalidOperationException):
        configured.run([bindings], 1000)
    with pytest.raises(AttributeError, match="NoneType"):
        device.create_infer_model(hef)
    configured.shutdown()


class Told:
    """A callback that keeps what it is given."""

    def __init__(self) -> None:
        self.exceptions: list[Exception | None] = []

    def __call__(self, *, completion_info: Any) -> None:
        self.exceptions.append(completion_info.exception)


def test_asynchronous_inference(rt: ModuleType, hef: str, state: State) -> None:
    state(latency_s=0.02, queue_size=2)
    timeout = rt.pyhailort.errors.HailoRTTimeout
    with rt.VDevice(scheduled(rt)) as device:
        model = floats(rt, device, hef)
        model.set_batch_size(3)
        with pytest.raises(rt.pyhailort.errors.HailoRTInvalidOperationException):
            model.configure()
        model.set_batch_size(2)
        with model.configure() as configured:
            assert configured.get_async_queue_size() == 2
            frames = [picture(seed) for seed in range(2)]
            bindings = [bound(configured, model, frame) for frame in frames]
            told = Told()
            configured.wait_for_async_ready(timeout_ms=1000, frames_count=2)
            jobs = [configured.run_async([one], told) for one in bindings]
            with pytest.raises(rt.HailoRTException, match=r"82 \(HAILO_QUEUE_IS_FULL\)"):
                configured.run_async([bindings[0]])
            with pytest.raises(timeout):
                configured.wait_for_async_ready(timeout_ms=1, frames_count=1)
            with pytest.raises(timeout):
                jobs[1].wait(1)
            for job in jobs:
                job.wait(10_000)
            assert told.exceptions == [None, None]
            for frame, one in zip(frames, bindings, strict=True):
                plane = one.output("tiny/conv1").get_buffer()
                np.testing.assert_allclose(plane, sums(frame), rtol=1e-5)


def test_a_failed_inference_is_told_to_the_callback_alone(
    rt: ModuleType, hef: str, state: State
) -> None:
    with rt.VDevice(scheduled(rt)) as device:
        model = floats(rt, device, hef)
        with model.configure() as configured:
            bindings = bound(configured, model, picture())
            state(infer_status=4)
            told = Told()
            configured.run_async([bindings], told).wait(1000)
            assert isinstance(told.exceptions[0], rt.pyhailort.errors.HailoRTTimeout)
            with pytest.raises(rt.pyhailort.errors.HailoRTTimeout):
                configured.run([bindings], 1000)


def test_two_models_take_turns(rt: ModuleType, hef: str, tmp_path: Path) -> None:
    other = write_hef(tmp_path / "other.hef", "other", -WEIGHTS)
    with rt.VDevice(scheduled(rt)) as device:
        models = [floats(rt, device, each) for each in (hef, other)]
        with models[0].configure() as first, models[1].configure() as second:
            frames = [picture(seed) for seed in range(20)]

            def work(place: int, configured: Any, found: list[Array]) -> None:
                for frame in frames:
                    bindings = bound(configured, models[place], frame)
                    configured.run([bindings], 5000)
                    found.append(bindings.output(models[place].output_names[1]).get_buffer())

            results: list[list[Array]] = [[], []]
            threads = [
                threading.Thread(target=work, args=(place, configured, results[place]))
                for place, configured in enumerate((first, second))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    wanted = np.stack([sums(frame) for frame in frames])
    np.testing.assert_allclose(np.stack(results[0]), wanted, rtol=1e-5)
    np.testing.assert_allclose(np.stack(results[1]), -wanted, rtol=1e-5)


def test_blocking_interface(rt: ModuleType, hef: str) -> None:
    errors = rt.pyhailort.errors
    found = rt.HEF(hef)
    frames = np.stack([picture(seed) for seed in range(3)])
    with rt.VDevice() as device:
        params = rt.ConfigureParams.create_from_hef(found, interface=rt.HailoStreamInterface.PCIe)
        params["tiny"].batch_size = 1
        with pytest.raises(AttributeError, match="latency"):
            params["tiny"].latency = 1
        (group,) = device.configure(found, params)
        inputs = rt.InputVStreamParams.make(group, format_type=rt.FormatType.FLOAT32)
        outputs = rt.OutputVStreamParams.make(group, format_type=rt.FormatType.FLOAT32)
        with rt.InferVStreams(group, inputs, outputs) as pipe:
            feed = {"tiny/input_layer1": frames.astype(np.float32)}
            with pytest.raises(errors.HailoRTNetworkGroupNotActivatedException):
                pipe.infer(feed)
            with group.activate(group.create_params()):
                answer = pipe.infer(feed)
                np.testing.assert_allclose(answer["tiny/conv1"], sums(frames), rtol=1e-5)
                assert answer["tiny/fc1"].shape == (3, 2)
                assert 0 < pipe.get_hw_time() < pipe.get_total_time()
                with pytest.raises(errors.HailoRTInvalidArgumentException):
                    pipe.infer({"tiny/input_layer1": frames.transpose(0, 3, 1, 2).copy()})
                with pytest.raises(errors.HailoRTInvalidArgumentException):
                    pipe.infer({"tiny/input_layer1": frames[0]})


HOLD = """
import sys
from hailo_platform import VDevice
device = VDevice()
print("held", flush=True)
sys.stdin.readline()
"""


def test_the_chip_is_held_by_one_process(rt: ModuleType, hef: str, tmp_path: Path) -> None:
    environment = {"HAILO_STANDIN_STATE": str(tmp_path / "state"), "PYTHONPATH": str(FAKES)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(rt.HailoRTException, match=r"74 \(HAILO_OUT_OF_PHYSICAL_DEVICES\)"):
            rt.VDevice()
        with pytest.raises(rt.HailoRTException, match=r"73 \(HAILO_DEVICE_IN_USE\)"):
            rt.VDevice(device_ids=rt.Device.scan())
        with rt.Device() as beside:
            assert beside.control.identify().board_name == "Hailo-8 (stand-in)"
        holder.kill()
    with rt.VDevice() as device:
        assert device.get_physical_devices_ids() == ["0000:01:00.0"]


def test_a_hef_for_another_chip(rt: ModuleType, hef: str, tmp_path: Path, state: State) -> None:
    small = write_hef(tmp_path / "small.hef", hw_arch="hailo8l")
    with rt.VDevice() as device:
        device.create_infer_model(small).configure().shutdown()
    state(architecture="HAILO8L", board_name="Hailo-8L (stand-in)")
    with rt.VDevice() as device:
        device.create_infer_model(small).configure().shutdown()
        with pytest.raises(rt.pyhailort.errors.HailoRTHEFNotCompatibleWithDevice):
            device.create_infer_model(hef).configure()


def test_hefs_that_are_none(rt: ModuleType, hef: str, tmp_path: Path) -> None:
    newer = write_hef(tmp_path / "newer.hef", hef_version=4)
    broken = tmp_path / "broken.hef"
    broken.write_bytes(Path(hef).read_bytes()[:-400])
    other = tmp_path / "other.hef"
    other.write_bytes(b"no HEF at all, only a text of some length")
    for path, status in (
        (newer, r"92 \(HAILO_HEF_NOT_SUPPORTED"),
        (broken, r"91 \(HAILO_HEF_FILE_CORRUPTED"),
        (other, r"92 \(HAILO_HEF_NOT_SUPPORTED"),
        (tmp_path / "absent.hef", r"13 \(HAILO_OPEN_FILE_FAILURE"),
    ):
        with pytest.raises(rt.HailoRTException, match=status):
            rt.HEF(str(path))
    with pytest.raises(ValueError, match="HEF can only be created from"):
        rt.HEF(Path(hef))
