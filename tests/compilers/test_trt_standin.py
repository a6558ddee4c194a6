"""The stand-in of TensorRT refuses what the real ones refuse, in their words."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trt_nets as nets
from onnx import TensorProto

Build = Callable[..., tuple[Any, list[str]]]


@pytest.fixture(params=["10", "11"])
def major(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    nets.place(monkeypatch, request.param, nets.H200)
    yield request.param
    nets.forget()


@pytest.fixture
def trt(major: str) -> Any:
    return nets.standin()


class Errors:
    """A logger of the stand-in's kind that keeps errors and warnings."""

    def __init__(self, trt: Any) -> None:
        self.said: list[str] = []
        said = self.said

        class Kept(trt.ILogger):  # type of the stand-in, which is an argument
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                if severity in (trt.ILogger.ERROR, trt.ILogger.WARNING):
                    said.append(msg)

        self.logger = Kept()


@pytest.fixture
def build(trt: Any) -> Build:
    """Build a model, as told by a change of the configuration; the engine and what was logged."""

    def made(
        model: str, change: Callable[[Any, Any], object] | None = None, *, strong: bool = True
    ) -> tuple[Any, list[str]]:
        errors = Errors(trt)
        builder = trt.Builder(errors.logger)
        flag = int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(1 << flag if strong else 0)
        parser = trt.OnnxParser(network, errors.logger)
        assert parser.parse_from_file(model)
        config = builder.create_builder_config()
        if change:
            change(builder, config)
        return builder.build_serialized_network(network, config), errors.said

    return made


def test_what_11_removed_is_not_there(trt: Any, major: str) -> None:
    removed = ["FP16", "BF16", "INT8", "FP8", "INT4", "OBEY_PRECISION_CONSTRAINTS"]
    config = trt.Builder(trt.Logger()).create_builder_config()
    calls = ["int8_calibrator", "algorithm_selector", "set_calibration_profile"]
    if major == "10":
        assert all(hasattr(trt.BuilderFlag, name) for name in removed)
        assert all(hasattr(config, name) for name in calls)
        assert hasattr(trt.Builder, "platform_has_fast_fp16")
        return
    for name in removed:
        with pytest.raises(AttributeError, match=rf"BuilderFlag' has no attribute '{name}'"):
            getattr(trt.BuilderFlag, name)
    for name in calls:
        with pytest.raises(AttributeError, match=rf"IBuilderConfig' object has no attr.*{name}"):
            getattr(config, name)
        with pytest.raises(AttributeError, match=rf"IBuilderConfig' object has no attr.*{name}"):
            setattr(config, name, None)
    assert not hasattr(trt.Builder, "platform_has_fast_fp16")
    assert not hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH")


def test_what_10_does_not_have_yet(trt: Any, major: str) -> None:
    level = hasattr(trt.HardwareCompatibilityLevel, "SAME_COMPUTE_CAPABILITY")
    config = trt.Builder(trt.Logger()).create_builder_config()
    assert (level, hasattr(config, "max_num_tactics")) == (major == "11", major == "11")
    assert int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == (1 if major == "10" else 0)


def test_flags_of_precision_do_not_go_with_strong_types(
    trt: Any, build: Build, major: str, tmp_path: Path
) -> None:
    if major == "11":
        assert build(nets.float_net(tmp_path / "net.onnx"), strong=False)[0] is not None
        return
    model = nets.float_net(tmp_path / "net.onnx")
    engine, said = build(model, lambda _, config: config.set_flag(trt.BuilderFlag.FP16))
    assert engine is None
    assert said == [
        "IBuilder::buildSerializedNetwork: Error Code 3: API Usage Error (Parameter check failed,"
        " condition: !config.getFlag(BuilderFlag::kFP16). )"
    ]
    engine, said = build(
        model, lambda _, config: config.set_flag(trt.BuilderFlag.FP16), strong=False
    )
    assert (engine is not None, said) == (True, [])


def test_without_a_gpu_there_is_no_builder(
    trt: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENSORRT_STANDIN_GPU", "")
    with pytest.raises(TypeError, match=r"pybind11::init\(\): factory function returned nullptr"):
        trt.Builder(trt.Logger())
    assert "[TRT] [W] CUDA initialization failure with error: 35." in capsys.readouterr().out


def test_a_logger_has_to_be_made_whole(trt: Any) -> None:
    class Half(trt.ILogger):  # type of the stand-in, which is an argument
        def __init__(self) -> None:
            self.lines: list[str] = []

    with pytest.raises(TypeError, match=r"ILogger.__init__\(\) must be called when overriding"):
        Half()
    with pytest.raises(TypeError, match="incompatible function arguments"):
        trt.Builder("no logger")


def test_arguments_of_another_kind_are_refused(trt: Any) -> None:
    builder = trt.Builder(trt.Logger())
    config = builder.create_builder_config()
    with pytest.raises(TypeError, match=r"set_flag\(\): incompatible function arguments"):
        config.set_flag(3)
    with pytest.raises(TypeError, match=r"set_memory_pool_limit\(\): incompatible"):
        config.set_memory_pool_limit(trt.BuilderFlag.TF32, 1)
    with pytest.raises(TypeError, match=r"__init__\(\): incompatible function arguments"):
        trt.OnnxParser(None, trt.Logger())
    with pytest.raises(AttributeError, match="Builder' object has no attribute"):
        _ = builder.build_engine
    config.builder_optimization_level = 9
    assert config.builder_optimization_level == 5
    assert config.get_flag(trt.BuilderFlag.TF32)
    memory = trt.IHostMemory(b"abc")
    assert (bytes(memory), memory.nbytes) == (b"abc", 3)
    with pytest.raises(TypeError, match="no len"):
        len(memory)


def test_a_parser_fills_an_empty_network_once(trt: Any, tmp_path: Path) -> None:
    errors = Errors(trt)
    builder = trt.Builder(errors.logger)
    network = builder.create_network()
    parser = trt.OnnxParser(network, errors.logger)
    data = Path(nets.float_net(tmp_path / "net.onnx")).read_bytes()
    assert parser.supports_model_v2(data)
    assert (network.num_layers, parser.num_errors) == (2, 0)
    assert parser.parse(data) is False
    assert parser.num_errors == 0
    assert errors.said[0].endswith("Parse was called with a non-empty network definition")
    assert network.get_input(0).shape == (1, 3, 8, 8)
    assert network.get_input(1) is None
    assert "Invalid index: 1" in errors.said[-1]


def test_the_parser_names_each_operator_that_it_lacks(trt: Any, major: str, tmp_path: Path) -> None:
    errors = Errors(trt)
    parser = trt.OnnxParser(trt.Builder(errors.logger).create_network(), errors.logger)
    assert not parser.parse_from_file(nets.unknown_net(tmp_path / "net.onnx"))
    found = [parser.get_error(place) for place in range(parser.num_errors)]
    assert [(each.node(), each.node_name(), each.node_operator()) for each in found] == [
        (1, "determinant", "Det"),
        (2, "distinct", "Unique"),
    ]
    assert {each.code() for each in found} == {trt.ErrorCode.UNSUPPORTED_NODE}
    groups = [
        (parser.is_subgraph_supported(place), parser.get_subgraph_nodes(place))
        for place in range(parser.num_subgraphs)
    ]
    assert groups == [(True, [0]), (False, [1, 2])]
    func = "checkDet" if major == "11" else "checkFallbackPluginImporter"
    assert str(found[0]).startswith(
        f"In node 1 with name: determinant and operator: Det ({func}): UNSUPPORTED_NODE: "
    )


def test_the_importer_stops_at_a_zero_point_that_is_not_zero(trt: Any, tmp_path: Path) -> None:
    errors = Errors(trt)
    parser = trt.OnnxParser(trt.Builder(errors.logger).create_network(), errors.logger)
    assert not parser.parse_from_file(nets.quantized_net(tmp_path / "net.onnx", zero=3))
    assert parser.num_errors == 1
    assert parser.get_error(0).desc().startswith("Assertion failed: shiftIsAllZeros(zeroPoint):")


def test_types_do_not_mix_in_a_strongly_typed_network(trt: Any, major: str, tmp_path: Path) -> None:
    nodes = [
        nets.node("Cast", ["x"], ["h"], "narrow", to=TensorProto.FLOAT16),
        nets.node("Add", ["x", "h"], ["y"], "sum"),
    ]
    path = tmp_path / "net.onnx"
    model = nets.helper.make_model(
        nets.helper.make_graph(
            nodes, "net", [nets.tiny.value("x", [1, 3])], [nets.tiny.value("y", [1, 3])]
        ),
        opset_imports=[nets.helper.make_opsetid("", 17)],
    )
    path.write_bytes(model.SerializeToString())
    errors = Errors(trt)
    builder = trt.Builder(errors.logger)
    parser = trt.OnnxParser(builder.create_network(1), errors.logger)
    if major == "11":
        assert not parser.parse_from_file(str(path))
        said = parser.get_error(0).desc()
        assert "must have same input types. But they are of types Float and Half." in said
    strong = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    parser = trt.OnnxParser(builder.create_network(strong), errors.logger)
    assert not parser.parse_from_file(str(path))


def test_profiles_are_held_against_the_network(trt: Any, build: Build, tmp_path: Path) -> None:
    model = nets.float_net(tmp_path / "net.onnx", batch="N")

    def given(name: str, *shapes: tuple[int, ...]) -> Callable[[Any, Any], object]:
        def change(builder: Any, config: Any) -> None:
            profile = builder.create_optimization_profile()
            profile.set_shape(name, *shapes)
            config.add_optimization_profile(profile)

        return change

    small, large = (1, 3, 8, 8), (4, 3, 8, 8)
    for change, text in (
        (None, "Network has dynamic or shape inputs, but no optimization profile"),
        (given("x", large, small, large), "please ensure that the optimization profiles satisfy"),
        (given("z", small, small, large), "Dynamic input tensor x is missing dimensions in prof"),
        (given("x", (1, 3, 9, 8), (1, 3, 9, 8), (1, 3, 9, 8)), "At dimension axis 2, profile has"),
    ):
        engine, said = build(model, change)
        assert engine is None
        assert text in said[0]
    engine, said = build(model, given("x", small, small, large))
    assert (engine.nbytes > 100, said) == (True, [])
    with pytest.raises(RuntimeError, match="inconsistent with other shapes"):
        build(model, given("x", (1, 3), small, large))


def test_arithmetic_that_the_card_lacks(
    trt: Any, build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    models = {
        "FP8": nets.quantized_net(tmp_path / "fp8.onnx", TensorProto.FLOAT8E4M3FN),
        "BF16": nets.typed_net(tmp_path / "bf16.onnx", TensorProto.BFLOAT16),
    }
    for name, model in models.items():
        assert build(model)[0] is not None
        card = '{"name": "Old (stand-in)", "compute_capability": "7.5"}'
        with monkeypatch.context() as within:
            within.setenv("TENSORRT_STANDIN_GPU", card)
            engine, said = build(model)
        assert engine is None
        assert said == [
            f"IBuilder::buildSerializedNetwork: Error Code 9: API Usage Error (Networks with {name}"
            f" precision require hardware with {name} support. )"
        ]


def test_caches_of_another_card_are_not_taken(trt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = Errors(trt)
    config = trt.Builder(errors.logger).create_builder_config()
    cache = config.create_timing_cache(b"")
    assert config.set_timing_cache(cache, ignore_mismatch=False)
    data = bytes(cache.serialize())
    monkeypatch.setenv("TENSORRT_STANDIN_GPU", '{"name": "Other (stand-in)"}')
    other = config.create_timing_cache(data)
    assert not config.set_timing_cache(other, ignore_mismatch=False)
    assert config.set_timing_cache(other, ignore_mismatch=True)
    monkeypatch.setenv("TENSORRT_STANDIN_GPU", '{"name": "NVIDIA H200"}')
    with pytest.raises(ValueError, match="must say stand-in"):
        config.create_timing_cache(b"")
