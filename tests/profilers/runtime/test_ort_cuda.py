"""ONNX Runtime's CUDA provider: never the CPU in its place, bound tensors, what is told of it.

Where this ONNX Runtime has no CUDA, sessions are opened on the CPU behind its name: what the
program asks for is asserted, not what a card does.
"""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

OPEN = onnxruntime.InferenceSession
CUDA = {"provider": "CUDAExecutionProvider"}


class Session:
    """A session on the CPU that says it is on a card, and what it was asked for."""

    asked: list[Any] = []
    started = True

    def __init__(self, path: str, settings: Any, providers: Any, **more: Any) -> None:
        self.real = OPEN(path, settings, providers=["CPUExecutionProvider"])
        self.providers, self.more = providers, more
        self.fallback = True
        self.runs = 0
        Session.asked.append(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"][not Session.started :]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return dict(self.providers)

    def disable_fallback(self) -> None:
        self.fallback = False

    def run_with_iobinding(self, binding: Any) -> None:
        self.runs += 1
        self.real.run_with_iobinding(binding)


@pytest.fixture
def ort(tiny: ModuleType) -> ModuleType:
    module: ModuleType = tiny.program("profilers/runtime", "ort")
    return module


@pytest.fixture
def cuda(ort: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module ort_cuda, with sessions on the CPU behind the provider's name."""
    module: ModuleType = ort.cuda()
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(module, "MEMORY", "cpu")
    monkeypatch.setattr(module, "driver_version", lambda: "580.95.05")
    monkeypatch.setattr(module, "used_bytes", lambda device: None)
    monkeypatch.setattr(Session, "asked", [])
    monkeypatch.setattr(Session, "started", True)
    return module


@pytest.fixture
def model(tiny: ModuleType, tmp_path: Path) -> str:
    return str(tiny.conv_net(tmp_path / "model.onnx"))


def test_without_the_provider_it_is_missing_and_nothing_runs(
    ort: ModuleType, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(ort.cuda(), "driver_version", lambda: None)
    with pytest.raises(ort.cuda().Missing, match="built, not run: no NVIDIA driver") as caught:
        ort.load(model, CUDA)
    assert "EDGEDEPLOY_PYTHON_RUNTIME_ORT" in caught.value.hint
    monkeypatch.setattr(ort.cuda(), "driver_version", lambda: "580.95.05")
    with pytest.raises(ort.cuda().Missing, match="has no CUDAExecutionProvider") as caught:
        ort.load(model, CUDA)
    assert "onnxruntime-gpu" in caught.value.hint
    with pytest.raises(ort.BadInput, match="no artifact is loaded"):
        ort.run({})


def test_a_session_that_went_on_without_the_provider_is_refused(
    ort: ModuleType, cuda: ModuleType, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "started", False)
    with pytest.raises(cuda.Missing, match=r"did not start on device 0 \(driver 580\.95\.05\)"):
        ort.load(model, CUDA)
    monkeypatch.setattr(cuda, "driver_version", lambda: None)
    with pytest.raises(cuda.Missing, match="built, not run: no NVIDIA driver"):
        ort.load(model, CUDA)

    def raising(*_: Any, **__: Any) -> None:
        msg = "CUDA failure 35: CUDA driver version is insufficient"
        raise RuntimeError(msg)

    monkeypatch.setattr(onnxruntime, "InferenceSession", raising)
    with pytest.raises(cuda.Missing, match="no NVIDIA driver"):
        ort.load(model, CUDA)
    monkeypatch.setattr(cuda, "driver_version", lambda: "580.95.05")
    with pytest.raises(ort.BadInput, match="CUDA failure 35"):
        ort.load(model, CUDA)


def test_what_the_provider_is_told(ort: ModuleType, cuda: ModuleType, model: str) -> None:
    loaded = ort.load(model, {**CUDA, "device": 1, "prefer_nhwc": True})
    assert loaded["options"]["tf32"] == "off"
    assert loaded["options"]["transfers"] is True
    session = Session.asked[0]
    assert session.providers == [
        (
            "CUDAExecutionProvider",
            {"device_id": "1", "enable_cuda_graph": "0", "prefer_nhwc": "1", "use_tf32": "0"},
        )
    ]
    assert session.more == {"enable_fallback": 0}
    assert session.fallback is False
    Path(model).with_name("model.json").write_text(json.dumps({"precision": "tf32"}))
    assert ort.load(model, CUDA)["options"]["tf32"] == "on"
    assert Session.asked[1].providers[0][1]["use_tf32"] == "1"
    assert ort.load(model, {**CUDA, "tf32": "off"})["options"]["tf32"] == "off"


def test_transfers_are_the_bare_run_and_else_tensors_stay_on_the_card(
    ort: ModuleType, cuda: ModuleType, tiny: ModuleType, model: str
) -> None:
    x = tiny.images(2)
    wanted = tiny.outputs_of(model, x)
    Session.asked.clear()
    ort.load(model, CUDA)
    call: Any = ort.bind({"x": x[0]})
    assert call.func == Session.asked[0].real.run
    assert call.args[0] == ["y"]
    np.testing.assert_allclose(call()[0], wanted[0], atol=1e-5)
    assert ort.facts()["latency_scope"].startswith("one inference, inputs and outputs in host")
    ort.load(model, {**CUDA, "transfers": False})
    session = Session.asked[1]
    call = ort.bind({"x": x[1]})
    assert session.runs == 1
    call()
    assert session.runs == 2
    np.testing.assert_allclose(call.args[0].get_outputs()[0].numpy(), wanted[1], atol=1e-5)
    np.testing.assert_allclose(ort.run({"x": x[0]})["y"], wanted[0], atol=1e-5)
    assert ort.facts()["latency_scope"].endswith("in the card's memory")


def test_each_graph_has_a_session_of_its_own(
    ort: ModuleType, cuda: ModuleType, tiny: ModuleType, model: str
) -> None:
    x = tiny.images(3)
    wanted = tiny.outputs_of(model, x)
    Session.asked.clear()
    ort.load(model, {**CUDA, "cuda_graph": True})
    calls = [ort.bind({"x": each}) for each in x]
    for call, expected in zip(calls, wanted, strict=True):
        np.testing.assert_allclose(call()[0], expected, atol=1e-5)
    assert len(Session.asked) == 3
    # single inferences have one session between them, whatever their inputs
    found = [ort.run({"x": each})["y"] for each in x]
    np.testing.assert_allclose(np.stack(found), wanted, atol=1e-5)
    assert len(Session.asked) == 4
    assert all(each.providers[0][1]["enable_cuda_graph"] == "1" for each in Session.asked)


def test_a_graph_needs_fixed_sizes_and_outputs_else_do_not(
    ort: ModuleType, cuda: ModuleType, tiny: ModuleType, tmp_path: Path
) -> None:
    model = tiny.conv_net(tmp_path / "free.onnx", batch="N")
    with pytest.raises(cuda.Unsupported, match="those of x, y are free"):
        ort.load(model, {**CUDA, "cuda_graph": True})
    ort.load(model, {**CUDA, "transfers": False})
    x = tiny.images(2).reshape(2, 3, 16, 16)
    call: Any = ort.bind({"x": x})
    call()
    assert call.args[0].get_outputs()[0].numpy().shape == (2, 5)


def test_what_ran_elsewhere_is_told_and_layers_are_not(
    ort: ModuleType, cuda: ModuleType, tiny: ModuleType, model: str
) -> None:
    ort.load(model, CUDA)
    # behind the provider's name all of it runs on the CPU, which the session does not hide
    told = ort.facts()
    assert told["elsewhere"].startswith("9 nodes not on the card: first (Conv), relu (Relu)")
    assert told["driver"] == "580.95.05"
    assert told["provider_options"]["device_id"] == "0"
    with pytest.raises(ort.Unsupported, match="by its launch, not by what it takes"):
        ort.layers({"x": tiny.images(1)[0]}, 1)


def test_memory_is_what_the_card_has_more_in_use(
    ort: ModuleType, cuda: ModuleType, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter([500, 800, 400])
    ort.load(model, CUDA)
    assert ort.memory() == {}
    monkeypatch.setattr(cuda, "used_bytes", lambda device: next(readings))
    ort.load(model, CUDA)
    assert ort.memory() == {"device_delta": 300}
    assert ort.memory() == {"device_delta": 0}


def test_what_no_driver_here_answers(ort: ModuleType) -> None:
    cuda = ort.cuda()
    if cuda.driver_version() is not None:
        pytest.skip("there is an NVIDIA driver here")
    assert cuda.device_name(0) is None
    assert cuda.used_bytes(0) is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cuda_graph": True}, "option 'cuda_graph' is not known"),
        ({**CUDA, "cuda_graf": True}, "option 'cuda_graf' is not known"),
        ({**CUDA, "device": -1}, "option device is -1, expected a value like 0"),
        ({**CUDA, "tf32": "yes"}, "tf32 'yes' is not known"),
        ({"provider": "CUDA"}, "provider 'CUDA' is not known"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    ort: ModuleType, model: str, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ort.BadInput) as caught:
        ort.load(model, options)
    assert told in str(caught.value)
    assert caught.value.hint
