"""What every runtime on the host does alike: load, run, bind, layers, and what it refuses."""

import gc
import statistics
import tempfile
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

every_runtime = pytest.mark.parametrize("runtime", ["ort", "openvino"], indirect=True)
TYPES = {
    "half": (np.float16, TensorProto.FLOAT16),
    "long": (np.int64, TensorProto.INT64),
    "byte": (np.uint8, TensorProto.UINT8),
    "flag": (np.bool_, TensorProto.BOOL),
}


@pytest.fixture
def model(tiny: ModuleType, tmp_path: Path) -> str:
    return str(tiny.conv_net(tmp_path / "net.onnx"))


@pytest.fixture
def typed(tiny: ModuleType, tmp_path: Path) -> str:
    """Four inputs of four types, each to an output of its own: doubled, or turned over."""
    nodes = [
        helper.make_node(
            "Not" if name == "flag" else "Add",
            [name] * (1 if name == "flag" else 2),
            [f"{name}/out"],
        )
        for name in TYPES
    ]
    inputs = [tiny.value(name, (2, 3), kind) for name, (_, kind) in TYPES.items()]
    outputs = [tiny.value(f"{name}/out", (2, 3), kind) for name, (_, kind) in TYPES.items()]
    return str(tiny.write(tmp_path / "typed.onnx", nodes, inputs, outputs))


@every_runtime
def test_load_describes_inputs_outputs_and_effective_options(
    runtime: ModuleType, model: str
) -> None:
    answer = runtime.load(model, {"threads": 2})
    assert answer["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 3, 16, 16]}]
    assert answer["outputs"] == [{"name": "y", "dtype": "float32", "shape": [1, 5]}]
    assert answer["options"]["threads"] == 2
    assert runtime.memory() == {}
    facts = runtime.facts()
    assert facts["tools"] == runtime.probe()["tools"]
    assert 2 in {facts.get("threads"), facts.get("inference_num_threads")}


@every_runtime
def test_run_computes_the_model(runtime: ModuleType, tiny: ModuleType, model: str) -> None:
    runtime.load(model, {})
    arrays = tiny.images(3)
    expected = tiny.outputs_of(model, arrays)
    found = np.stack([runtime.run({"x": array})["y"] for array in arrays])
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(expected).max() > 0.1


@every_runtime
def test_types_and_names_of_many_inputs_and_outputs(runtime: ModuleType, typed: str) -> None:
    answer = runtime.load(typed, {})
    expected = [(name, np.dtype(kind).name) for name, (kind, _) in TYPES.items()]
    assert [(i["name"], i["dtype"]) for i in answer["inputs"]] == expected
    assert [o["name"] for o in answer["outputs"]] == [f"{name}/out" for name in TYPES]
    inputs = {
        name: np.array([[0, 1, 2], [3, 4, 0]]).astype(kind) for name, (kind, _) in TYPES.items()
    }
    found = runtime.run(inputs)
    for name, array in inputs.items():
        wanted = ~array if name == "flag" else array + array
        assert found[f"{name}/out"].dtype == array.dtype
        np.testing.assert_array_equal(found[f"{name}/out"], wanted)


@every_runtime
def test_free_dimensions_have_names_and_take_any_size(
    runtime: ModuleType, tiny: ModuleType, tmp_path: Path
) -> None:
    model = tiny.conv_net(tmp_path / "free.onnx", batch="N")
    answer = runtime.load(model, {})
    batch, *rest = answer["inputs"][0]["shape"]
    assert isinstance(batch, str)
    assert rest == [3, 16, 16]
    for count in (1, 3):
        found = runtime.run({"x": tiny.images(count).reshape(count, 3, 16, 16)})["y"]
        assert found.shape == (count, 5)
        assert runtime.layers({"x": np.zeros((count, 3, 16, 16), np.float32)}, 2)


@every_runtime
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "inputs given are [], the model's are ['x']"),
        ({"x": (1, 3, 16, 16), "z": (1,)}, "inputs given are ['x', 'z'], the model's are ['x']"),
        ({"x": (1, 3, 16)}, "float32 (1, 3, 16), expected float32 (1, 3, 16, 16)"),
        ({"x": (2, 3, 16, 16)}, "float32 (2, 3, 16, 16), expected float32 (1, 3, 16, 16)"),
    ],
)
def test_wrong_inputs_say_what_was_found_and_expected(
    runtime: ModuleType, model: str, inputs: dict[str, tuple[int, ...]], message: str
) -> None:
    runtime.load(model, {})
    arrays = {name: np.zeros(shape, np.float32) for name, shape in inputs.items()}
    for call in (runtime.run, runtime.bind, lambda given: runtime.layers(given, 1)):
        with pytest.raises(runtime.BadInput) as caught:
            call(arrays)
        assert message in str(caught.value)
        assert caught.value.hint


@every_runtime
def test_wrong_dtype_is_refused_not_converted(runtime: ModuleType, model: str) -> None:
    runtime.load(model, {})
    with pytest.raises(runtime.BadInput, match="'x' is float64") as caught:
        runtime.run({"x": np.zeros((1, 3, 16, 16))})
    assert "dtype" in caught.value.hint


@every_runtime
@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"thread": 1}, "option 'thread' is not known", "'threads'"),
        ({"threads": 0}, "option threads is 0", "1 or more"),
        ({"threads": "all"}, "option threads is 'all'", "1 or more"),
    ],
)
def test_wrong_options_are_refused(
    runtime: ModuleType, model: str, options: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(runtime.BadInput) as caught:
        runtime.load(model, options)
    assert message in str(caught.value)
    assert hint in caught.value.hint


@every_runtime
def test_nothing_runs_before_load_and_a_broken_artifact_is_refused(
    runtime: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(runtime.BadInput, match="no artifact is loaded"):
        runtime.run({})
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07nothing")
    with pytest.raises(runtime.BadInput, match=r"broken\.onnx"):
        runtime.load(str(tmp_path / "broken.onnx"), {})


@every_runtime
def test_bound_call_infers_anew_each_time_on_inputs_of_its_own(
    runtime: ModuleType, tiny: ModuleType, tmp_path: Path
) -> None:
    # what the call leaves must follow the inputs it was bound to, whatever happens to them later
    counter = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"], name="noise"),
        helper.make_node("Add", ["x", "noise"], ["y"], name="add"),
    ]
    ends = [tiny.value("x", (4,))], [tiny.value("y", (4,))]
    runtime.load(tiny.write(tmp_path / "noise.onnx", counter, *ends), {})
    array = np.full(4, 100, np.float32)
    call = runtime.bind({"x": array})
    array[:] = -1000
    first, second = (np.array(results(call())) for _ in range(2))
    assert (first > 50).all()
    assert (second > 50).all()
    assert (first != second).any()


def results(answer: Any) -> NDArray[Any]:
    """The first output of what a bound call of either runtime gives back."""
    values = list(answer.values()) if hasattr(answer, "values") else list(answer)
    return np.asarray(values[0])


@every_runtime
def test_bound_calls_run_at_once_and_do_not_mix(
    runtime: ModuleType, tiny: ModuleType, model: str
) -> None:
    runtime.load(model, {})
    arrays = tiny.images(4)
    expected = tiny.outputs_of(model, arrays)
    calls = [runtime.bind({"x": array}) for array in arrays]
    worst = [0.0] * len(calls)

    def work(place: int) -> None:
        for _ in range(50):
            error = np.abs(results(calls[place]()) - expected[place]).max()
            worst[place] = max(worst[place], float(error))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(worst) < 1e-4


@every_runtime
def test_layers_add_up_to_about_a_run_and_leave_no_file(
    runtime: ModuleType, tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    weights = {
        name: draw.standard_normal((256, 256, 3, 3)).astype(np.float32) for name in ("a", "b")
    }
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["m"], name="one", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["m", "b"], ["y"], name="two", pads=[1, 1, 1, 1]),
    ]
    ends = [tiny.value("x", (1, 256, 14, 14))], [tiny.value("y", (1, 256, 14, 14))]
    path = tiny.write(tmp_path / "heavy.onnx", nodes, *ends, weights)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(tempfile, "tempdir", str(work))
    runtime.load(path, {})
    inputs = {"x": np.zeros((1, 256, 14, 14), np.float32)}
    rows = runtime.layers(inputs, 10)
    assert list(work.iterdir()) == []
    assert all(set(row) == {"name", "op", "time_s"} and row["time_s"] >= 0 for row in rows)
    convolutions = [row for row in rows if "conv" in row["op"].lower()]
    assert len(convolutions) == 2
    call = runtime.bind(inputs)
    durations = []
    for _ in range(20):
        before = time.perf_counter()
        call()
        durations.append(time.perf_counter() - before)
    total = sum(row["time_s"] for row in rows)
    assert min(durations) / 3 < total < statistics.median(durations) * 5
    # as many multiplications in each
    times = [row["time_s"] for row in convolutions]
    assert max(times) < 4 * min(times)


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_openvino_computes_in_float32_and_does_not_pin(runtime: ModuleType, model: str) -> None:
    assert runtime.load(model, {})["options"]["precision_hint"] == "f32"
    facts = runtime.facts()
    assert facts["inference_precision_hint"] == "f32"
    assert facts["enable_cpu_pinning"] is False
    assert (facts["num_streams"], facts["inference_num_threads"]) == (1, 1)
    with pytest.raises(runtime.BadInput, match="precision_hint 'fp32' is not known"):
        runtime.load(model, {"precision_hint": "fp32"})


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_openvino_compiles_again_only_for_streams_that_live_at_once(
    runtime: ModuleType, tiny: ModuleType, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"x": tiny.images(1)[0]}
    compiled = []
    compile_once = runtime.Loaded.compile

    def counted(self: Any, **more: object) -> Any:
        compiled.append(more)
        return compile_once(self, **more)

    monkeypatch.setattr(runtime.Loaded, "compile", counted)
    runtime.load(model, {})
    for _ in range(3):
        call = runtime.bind(inputs)
        del call
        gc.collect()
    assert len(compiled) == 1
    kept = [runtime.bind(inputs) for _ in range(3)]
    assert len(compiled) == 3
    runtime.load(model, {"streams": 2})
    kept = [runtime.bind(inputs) for _ in range(4)]
    assert len(compiled) == 3 + 2
    assert len(kept) == 4


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_openvino_runs_the_int8_that_onnx_runtime_quantized(
    runtime: ModuleType, tiny: ModuleType, model: str, tmp_path: Path
) -> None:
    data = tiny.samples(tmp_path / "calibration.npz", x=tiny.images())
    quantized = tiny.program("compilers", "ort").quantize_model(model, str(tmp_path), data, {})
    compiler = tiny.program("compilers", "openvino")
    answer = compiler.compile_model(quantized["path"], str(tmp_path), "int8", None, {})
    runtime.load(answer["path"], {})
    arrays = tiny.images(8, seed=9)
    found = np.stack([runtime.run({"x": array})["y"] for array in arrays])
    assert tiny.snr_db(tiny.outputs_of(model, arrays), found) > 30
    assert tiny.snr_db(tiny.outputs_of(quantized["path"], arrays), found) > 35


@pytest.mark.parametrize("runtime", ["ort"], indirect=True)
def test_onnx_runtime_is_given_the_options_named(runtime: ModuleType, model: str) -> None:
    options = {"threads": 2, "spinning": True, "graph_optimization": "disable"}
    settings = runtime.session_options({**runtime.DEFAULTS, **options})
    assert settings.intra_op_num_threads == 2
    assert settings.inter_op_num_threads == 1
    assert settings.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    quiet = runtime.session_options(runtime.DEFAULTS)
    assert quiet.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    runtime.load(model, options)
    inputs = {"x": np.zeros((1, 3, 16, 16), np.float32)}
    assert "Relu" in {row["op"] for row in runtime.layers(inputs, 1)}
    runtime.load(model, {})
    assert "Relu" not in {row["op"] for row in runtime.layers(inputs, 1)}
    with pytest.raises(runtime.BadInput, match="provider 'CPU' is not known") as caught:
        runtime.load(model, {"provider": "CPU"})
    assert "CPUExecutionProvider" in caught.value.hint


@pytest.mark.parametrize("runtime", ["ort"], indirect=True)
def test_bound_call_of_onnx_runtime_is_the_bare_call(runtime: ModuleType, model: str) -> None:
    runtime.load(model, {})
    call: Any = runtime.bind({"x": np.zeros((1, 3, 16, 16), np.float32)})
    assert call.func == runtime.current().session.run
    assert call.args[0] == ["y"]
    assert call.keywords == {}
