"""What the TensorRT compiler refuses, and how it says so: hosts, cards, models, options."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import tiny_onnx as tiny
import trt_nets as nets
from onnx import TensorProto

sys.path.append(str(tiny.ROOT / "compilers" / "trt_common"))
import trt_faults

Table = dict[str, Any]
Refused = Callable[..., tuple[str, str, str]]


@pytest.fixture(params=["10", "11"])
def major(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    nets.place(monkeypatch, request.param, nets.H200)
    yield request.param
    nets.forget()


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Class, message and remedy of the fault that a build ends with."""

    def ended(model: str, precision: str = "fp32", **options: object) -> tuple[str, str, str]:
        (tmp_path / "artifact").mkdir(exist_ok=True)
        trt = nets.program()
        with pytest.raises(Exception, match=r"\S") as caught:
            trt.compile_model(model, str(tmp_path / "artifact"), precision, None, options)
        assert list((tmp_path / "artifact").iterdir()) == []
        return (
            type(caught.value).__name__,
            str(caught.value),
            str(getattr(caught.value, "hint", "")),
        )

    return ended


def probed() -> tuple[str, str, str]:
    """Class, message and remedy of the fault that a probe ends with."""
    trt = nets.program()
    with pytest.raises(Exception, match=r"\S") as caught:
        trt.probe()
    return type(caught.value).__name__, str(caught.value), str(getattr(caught.value, "hint", ""))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No stand-in can be imported."""
    nets.forget()
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(nets.FAKES)])
    yield
    nets.forget()


def test_without_the_package_both_ways_to_it_are_told(
    elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, said, hint = probed()
    assert (kind, said.startswith("TensorRT is not installed in ")) == ("Missing", True)
    assert hint.startswith("Install NVIDIA's package: `sudo apt-get install python3-libnvinfer`")
    assert "EDGEDEPLOY_PYTHON_TRT=/path/to/venv/bin/python" in hint
    monkeypatch.setattr("platform.release", lambda: "5.15.148-tegra")
    assert probed()[2].startswith(
        "Install JetPack's own package: `sudo apt-get install python3-lib"
    )


def test_a_package_without_its_libraries_is_missing(
    elsewhere: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = "raise ImportError('libnvonnxparser.so.11: cannot open shared object file')"
    (tmp_path / "tensorrt.py").write_text(lines)
    monkeypatch.syspath_prepend(str(tmp_path))
    kind, said, hint = probed()
    assert kind == "Missing"
    assert said.endswith(
        "cannot be imported: libnvonnxparser.so.11: cannot open shared object file"
    )
    assert hint.startswith("Its libraries are missing, or of another version.")


def test_other_majors_are_refused(
    elsewhere: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tensorrt.py").write_text("__version__ = '8.5.2'")
    monkeypatch.syspath_prepend(str(tmp_path))
    kind, said, _ = probed()
    assert (kind, said) == ("Missing", "TensorRT 10 or 11 is wanted, and 8.5.2 is installed")


def test_without_a_driver_it_is_built_on_the_device(
    major: str, monkeypatch: pytest.MonkeyPatch, refused: Refused, tmp_path: Path
) -> None:
    nets.place(monkeypatch, major, None)
    said = (
        "Missing",
        f"TensorRT {nets.VERSIONS[major]} is here, and nothing to build on: no NVIDIA driver",
        (
            "It times kernels on the card that the engine is for: build there (`compile_on`, or run"
            " edgedeploy on that host), with NVIDIA's driver installed."
        ),
    )
    assert probed() == said
    assert refused(nets.float_net(tmp_path / "net.onnx")) == said


def test_a_builder_that_finds_no_driver_is_missing_one(
    major: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt, standin = nets.program(), nets.standin()
    monkeypatch.setenv("TENSORRT_STANDIN_GPU", "")
    with pytest.raises(trt.Missing, match="finds no NVIDIA driver that it can use"):
        trt.builder_of(standin, standin.Logger())
    with pytest.raises(TypeError, match="incompatible"):
        trt.builder_of(standin, "no logger")


@pytest.mark.parametrize(
    "case", [("tf32", "7.5", "8.0"), ("bf16", "7.2", "8.0"), ("fp8", "8.7", "8.9")]
)
def test_what_the_card_cannot_compute_is_told_before(
    major: str,
    monkeypatch: pytest.MonkeyPatch,
    refused: Refused,
    tmp_path: Path,
    case: tuple[str, str, str],
) -> None:
    precision, capability, least = case
    card = {"name": "Card (stand-in)", "compute_capability": capability}
    nets.place(monkeypatch, major, card)
    assert refused(nets.float_net(tmp_path / "net.onnx"), precision) == (
        "Unsupported",
        f"{precision} needs compute capability {least}, and Card (stand-in) has {capability}",
        "Take fp16, int8 or fp32, or another card.",
    )


def test_compatible_engines_are_refused_where_there_are_none(
    major: str, monkeypatch: pytest.MonkeyPatch, refused: Refused, tmp_path: Path
) -> None:
    model = nets.float_net(tmp_path / "net.onnx")
    kind, said, _ = refused(model, hardware_compatible="ampere")
    assert (kind, said) == ("BadInput", "hardware_compatible: 'ampere' is not known")
    if major == "10":
        kind, said, hint = refused(model, hardware_compatible="same_compute_capability")
        assert kind == "Unsupported"
        assert said.endswith("TensorRT 10.3.0+standin does not have it")
        assert hint == "Take 'ampere_plus', or a newer version."
    nets.place(monkeypatch, major, nets.ORIN)
    kind, said, hint = refused(model, hardware_compatible="ampere_plus")
    assert (kind, hint) == ("Unsupported", "Leave it out, and build on each kind of device.")
    nets.place(monkeypatch, major, nets.H200 | {"lean_library": False})
    kind, said, hint = refused(model, version_compatible=True)
    assert kind == "Missing"
    assert "lean runtime, which is not installed" in said


def test_operators_are_named_before_the_build(major: str, refused: Refused, tmp_path: Path) -> None:
    kind, said, hint = refused(nets.unknown_net(tmp_path / "net.onnx"))
    assert kind == "Unsupported"
    assert said == (
        "the parser cannot take node 'determinant' (Det): there is no such operator;"
        " node 'distinct' (Unique): there is no such operator"
    )
    assert hint.startswith("Rewrite it with other operators")
    log = (tmp_path / "kept" / "build.log").read_text("utf-8")
    assert 'While parsing node number 1 [Det -> "d"]' in log


def test_zero_points_have_to_be_zero(major: str, refused: Refused, tmp_path: Path) -> None:
    model = nets.quantized_net(tmp_path / "net.onnx", TensorProto.UINT8, zero=128)
    kind, said, hint = refused(model, "int8")
    assert kind == "Unsupported"
    assert said == (
        "the parser cannot take node 'q' (QuantizeLinear): its zero point is not 0, and"
        " quantization has to be symmetric"
    )
    assert "symmetric_activation = true" in hint


@pytest.mark.parametrize(
    ("precision", "lacks"),
    [
        ("fp16", "no float16 tensor"),
        ("bf16", "no bfloat16 tensor"),
        ("int8", "no Q/DQ nodes"),
        ("fp8", "no Q/DQ nodes"),
    ],
)
def test_a_float_model_is_not_converted(
    major: str, refused: Refused, tmp_path: Path, precision: str, lacks: str
) -> None:
    kind, said, _ = refused(nets.float_net(tmp_path / "net.onnx"), precision)
    assert kind == "BadInput"
    assert said == (
        f"{precision}: net.onnx has {lacks}, and the compiler does not convert a model by itself"
    )


def test_a_converted_model_is_no_fp32(major: str, refused: Refused, tmp_path: Path) -> None:
    kind, said, _ = refused(nets.quantized_net(tmp_path / "net.onnx"), "fp32")
    assert (kind, said) == ("BadInput", "fp32: net.onnx computes in int8 in places")


def test_the_failures_of_a_build_have_their_kind(
    major: str, monkeypatch: pytest.MonkeyPatch, refused: Refused, tmp_path: Path
) -> None:
    model = tiny.conv_net(tmp_path / "net.onnx")
    kind, said, hint = refused(model, workspace_bytes=1000)
    assert kind == "Unsupported"
    assert said == (
        "no kernel of this card can compute node 'first', within workspace_bytes = 1000 (0 is no"
        " limit)"
    )
    assert hint == "Raise `workspace_bytes`, or take another precision."
    nets.place(monkeypatch, major, nets.H200 | {"free_bytes": 4000})
    kind, said, hint = refused(model)
    assert (kind, said) == ("Missing", "the builder ran out of memory")
    log = (tmp_path / "kept" / "build.log").read_text("utf-8")
    assert "Error Code 2: OutOfMemory" in log


def test_free_axes_need_a_profile(major: str, refused: Refused, tmp_path: Path) -> None:
    model = nets.float_net(tmp_path / "net.onnx", batch="N")
    kind, said, hint = refused(model)
    assert (kind, hint) == ("BadInput", "Set `max_batch`.")
    assert said.startswith("input 'x' is [-1, 3, 8, 8] (-1 is free), and no profile says")
    shapes = {"min": [1, 3, 8, 8], "opt": [2, 3, 9, 8], "max": [4, 3, 9, 8]}
    kind, said, _ = refused(model, profiles={"x": shapes})
    assert (kind, said.endswith("opt is [2, 3, 9, 8]")) == ("BadInput", True)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"workspace": 1}, ("BadInput", "option 'workspace' is not known")),
        ({"workspace_bytes": -1}, ("BadInput", "option workspace_bytes is -1, expected 0 or more")),
        ({"optimization_level": 6}, ("BadInput", "optimization_level: 6 is not known")),
        ({"timing_cache": 1}, ("BadInput", "option timing_cache is 1, expected a value like True")),
        (
            {"compute_capability": "8.6"},
            (
                "Unsupported",
                "option compute_capability: TensorRT builds for the card that it runs on",
            ),
        ),
    ],
)
def test_options_that_are_wrong(
    major: str, refused: Refused, tmp_path: Path, options: Table, wanted: tuple[str, str]
) -> None:
    assert refused(nets.float_net(tmp_path / "net.onnx"), **options)[:2] == wanted


def test_precisions_and_files_that_are_wrong(major: str, refused: Refused, tmp_path: Path) -> None:
    kind, said, _ = refused(nets.float_net(tmp_path / "net.onnx"), "int4")
    assert (kind, said.startswith("precision 'int4': TensorRT builds in fp32")) == (
        "Unsupported",
        True,
    )
    path = tmp_path / "bad.onnx"
    for data in (b"", b"\x08", b"hello world"):
        path.write_bytes(data)
        kind, said, _ = refused(str(path))
        assert (kind, said.startswith("bad.onnx is no ONNX model")) == ("BadInput", True), data


@pytest.fixture
def prepare(elsewhere: None, tmp_path: Path) -> Callable[..., Table]:
    """Write what the builder would be given, without it."""

    def prepared(model: str, precision: str = "fp32", **options: object) -> Table:
        (tmp_path / "given").mkdir(exist_ok=True)
        trt = nets.program()
        found: Table = trt.prepare_model(model, str(tmp_path / "given"), precision, None, options)
        assert sorted(path.name for path in (tmp_path / "given").iterdir()) == found["files"]
        return found

    return prepared


def test_without_the_toolchain_the_model_and_its_command_are_written(
    prepare: Callable[..., Table], tmp_path: Path
) -> None:
    model = nets.float_net(tmp_path / "net.onnx", batch="N")
    answer = prepare(model, "tf32", max_batch=4, optimization_level=4)
    assert (tmp_path / "given" / "commands.txt").read_text("utf-8") == answer["script"]
    assert answer["script"] == (
        "trtexec \\\n  --onnx=model.onnx \\\n  --saveEngine=model.engine \\\n"
        "  --builderOptimizationLevel=4 \\\n  --minShapes=x:1x3x8x8 \\\n"
        "  --optShapes=x:4x3x8x8 \\\n  --maxShapes=x:4x3x8x8 \\\n  --stronglyTyped \\\n"
        "  --profilingVerbosity=detailed \\\n  --exportLayerInfo=layers.json \\\n"
        "  --timingCacheFile=timing.cache \\\n  --skipInference\n"
    )
    kept = onnx.load(str(tmp_path / "given" / "model.onnx"))
    assert kept.graph.node[0].name == "stem"
    assert (answer["notes"], answer["warnings"]) == ([], [])
    answer = prepare(nets.sparse_net(tmp_path / "sparse.onnx"), "fp32")
    assert "  --noTF32 \\\n  --sparsity=enable \\\n" in answer["script"]
    assert answer["notes"] == ["2:4 sparse weights in 1 of 3 layers (33 %): sparse kernels allowed"]


def test_preparing_names_operators_as_the_parser_does(
    prepare: Callable[..., Table], tmp_path: Path
) -> None:
    with pytest.raises(Exception, match="no such operator") as caught:
        prepare(nets.unknown_net(tmp_path / "net.onnx"))
    assert type(caught.value).__name__ == "Unsupported"
    assert str(caught.value) == (
        "TensorRT has no such operator: node 'determinant' (Det); node 'distinct' (Unique)"
    )
    shapes = {"min": [1], "opt": [1], "max": [1]}
    with pytest.raises(Exception, match=r"profiles: input 'z' is not known"):
        prepare(nets.float_net(tmp_path / "net.onnx"), profiles={"z": shapes})


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        (
            "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any"
            " implementation for node {ForeignNode[a...b]}. In computeCosts at"
            " optimizer/common/tactic/optimizer.cpp:4115)",
            "Unsupported",
            "no kernel of this card can compute node '{ForeignNode[a...b]}', within",
        ),
        (
            "10: Could not find any implementation for node conv1 due to insufficient workspace."
            " See verbose log for requested sizes.",
            "BadInput",
            "no kernel fits workspace_bytes = 5",
        ),
        (
            "Skipping tactic 0 due to insuficient memory on requested size of 1170309120 detected"
            " for tactic 0.",
            "Missing",
            "the card has too little free memory",
        ),
        (
            "Requested amount of GPU memory (5368709120 bytes) could not be allocated. There may"
            " not be enough free memory for allocation to succeed.",
            "Missing",
            "the card has too little free memory",
        ),
        (
            "Error Code 9: API Usage Error (Networks with BF16 precision require hardware with BF16"
            " support. )",
            "Unsupported",
            "the card here has no arithmetic in BF16",
        ),
        ("Error Code 2: OutOfMemory (Requested size was 9 bytes.)", "Missing", "the builder ran"),
        ("Error Code 7: something new", "RuntimeError", "the builder gave no engine: Error Code 7"),
    ],
)
def test_what_the_builder_logs_is_told_by_its_kind(line: str, kind: str, said: str) -> None:
    fault = trt_faults.of_builder([line], {"workspace_bytes": 5})
    assert (type(fault).__name__, str(fault).startswith(said)) == (kind, True), str(fault)
