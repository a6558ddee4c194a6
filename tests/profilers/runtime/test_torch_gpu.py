"""PyTorch eager and compiled on this CPU, where no card is: the same program, and what it tells."""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

Array = NDArray[Any]
CPU = {"device": "cpu"}
TYPES = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}
INPUTS = [{"name": "image", "dtype": "float32", "shape": [1, 3, 16, 16]}]
OUTPUTS = [
    {"name": "scores", "dtype": "float32", "shape": [1, 5]},
    {"name": "best", "dtype": "int64", "shape": [1]},
]


class Net(torch.nn.Module):
    """Constants of every kind: parameters, a buffer, a plain tensor, and two made in forward."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, 5)
        self.register_buffer("scale", torch.full((8, 1, 1), 1.5))
        self.plain = torch.full((1, 8, 1, 1), 2.0)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        held = torch.relu(self.norm(self.conv(image))) * self.scale * self.plain
        held = held + torch.ones(8, 1, 1) * torch.tensor([0.5])
        scores = self.head(held.mean((2, 3)))
        return {"scores": scores, "best": scores.argmax(1)}


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    return Net().eval()


@pytest.fixture(scope="module")
def program(net: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 16, 16),), strict=False), path)
    return path


@pytest.fixture
def artifact(program: Path, tmp_path: Path) -> Callable[..., str]:
    """Makes the artifact of a precision."""

    def made(precision: str = "fp32", data: bytes = b"", suffix: str = ".pt2") -> str:
        path = tmp_path / f"model{suffix}"
        path.write_bytes(data or program.read_bytes())
        record = {
            "format": 1,
            "flavour": "pytorch",
            "program": "torchscript" if suffix == ".ts" else "exported_program",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "precision": precision,
            "dtype": TYPES[precision],
            "inputs": INPUTS,
            "outputs": OUTPUTS,
            "torch": torch.__version__,
        }
        path.with_name("model.json").write_text(json.dumps(record))
        return str(path)

    return made


@pytest.fixture
def runtime(tiny: ModuleType) -> ModuleType:
    module: ModuleType = tiny.program("profilers/runtime", "torch_gpu")
    return module


def image(seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((1, 3, 16, 16)).astype(np.float32)


def scores(net: torch.nn.Module, array: Array) -> Array:
    with torch.no_grad():
        found: Array = net(torch.from_numpy(array))["scores"].numpy()
    return found


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_eager_computes_the_model_in_the_artifacts_type(
    runtime: ModuleType,
    net: torch.nn.Module,
    artifact: Callable[..., str],
    precision: str,
    channels_last: bool,
) -> None:
    answer = runtime.load(artifact(precision), {**CPU, "channels_last": channels_last})
    assert (answer["inputs"], answer["outputs"]) == (INPUTS, OUTPUTS)
    relative = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 4e-2}[TYPES[precision]]
    for seed in range(3):
        found, wanted = runtime.run({"image": image(seed)}), scores(net, image(seed))
        assert found["scores"].dtype == np.float32
        assert found["best"].dtype == np.int64
        error = np.abs(found["scores"] - wanted).max() / np.abs(wanted).max()
        assert error < relative
        # in a shorter type it is not float32 in disguise
        assert (error > 1e-5) == (TYPES[precision] != "float32")
    facts = runtime.facts()
    assert (facts["device"], facts["computed_in"], facts["tf32"]) == (
        "CPU",
        TYPES[precision],
        False,
    )
    assert facts["precision"] == precision
    assert facts["latency_scope"] == "one inference on the CPU"
    assert runtime.memory() == {}


def test_bound_calls_have_inputs_and_outputs_of_their_own(
    runtime: ModuleType, net: torch.nn.Module, artifact: Callable[..., str]
) -> None:
    runtime.load(artifact(), CPU)
    given = image(1)
    first, second = runtime.bind({"image": given}), runtime.bind({"image": image(2)})
    given[:] = 0
    first()
    second()
    np.testing.assert_allclose(first.values()[0], scores(net, image(1)), atol=1e-5)
    np.testing.assert_allclose(second.values()[0], scores(net, image(2)), atol=1e-5)
    assert not any(value.requires_grad for value in first.outputs)
    start = runtime.bind_async({"image": image(3)})
    wait = start()
    wait()
    np.testing.assert_allclose(start.__self__.values()[0], scores(net, image(3)), atol=1e-5)
    with pytest.raises(runtime.Unsupported, match="cpu has no clock of its own"):
        runtime.device_times({"image": image()}, 3)


def test_compiled_is_one_graph_of_fixed_shapes(
    runtime: ModuleType,
    net: torch.nn.Module,
    artifact: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []
    real = torch.compile

    def plain(function: Any, **options: Any) -> Any:
        """As asked, but its kernels are PyTorch's own: making them takes a minute."""
        asked.append(options)
        return real(function, backend="eager", **{**options, "mode": None})

    monkeypatch.setattr(torch, "compile", plain)
    runtime.load(artifact(), {**CPU, "mode": "compile", "compile_mode": "max-autotune"})
    found = runtime.run({"image": image()})["scores"]
    np.testing.assert_allclose(found, scores(net, image()), atol=1e-5)
    assert asked == [{"mode": "max-autotune", "fullgraph": True, "dynamic": False}]
    with pytest.raises(runtime.Unsupported, match="is not told apart"):
        runtime.layers({"image": image()}, 1)


@pytest.mark.slow
def test_compiled_kernels_compute_the_model(
    runtime: ModuleType,
    net: torch.nn.Module,
    artifact: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    for precision, relative in (("fp32", 1e-5), ("bf16", 4e-2)):
        runtime.load(artifact(precision), {**CPU, "mode": "compile"})
        found, wanted = runtime.run({"image": image()})["scores"], scores(net, image())
        assert np.abs(found - wanted).max() / np.abs(wanted).max() < relative
    assert list((tmp_path / "kernels").rglob("*.so"))


def test_layers_are_the_captured_operators(
    runtime: ModuleType, artifact: Callable[..., str]
) -> None:
    runtime.load(artifact(), CPU)
    rows = runtime.layers({"image": image()}, 3)
    assert [row["name"] for row in rows][:3] == ["conv2d", "batch_norm", "relu"]
    assert rows[0]["op"] == "aten.conv2d.default"
    assert all(0 < row["time_s"] < 0.1 for row in rows)


def test_torchscript_runs_and_is_not_compiled(
    runtime: ModuleType, net: torch.nn.Module, artifact: Callable[..., str], tmp_path: Path
) -> None:
    traced: Any = torch.jit.trace(net, torch.zeros(1, 3, 16, 16), strict=False)
    torch.jit.save(traced, str(tmp_path / "traced.ts"))
    path = artifact("fp32", (tmp_path / "traced.ts").read_bytes(), ".ts")
    runtime.load(path, CPU)
    found = runtime.run({"image": image()})["scores"]
    np.testing.assert_allclose(found, scores(net, image()), atol=1e-5)
    assert runtime.facts()["program"] == "torchscript"
    with pytest.raises(runtime.Unsupported, match="this source is TorchScript"):
        runtime.load(path, {**CPU, "mode": "compile"})


def test_without_a_driver_it_is_missing(
    runtime: ModuleType, artifact: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(runtime, "driver_version", lambda: None)
    with pytest.raises(runtime.Missing, match="built, not run: no NVIDIA driver") as caught:
        runtime.load(artifact(), {})
    assert "EDGEDEPLOY_PYTHON_TORCH_GPU" in caught.value.hint
    monkeypatch.setattr(runtime, "driver_version", lambda: "580.95.05")
    with pytest.raises(runtime.Missing, match=r"PyTorch .* \(driver 580\.95\.05\)"):
        runtime.load(artifact(), {})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(runtime.Missing, match="there is no cuda:3: 1 cards are found"):
        runtime.load(artifact(), {"device": "cuda:3"})
    with pytest.raises(runtime.BadInput, match="no artifact is loaded"):
        runtime.run({})


def test_a_file_that_is_not_the_artifacts_or_would_run_code_is_refused(
    runtime: ModuleType, artifact: Callable[..., str], program: Path, tmp_path: Path
) -> None:
    path = artifact()
    Path(path).write_bytes(b"another")
    with pytest.raises(runtime.BadInput, match="their hashes differ"):
        runtime.load(path, CPU)
    with pytest.raises(runtime.BadInput, match="is no program that PyTorch"):
        runtime.load(artifact(data=b"no archive"), CPU)
    changed = tmp_path / "changed.pt2"
    for code in (b'{"path_name": "opaque_obj_0"}', b'{"expr_str": "__import__(\'os\')"}'):
        with zipfile.ZipFile(program) as source, zipfile.ZipFile(changed, "w") as archive:
            for name in source.namelist():
                archive.writestr(name, code if name.endswith("model.json") else source.read(name))
        with pytest.raises(runtime.BadInput, match="which loading it would run"):
            runtime.load(artifact(data=changed.read_bytes()), CPU)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    Path(path).with_name("model.json").unlink()
    with pytest.raises(runtime.BadInput, match="are not both there"):
        runtime.load(path, CPU)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mod": "eager"}, "option 'mod' is not known"),
        ({"mode": "jit"}, "mode 'jit' is not known"),
        ({"transfers": 1}, "option transfers is 1, expected a value like True"),
        ({"threads": 0}, "option threads is 0"),
        ({"device": "tpu"}, "device 'tpu' is not known to PyTorch"),
        ({"device": "meta"}, "device 'meta' is neither an NVIDIA card nor the CPU"),
        ({**CPU, "cuda_graph": True}, "cuda_graph with device cpu"),
        (
            {"mode": "compile", "compile_mode": "reduce-overhead", "cuda_graph": True},
            "compile_mode reduce-overhead",
        ),
    ],
)
def test_options_that_mean_nothing_are_refused(
    runtime: ModuleType, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(runtime.BadInput) as caught:
        runtime.load("nowhere", options)
    assert told in str(caught.value)
    assert caught.value.hint


def test_wrong_inputs_say_what_was_found_and_expected(
    runtime: ModuleType, artifact: Callable[..., str]
) -> None:
    runtime.load(artifact(), CPU)
    with pytest.raises(runtime.BadInput, match=r"inputs given are \[\]"):
        runtime.bind({})
    with pytest.raises(runtime.BadInput, match=r"float32 \(1, 3, 16\), expected float32 \(1, 3"):
        runtime.run({"image": np.zeros((1, 3, 16), np.float32)})


class Events:
    """A stream and events that keep time by a counter, as a card would by its own clock."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.now_ms = 0.0

    def synchronize(self) -> None:
        self.told.append("synchronize")

    def event(self, **_: Any) -> Any:
        def record(stream: Any) -> None:
            assert stream is self
            made.at_ms = self.now_ms
            self.now_ms += 2.5

        made = SimpleNamespace(
            record=record, synchronize=lambda: None, elapsed_time=lambda end: end.at_ms - made.at_ms
        )
        return made


def test_transfers_graphs_and_events_come_in_order(
    runtime: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the order of what is started on a stream, without a card: copies there, run, copies back
    calls = __import__("gpu_calls")
    stream = Events()
    bound = calls.Bound(lambda x: (x * 2,), [torch.ones(3)], torch.device("cpu"), transfers=False)
    bound.stream, bound.transfers = stream, True
    bound.host = [torch.full((3,), 7.0)]
    wait = bound.start()
    assert stream.told == []
    wait()
    assert stream.told == ["synchronize"]
    assert bound.back[0].tolist() == [14.0] * 3
    runs: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "Event", stream.event)
        patched.setattr(bound, "infer", lambda: runs.append(len(stream.told)))
        seconds, starting = bound.device_times(4)
    assert seconds == [0.0025] * 4
    assert len(starting) == 4
    assert all(0 < each < 0.1 for each in starting)
    assert len(runs) == 2 * (4 + calls.EVENT_WARM_UP)  # one ahead of each
    replayed: list[int] = []
    bound.replay = lambda: replayed.append(1)
    bound()
    assert replayed == [1]
    marks: list[int] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marks.append(1))
    bound.replay, bound.steps = None, True
    bound()
    assert marks == [1]


def test_a_card_without_memory_left_or_at_fault_is_not_an_unsupported_model(
    runtime: ModuleType, artifact: Callable[..., str]
) -> None:
    runtime.load(artifact(), CPU)
    program, options = runtime.current().program, runtime.current().options
    full = runtime.explained(torch.OutOfMemoryError("CUDA out of memory. Tried"), program, options)
    assert isinstance(full, MemoryError)  # one stream more is not tried then; those before stand
    fault = RuntimeError("CUDA error: an illegal memory access was encountered\nmore")
    assert runtime.explained(fault, program, options) is fault
    other = runtime.explained(RuntimeError("no kernel for bfloat16"), program, options)
    assert isinstance(other, runtime.Unsupported)


def test_a_cards_place_is_written_as_other_programs_write_it(runtime: ModuleType) -> None:
    card = SimpleNamespace(pci_domain_id=0, pci_bus_id=65, pci_device_id=0)
    assert runtime.bus_id(card) == "0000:41:00.0"
    assert runtime.bus_id(SimpleNamespace()) is None
