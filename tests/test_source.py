"""Models from where they are kept: callables, files of three kinds, weights as data alone."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_nets as nets
from bad_inputs import SideEffect
from safetensors.torch import save_file

from edgedeploy.errors import ExportError, InputError
from edgedeploy.source import format_of, input_names, load_torch, source_files
from edgedeploy.workload import ModelFormat, ModelSpec

Write = Callable[..., Path]

CODE = """
    from torch import nn

    def build(out=3):
        return nn.Linear(4, out)

    module = nn.Linear(4, 2)
"""


def spec(source: str, **fields: Any) -> ModelSpec:
    return ModelSpec(source=source, **fields)


def refused(model: ModelSpec, folder: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        load_torch(model, str(folder))
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (spec("m.onnx"), "onnx"),
        (spec("m.pt2"), "exported_program"),
        (spec("m.pt"), "torchscript"),
        (spec("m.pth"), "torchscript"),
        (spec("m.ts"), "torchscript"),
        (spec("m.py:build"), "python"),
        (spec("package.module:build"), "python"),
        (spec("m.py:build", weights="w.pt"), "state_dict"),
        (spec("m.bin", format="onnx"), "onnx"),
        (spec("m.py:build", format="python", weights="w.pt"), "python"),
    ],
)
def test_formats(model: ModelSpec, expected: ModelFormat) -> None:
    assert format_of(model) == expected


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (spec("m.tflite"), "model source 'm.tflite' is neither module:callable nor a known file"),
        (spec("m.onnx", weights="w.pt"), "weights 'w.pt' are given, but 'm.onnx' holds its own"),
        (spec("m.pt", weights="w.pt"), "weights 'w.pt' are given, but 'm.pt' holds its own"),
        (
            spec("m.py:build", format="state_dict"),
            "model 'm.py:build' of format state_dict names no weights",
        ),
    ],
)
def test_formats_that_contradict(model: ModelSpec, message: str) -> None:
    with pytest.raises(InputError) as caught:
        format_of(model)
    assert caught.value.message == message
    assert caught.value.hint


def test_a_callable_in_a_file_with_arguments(write: Write, tmp_path: Path) -> None:
    write("net.py", CODE)
    module = load_torch(spec("net.py:build", arguments={"out": 7}), str(tmp_path))
    assert isinstance(module, torch.nn.Linear)
    assert module.out_features == 7
    assert not module.training


def test_a_module_that_stands_ready_and_a_module_path(write: Write, tmp_path: Path) -> None:
    write("my_nets/__init__.py", "")
    write("my_nets/linear.py", CODE)
    ready = load_torch(spec("my_nets.linear:module"), str(tmp_path))
    assert isinstance(ready, torch.nn.Linear)
    assert isinstance(load_torch(spec("torch_nets:Two"), str(tmp_path)), nets.Two)


def test_weights_drawn_by_the_callable_are_the_same_each_time(write: Write, tmp_path: Path) -> None:
    write("net.py", CODE)
    first, second = (load_torch(spec("net.py:build"), str(tmp_path)) for _ in range(2))
    assert isinstance(first, torch.nn.Linear)
    assert isinstance(second, torch.nn.Linear)
    assert torch.equal(first.weight, second.weight)


def test_a_callable_that_raises(tmp_path: Path) -> None:
    error = refused(spec("torch_nets:raising"), tmp_path)
    assert error.message == "torch_nets:raising: calling it raised ValueError: no such depth"
    assert "in raising" in error.log


def test_a_callable_with_other_arguments(write: Write, tmp_path: Path) -> None:
    write("net.py", CODE)
    message = refused(spec("net.py:build", arguments={"depth": 3}), tmp_path).message
    assert message.startswith(
        "net.py:build: calling it raised TypeError: build() got an unexpected"
    )


def test_a_callable_that_gives_no_module(tmp_path: Path) -> None:
    error = refused(spec("torch_nets:not_a_module"), tmp_path)
    assert error.message == "torch_nets:not_a_module answered dict, expected a torch.nn.Module"


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".safetensors"])
def test_weights_of_an_architecture(write: Write, tmp_path: Path, suffix: str) -> None:
    write("net.py", CODE)
    state = {"weight": torch.full((3, 4), 2.0), "bias": torch.arange(3.0)}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    module = load_torch(spec("net.py:build", weights=path.name), str(tmp_path))
    assert isinstance(module, torch.nn.Linear)
    assert torch.equal(module.weight, state["weight"])
    assert torch.equal(module.bias, state["bias"])


def test_weights_below_a_key_with_a_prefix(write: Write, tmp_path: Path) -> None:
    write("net.py", CODE)
    state = {"module.weight": torch.ones(3, 4), "module.bias": torch.zeros(3)}
    torch.save({"state_dict": state, "epoch": 7, "lr": 0.1}, tmp_path / "w.th")
    given = spec("net.py:build", weights="w.th", weights_key="state_dict", weights_prefix="module.")
    module = load_torch(given, str(tmp_path))
    assert isinstance(module, torch.nn.Linear)
    assert module.weight.sum() == 12
    error = refused(spec("net.py:build", weights="w.th", weights_key="stat_dict"), tmp_path)
    assert error.message == f"weights {tmp_path / 'w.th'} have no key 'stat_dict'"
    assert error.hint == "Did you mean 'state_dict'?"
    error = refused(spec("net.py:build", weights="w.th", weights_key="state_dict"), tmp_path)
    assert "do not fit net.py:build: Error(s) in loading state_dict for Linear" in error.message
    assert "weights_prefix" in error.hint


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.ones(3, 5), "bias": torch.zeros(3)}, "size mismatch for weight"),
        ({"weight": torch.ones(3, 4)}, 'Missing key(s) in state_dict: "bias"'),
        (
            {"weight": torch.ones(3, 4), "bias": torch.zeros(3), "more": torch.ones(1)},
            'Unexpected key(s) in state_dict: "more"',
        ),
        ([torch.ones(3, 4)], "'list' object has no attribute 'items'"),
        ({1: torch.ones(3, 4)}, "'int' object has no attribute 'removeprefix'"),
    ],
)
def test_weights_that_do_not_fit(write: Write, tmp_path: Path, state: Any, message: str) -> None:
    write("net.py", CODE)
    torch.save(state, tmp_path / "w.pt")
    error = refused(spec("net.py:build", weights="w.pt"), tmp_path)
    assert error.message.startswith(f"weights {tmp_path / 'w.pt'} do not fit net.py:build: ")
    assert message in error.message


@pytest.mark.parametrize("how", ["torch.save", "plain pickle"])
def test_a_pickled_object_is_refused_and_not_run(write: Write, tmp_path: Path, how: str) -> None:
    write("net.py", CODE)
    mark = tmp_path / "it-ran"
    if how == "torch.save":
        torch.save(SideEffect(mark), tmp_path / "w.pt")
    else:
        (tmp_path / "w.pt").write_bytes(pickle.dumps(SideEffect(mark)))
    error = refused(spec("net.py:build", weights="w.pt"), tmp_path)
    reason = "ask for posix.mkdir" if how == "torch.save" else "hold more than tensors"
    assert error.message == f"weights {tmp_path / 'w.pt'} do not load as data: they {reason}"
    assert "weights_only" in error.hint
    assert refused(spec("w.pt"), tmp_path).message.endswith("not TorchScript")
    assert not mark.exists()
    if how == "torch.save":
        torch.load(tmp_path / "w.pt", weights_only=False)
    else:
        pickle.loads((tmp_path / "w.pt").read_bytes())
    assert mark.exists(), "the pickle would have run"


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_weights(write: Write, tmp_path: Path, suffix: str) -> None:
    write("net.py", CODE)
    path = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)({"weight": torch.ones(30, 4)}, path)
    path.write_bytes(path.read_bytes()[:200])
    message = refused(spec("net.py:build", weights=path.name), tmp_path).message
    assert message.startswith(f"weights {path} do not load as data: ")
    path.write_bytes(b"")
    assert (
        "is empty (0 bytes)" in refused(spec("net.py:build", weights=path.name), tmp_path).message
    )


def test_weights_that_are_not_there(write: Write, tmp_path: Path) -> None:
    write("net.py", CODE)
    error = refused(spec("net.py:build", weights="w.pt"), tmp_path)
    assert error.message.startswith("data 'w.pt' not found: looked at ")


def test_torchscript(tmp_path: Path) -> None:
    traced = torch.jit.trace(nets.Two().eval(), (torch.ones(1, 4), torch.ones(1, 4)))
    traced.save(str(tmp_path / "m.pt"))
    loaded = load_torch(spec("m.pt"), str(tmp_path))
    assert isinstance(loaded, torch.jit.ScriptModule)
    assert input_names(loaded) == ["left", "right"]


def test_a_state_dict_without_its_architecture(tmp_path: Path) -> None:
    torch.save(nets.Linear().state_dict(), tmp_path / "m.pt")
    error = refused(spec("m.pt"), tmp_path)
    assert error.message == (
        f"{tmp_path / 'm.pt'} holds a state_dict or a pickled module, not TorchScript"
    )
    assert "weights = 'm.pt'" in error.hint
    torch.save(nets.Linear(), tmp_path / "m.pt")
    assert "not TorchScript" in refused(spec("m.pt"), tmp_path).message


@pytest.mark.parametrize("content", [b"no model at all", b"PK\x03\x04cut"])
def test_what_is_no_torchscript(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.pt").write_bytes(content)
    error = refused(spec("m.pt"), tmp_path)
    assert error.message.startswith(f"{tmp_path / 'm.pt'} is not TorchScript, or is truncated: ")
    assert isinstance(error, ExportError)


@pytest.mark.parametrize(
    ("module", "names", "required"),
    [
        (nets.Linear(), ["x"], ["x"]),
        (nets.Optional(), ["x", "mask", "scale"], ["x"]),
        (torch.jit.script(nets.Optional()), ["x", "mask", "scale"], ["x"]),
        (torch.nn.Sequential(), ["input"], ["input"]),
        (object(), [], []),
    ],
)
def test_input_names(module: Any, names: list[str], required: list[str]) -> None:
    assert input_names(module) == names
    assert input_names(module, required=True) == required


def test_keywords_and_stars_are_no_inputs() -> None:
    class Stars(torch.nn.Module):
        def forward(self, x: Any, *rest: Any, deep: bool = False, **more: Any) -> Any:
            return x

    assert input_names(Stars()) == ["x"]


def test_files_a_model_is_named_by(write: Write, tmp_path: Path) -> None:
    code = write("net.py", CODE)
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"w")
    model = tmp_path / "m.onnx"
    model.write_bytes(b"m")
    folder = str(tmp_path)
    assert source_files(spec("net.py:build", weights="w.pt"), folder) == [code, weights]
    assert source_files(spec("m.onnx"), folder) == [model]
    assert source_files(spec("torch_nets:Two"), folder) == []
    with pytest.raises(InputError, match=r"'gone\.onnx' not found"):
        source_files(spec("gone.onnx"), folder)
