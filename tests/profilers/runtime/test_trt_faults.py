"""What TensorRT's runtimes refuse, and what they make of a card's and the libraries' faults."""

import ctypes
import gc
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import trt_standin
from trt_standin import (
    Runner,
    artifact,
    calls,
    every_kind,
    expected,
    faults,
    gpu,
    machine,
    pictures,
    standing,
)

runner = trt_standin.runner
NO_DRIVER = "built, not run: no NVIDIA driver"


def refused(trt: ModuleType, path: str, kind: type[Exception], **options: Any) -> Any:
    """The exception that `load` ends in, after which nothing is left on the card."""
    with pytest.raises(kind) as caught:
        trt.load(path, options)
    assert caught.value.hint
    state = machine()
    assert not state.device_blocks
    assert not state.pinned_blocks
    assert not state.handles
    return caught.value


@every_kind
def test_without_a_driver_that_is_what_is_said_first(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, trt = runner
    path = artifact(tmp_path / "net", kind)
    monkeypatch.setenv("TENSORRT_STANDIN_GPU", "")
    error = refused(trt, path, faults.Missing)
    assert str(error) == NO_DRIVER
    assert "nvidia-smi" in error.hint
    for function in (trt.probe, trt.facts):
        with pytest.raises(faults.Missing, match=NO_DRIVER):
            function()


def test_without_driver_and_packages_the_driver_is_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if any(importlib.util.find_spec(name) for name in ("cuda", "tensorrt")):
        pytest.skip("NVIDIA's packages are installed here")
    trt = trt_standin.opened("trt")
    loaded: list[str] = []

    def library(name: str) -> object:
        loaded.append(name)
        if there:
            return object()
        msg = f"{name}: cannot open shared object file"
        raise OSError(msg)

    monkeypatch.setattr(ctypes, "CDLL", library)
    there = False
    with pytest.raises(faults.Missing, match=NO_DRIVER):
        trt.probe()
    assert loaded[0] == "libcuda.so.1"
    there = True
    with pytest.raises(faults.Missing, match="cuda-python cannot be imported") as caught:
        trt.load(str(tmp_path), {})
    assert "pip install" in caught.value.hint


def test_a_missing_tensorrt_is_told_with_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for kind, package in (("trt-10", "tensorrt"), ("rtx", "tensorrt_rtx")):
        trt = standing(kind, monkeypatch)
        path = artifact(tmp_path / kind, kind)
        monkeypatch.setitem(sys.modules, package, None)
        error = refused(trt, path, faults.Missing)
        assert f"package {package} cannot be imported" in str(error)
        monkeypatch.delitem(sys.modules, package)
        trt_standin.forget()


def test_the_older_cuda_python_is_called_as_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trt = standing("trt-10", monkeypatch, layout="11")
    trt.load(artifact(tmp_path / "net", "trt-10"), {"cuda_graph": True})
    x = pictures()
    trt.bind({"x": x})()
    assert trt.program.card.cuda.module.__name__ == "cuda.cudart"
    assert trt.facts()["tools"]["cuda-python"] == "11.8.7+standin"
    assert np.array_equal(trt.run({"x": x})["y"], expected(x)["y"])
    trt.close()
    trt_standin.forget()


@pytest.mark.parametrize("runner", ["trt-11"], indirect=True)
def test_a_driver_older_than_cuda_python_is_told_with_both(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    gpu(cuda=12040)
    error = refused(trt, artifact(tmp_path / "net", kind), faults.Missing)
    assert "too old: it is for CUDA 12.4, cuda-python 13.0.3+standin needs 13.0" in str(error)
    assert "cuda-python<13" in error.hint


@pytest.mark.parametrize("runner", ["trt-10"], indirect=True)
def test_a_machine_without_a_card_or_without_that_card(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    path = artifact(tmp_path / "net", kind)
    gpu(count=0)
    assert "the NVIDIA driver finds no GPU" in str(refused(trt, path, faults.Missing))
    gpu(count=2)
    error = refused(trt, path, faults.BadInput, device=2)
    assert "run option device is 2, this machine has 2 GPU(s)" in str(error)


@every_kind
def test_an_engine_of_another_version_flavour_or_card(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    name = "TensorRT-RTX" if kind == "rtx" else "TensorRT"
    here = trt_standin.VERSIONS[kind].partition("+")[0]
    path = artifact(tmp_path / "old", kind, version="1.2.0+standin")
    error = refused(trt, path, faults.BadInput)
    assert f"the engine was built by {name} 1.2.0, here is {name} {here}" in str(error)
    assert error.hint == f"Install {name} 1.2.0 here, or compile with {name} {here}."
    path = artifact(tmp_path / "card", kind, compute_capability="8.6")
    error = refused(trt, path, faults.BadInput)
    assert "built for compute capability 8.6, this GPU has 9.0" in str(error)
    assert error.hint == "Compile for the target with this GPU."
    other = "trt-10" if kind == "rtx" else "rtx"
    error = refused(trt, artifact(tmp_path / "other", other), faults.BadInput)
    assert f"this program runs those of {name}" in str(error)


@pytest.mark.parametrize("runner", ["trt-10", "trt-11"], indirect=True)
def test_compatible_engines_run_where_the_library_takes_them(
    runner: Runner, tmp_path: Path
) -> None:
    kind, trt = runner
    path = artifact(tmp_path / "older", kind, version="10.1.0", version_compatible=True)
    trt.load(path, {})
    x = pictures()
    assert np.array_equal(trt.run({"x": x})["y"], expected(x)["y"])
    path = artifact(
        tmp_path / "ampere",
        kind,
        compute_capability="8.0",
        hardware_compatibility="AMPERE_PLUS",
    )
    trt.load(path, {})
    notes = trt.facts()["notes"]
    assert (
        "the engine was built for compute capability 8.0, this GPU has 9.0: TensorRT took it"
        in (notes)
    )


@pytest.mark.parametrize("runner", ["rtx"], indirect=True)
def test_an_engine_for_several_cards_runs_on_each(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    path = artifact(tmp_path / "net", kind, compute_capability=["8.6", "8.9"])
    for card in ("8.6", "8.9"):
        gpu(compute_capability=card)
        trt.load(path, {})
        assert trt.facts()["engine_compute_capability"] == ["8.6", "8.9"]
        assert trt.facts()["compute_capability"] == card
    gpu(compute_capability="12.0")
    error = refused(trt, path, faults.BadInput)
    assert "built for compute capability 8.6, 8.9, this GPU has 12.0" in str(error)
    assert "UNSUPPORTED_CC" in str(error)


@every_kind
def test_damaged_or_strange_artifacts(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    path = Path(artifact(tmp_path / "net", kind))
    whole = (path / "model.engine").read_bytes()
    (path / "model.engine").write_bytes(b"\0" * 64 + whole)
    error = refused(trt, str(path), faults.BadInput)
    assert "the engine is damaged" in str(error)
    (path / "model.engine").write_bytes(whole)
    described = json.loads((path / "model.json").read_text(encoding="utf-8"))
    for changes, text in (
        ({"format": 2}, "is of format 2, expected 1"),
        ({"inputs": [{"name": "picture"}]}, r"model.json names ['picture'], the engine beside it"),
    ):
        (path / "model.json").write_text(json.dumps({**described, **changes}), encoding="utf-8")
        assert text in str(refused(trt, str(path), faults.BadInput))
    (path / "model.json").write_text("{", encoding="utf-8")
    assert "is not JSON" in str(refused(trt, str(path), faults.BadInput))
    (path / "model.json").unlink()
    assert "model.json is not there" in str(refused(trt, str(path), faults.BadInput))


@every_kind
def test_a_card_without_memory_for_engine_context_or_tensors(
    runner: Runner, tmp_path: Path
) -> None:
    kind, trt = runner
    path = artifact(tmp_path / "net", kind)
    for free, doing in (
        (40_000, "reading the engine"),
        (900_000, "making an execution context"),
        (1_051_500, "taking 1024 bytes of memory on the GPU"),
    ):
        gpu(free_bytes=free)
        text = str(refused(trt, path, faults.OutOfDeviceMemory))
        assert text.startswith(f"{doing}: the GPU has no memory left for it")
        gc.collect()  # the exception's frames held the engine
        assert set(machine().taken.values()) <= {0}
    assert "cudaErrorMemoryAllocation, 2: out of memory" in text


@every_kind
def test_streams_that_the_memory_does_not_hold_leave_the_others(
    runner: Runner, tmp_path: Path
) -> None:
    kind, trt = runner
    gpu(free_bytes=3_000_000)
    trt.load(artifact(tmp_path / "net", kind), {})
    x = pictures()
    call = trt.bind({"x": x})
    with pytest.raises(faults.OutOfDeviceMemory):
        trt.bind_async({"x": x})
    call()
    assert len(trt.program.first().slots) == 2


@every_kind
@pytest.mark.parametrize("options", [{}, {"cuda_graph": True}])
def test_a_card_that_is_lost_is_told_by_the_codes_name(
    runner: Runner, tmp_path: Path, options: dict[str, Any]
) -> None:
    kind, trt = runner
    path = artifact(tmp_path / "net", kind)
    trt.load(path, options)
    call = trt.bind({"x": pictures()})
    machine().faults["cudaStreamSynchronize"] = 719
    with pytest.raises(faults.DeviceLost, match=r"a kernel failed \(cudaErrorLaunchFailure, 719"):
        call()
    machine().faults.clear()
    machine().lost = 700
    with pytest.raises(faults.DeviceLost, match="cudaErrorIllegalAddress, 700: an illegal") as told:
        call()
    assert told.value.hint.startswith("Start it again")
    trt.close()
    assert not trt.program.models


@every_kind
def test_codes_that_have_no_meaning_here_keep_their_name(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    path = artifact(tmp_path / "net", kind)
    trt.load(path, {})
    call = trt.bind({"x": pictures()})
    machine().faults["cudaMemcpyAsync"] = 1
    with pytest.raises(faults.Failed, match=r"copying a tensor: .*cudaErrorInvalidValue, 1: inval"):
        call()
    machine().faults = {"execute_async_v3": 400}
    with pytest.raises(faults.Failed, match="refused an inference"):
        call()
    machine().faults = {"cudaSetDeviceFlags": 708}
    error = refused(trt, path, faults.BadInput)
    assert "cudaErrorSetOnActiveProcess" in str(error)


@every_kind
def test_an_engine_that_cannot_be_captured_is_unsupported_so(
    runner: Runner, tmp_path: Path
) -> None:
    kind, trt = runner
    path = artifact(tmp_path / "net", kind)
    trt.load(path, {"cuda_graph": True})
    machine().faults["cudaGraphInstantiateWithFlags"] = 900
    with pytest.raises(faults.Unsupported, match="cannot be captured in a CUDA graph") as caught:
        trt.bind({"x": pictures()})
    assert caught.value.hint == "Run it with option cuda_graph = false."
    machine().faults = {"execute_async_v3": (900, 1)}
    with pytest.raises(faults.Unsupported, match="cannot be captured in a CUDA graph"):
        trt.bind({"x": pictures()})
    assert not machine().capturing()
    assert len(trt.program.first().slots) == 1
    machine().faults.clear()
    trt.bind({"x": pictures()})()
    assert calls("cudaGraphLaunch")


@every_kind
def test_wrong_inputs_are_refused_by_name(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    trt.load(artifact(tmp_path / "net", kind), {})
    with pytest.raises(faults.BadInput, match=r"inputs given are \['q'\], the model's are \['x'\]"):
        trt.run({"q": pictures()})
    with pytest.raises(faults.BadInput, match=r"float64 \(1, 3, 8, 8\), expected float32 \(1, 3"):
        trt.bind({"x": pictures().astype(np.float64)})
    with pytest.raises(faults.BadInput, match=r"float32 \(2, 3, 8, 8\), expected float32 \(1, 3"):
        trt.bind_async({"x": pictures(2)})


@pytest.mark.parametrize("runner", ["trt-10"], indirect=True)
def test_wrong_options_are_refused_by_name(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    path = artifact(tmp_path / "net", kind)
    for options, text in (
        ({"cuda_graphs": True}, "option 'cuda_graphs' is not known"),
        ({"spin": "yield"}, r"option spin is 'yield', expected one of ('spin', 'block')"),
        ({"transfers": 1}, "option transfers is 1, expected a value like True"),
        ({"device": -1}, "option device is -1, expected a value like 0"),
        ({"device": True}, "option device is True, expected a value like 0"),
    ):
        assert text in str(refused(trt, path, faults.BadInput, **options))


@pytest.mark.parametrize("runner", ["trt-10"], indirect=True)
def test_tensors_that_numpy_or_the_host_cannot_hold(runner: Runner, tmp_path: Path) -> None:
    kind, trt = runner
    inputs = [{"name": "x", "dtype": "BF16", "shape": [1, 3, 8, 8]}]
    error = refused(trt, artifact(tmp_path / "bf16", kind, inputs=inputs), faults.Unsupported)
    assert "tensor 'x' is BF16, which numpy has no type for" in str(error)
