"""The numbers of an ESP32 on this host: those of the artifact, proven, in batches, and no time."""

import importlib.util
import json
import shutil
import sys
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("esp_ppq") is None,
    reason="the optional toolchain esp-ppq is not installed",
)
Array = NDArray[Any]


@pytest.fixture(scope="session")
def nets(tiny: ModuleType) -> ModuleType:
    """The module tests/compilers/espdl_nets.py, which shares what it compiles with its tests."""
    if "espdl_nets" not in sys.modules:
        path = Path(__file__).parents[2] / "compilers" / "espdl_nets.py"
        spec = importlib.util.spec_from_file_location("espdl_nets", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["espdl_nets"] = module
        spec.loader.exec_module(module)
    return sys.modules["espdl_nets"]


@pytest.fixture
def emulator(tiny: ModuleType) -> ModuleType:
    module: ModuleType = tiny.program("profilers/runtime", "espdl")
    return module


@pytest.fixture
def copy(nets: ModuleType, tmp_path: Path) -> Path:
    """An artifact of one's own, with what is kept beside it."""
    compiled = nets.compiled("plain")
    shutil.copytree(compiled.path.parent, tmp_path / "artifact")
    shutil.copytree(compiled.kept, tmp_path / "kept")
    return tmp_path / "artifact" / "model.espdl"


def test_it_keeps_the_contract_of_runtimes(emulator: ModuleType) -> None:
    wanted = {
        "probe": [],
        "load": ["artifact", "options"],
        "run": ["inputs"],
        "run_many": ["samples"],
        "bind": ["inputs"],
        "timed": ["inputs", "warm_up", "count"],
        "facts": [],
        "layers": ["inputs", "count"],
        "memory": [],
    }
    found = {name: list(signature(getattr(emulator, name)).parameters) for name in wanted}
    assert found == wanted
    assert emulator.probe()["tools"]["esp-ppq"] == "1.3.12"


def test_nothing_is_timed(emulator: ModuleType) -> None:
    answer = emulator.timed({}, 0, 10)
    assert [answer[key] for key in ("latency_s", "cycles", "instructions")] == [None] * 3
    assert "emulated" in answer["notes"][0]
    assert emulator.layers({}, 3) == []
    assert emulator.memory() == {}
    with pytest.raises(emulator.Unsupported, match="its time is not the chip's") as caught:
        emulator.bind({})
    assert "board" in caught.value.hint


def test_load_describes_the_ends_as_the_model_has_them(
    emulator: ModuleType, nets: ModuleType
) -> None:
    answer = emulator.load(str(nets.compiled("ends").path), {})
    shapes = {end["name"]: end["shape"] for end in answer["inputs"] + answer["outputs"]}
    assert shapes == {
        "x": [1, 3, 8, 10],
        "z": [1, 4],
        "y": [1, 6],
        "both": [1, 16, 8, 10],
        "rows_out": [1, 8, 20],
        "moved": [1, 8, 10, 8],
        "level": [1],
    }
    assert {end["dtype"] for end in answer["inputs"] + answer["outputs"]} == {"float32"}
    assert answer["options"] == {"kept": "", "threads": 1, "batch": 32}
    facts = emulator.facts()
    assert facts["emulated"] is True
    assert facts["tools"] == emulator.probe()["tools"]


@pytest.mark.parametrize(
    ("network", "precision", "options", "dtype"),
    [
        ("ends", "int8", "{}", np.int8),
        ("uneven", "int16", "{}", np.int16),
        ("uneven", "mixed", '{"int16_layers": ["narrow"]}', np.int16),
    ],
)
def test_it_gives_the_embedded_vectors_bit_by_bit(
    emulator: ModuleType,
    nets: ModuleType,
    *,
    network: str,
    precision: str,
    options: str,
    dtype: type[Any],
) -> None:
    compiled = nets.compiled(network, precision, options)
    emulator.load(str(compiled.path), {})
    found, first = nets.read(compiled.path), first_sample(compiled.network.samples)
    kept = json.loads(found.metadata["edgedeploy"])
    vectors = {tensor.name: tensor.values for tensor in [*found.inputs, *found.outputs]}
    for names, ends, given in (
        (found.input_names, kept["inputs"], emulator.quantized_inputs(first)),
        (found.output_names, kept["outputs"], emulator.run_quantized(first)),
    ):
        for name, end in zip(names, ends, strict=True):
            np.testing.assert_array_equal(given[end["name"]], vectors[name])
            assert given[end["name"]].dtype == vectors[name].dtype
    assert {vectors[name].dtype.type for name in found.output_names} == {dtype}


def first_sample(samples: dict[str, Array]) -> dict[str, Array]:
    return {name: values[0] for name, values in samples.items()}


@pytest.mark.parametrize("network", ["plain", "ends", "uneven"])
def test_many_at_once_are_each_as_alone_and_near_the_float_model(
    emulator: ModuleType, nets: ModuleType, tiny: ModuleType, *, network: str
) -> None:
    compiled = nets.compiled(network)
    samples = compiled.network.samples
    emulator.load(str(compiled.path), {"batch": 5})
    # a reshape to [1, 8, -1] does not hinder
    assert emulator.facts()["batch"] == 5
    many = emulator.run_many(samples)
    truth = nets.float_outputs(compiled.network)
    for i in range(nets.COUNT):
        alone = emulator.run({name: values[i] for name, values in samples.items()})
        for name, value in alone.items():
            assert value.dtype == np.float32
            np.testing.assert_array_equal(many[name][i], value)
    for name, exact in truth.items():
        assert many[name].shape == exact.shape
        assert tiny.snr_db(exact, many[name]) > (8 if network == "uneven" else 20)


def test_one_by_one_gives_the_same(emulator: ModuleType, nets: ModuleType) -> None:
    compiled = nets.compiled("ends")
    samples = {name: values[:3] for name, values in compiled.network.samples.items()}
    emulator.load(str(compiled.path), {"batch": 3})
    batched = emulator.run_many(samples)
    emulator.load(str(compiled.path), {"batch": 1})
    assert emulator.facts()["batch"] == 1
    for name, value in emulator.run_many(samples).items():
        np.testing.assert_array_equal(value, batched[name])


def test_a_changed_artifact_or_graph_is_refused(emulator: ModuleType, copy: Path) -> None:
    emulator.load(str(copy), {})
    sound = copy.read_bytes()
    copy.write_bytes(sound[:2000] + bytes([sound[2000] ^ 1]) + sound[2001:])
    with pytest.raises(emulator.BadInput, match="they differ from byte 2000 on") as caught:
        emulator.load(str(copy), {})
    assert "Compile it again" in caught.value.hint
    with pytest.raises(emulator.BadInput, match="no artifact is loaded"):
        emulator.run({})
    copy.write_bytes(sound)
    kept = copy.parent.parent / "kept" / "graph.npz"
    with np.load(kept) as archive:
        arrays = {name: archive[name] for name in archive.files}
    weights = max(arrays, key=lambda name: arrays[name].size)
    arrays[weights] = arrays[weights] * np.float32(1.5)
    np.savez(kept, **arrays)
    with pytest.raises(emulator.BadInput, match=r"is not what .* is kept for"):
        emulator.load(str(copy), {})


def test_what_is_kept_may_lie_elsewhere_but_must_be_there(
    emulator: ModuleType, copy: Path, tmp_path: Path
) -> None:
    shutil.move(tmp_path / "kept", tmp_path / "moved")
    with pytest.raises(emulator.BadInput, match=r"cannot be emulated.*graph\.json") as caught:
        emulator.load(str(copy), {})
    assert "kept" in caught.value.hint
    assert emulator.load(str(copy), {"kept": str(tmp_path / "moved")})["outputs"]


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"bach": 4}, "option 'bach' is not known", "'batch'"),
        ({"batch": 0}, "option batch is 0", "1 or more"),
        ({"threads": "all"}, "option threads is 'all'", "1 or more"),
    ],
)
def test_options_are_refused(
    emulator: ModuleType, *, options: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(emulator.BadInput) as caught:
        emulator.load("model.espdl", options)
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_wrong_inputs_say_what_was_found_and_expected(
    emulator: ModuleType, nets: ModuleType
) -> None:
    emulator.load(str(nets.compiled("plain").path), {})
    with pytest.raises(emulator.BadInput, match=r"inputs given are \['z'\], the model's are"):
        emulator.run({"z": np.zeros(3, np.float32)})
    with pytest.raises(emulator.BadInput, match=r"float64 .*, expected float32 \(1, 3, 16, 16\)"):
        emulator.run({"x": np.zeros((1, 3, 16, 16))})
    with pytest.raises(emulator.BadInput, match=r"expected float32 \(2, 1, 3, 16, 16\)"):
        emulator.run_many({"x": np.zeros((2, 3, 16, 16), np.float32)})


def test_biases_of_int16_are_those_of_the_file(emulator: ModuleType, nets: ModuleType) -> None:
    """Half a step added to more than 2^23 of them is lost, or becomes a step, in float32."""
    from esp_ppq.quantization.qfunction import PPQuantFunction

    emulator.load(str(nets.compiled("plain", "int16").path), {})
    largest = 0.0
    for op in emulator.current().graph.operations.values():
        if op.type not in {"Conv", "Gemm"} or len(op.inputs) < 3:
            continue
        bias, config = op.inputs[2].value, op.config.input_quantization_config[2]
        scale = float(config.scale)
        steps = PPQuantFunction(bias, config).double().numpy() / scale
        assert np.array_equal(steps, np.floor(bias.double().numpy() / scale + 0.5)), op.name
        largest = max(largest, float(np.abs(steps).max()))
    assert largest > 2**23
