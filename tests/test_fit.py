"""Does a model fit a board: the planner's laws, and known networks against known boards."""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_graphs import model, node

from edgedeploy.errors import InputError, UnsupportedError
from edgedeploy.fit import Fit, Live, check_fit, lives, plan
from edgedeploy.graph.count import parameters
from edgedeploy.graph.simplify import simplify
from edgedeploy.records import Target
from edgedeploy.target import load_target

MIB = 2**20
DIGITS = (1, 1, 8, 8)
TENSORS = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=20
)


def tensors(drawn: Sequence[tuple[int, int, int]]) -> list[Live]:
    return [
        Live(name=f"t{i}", size_bytes=size, first=min(a, b), last=max(a, b))
        for i, (size, a, b) in enumerate(drawn)
    ]


def aligned(size: int) -> int:
    return -(-size // 16) * 16


@given(drawn=TENSORS, sram=st.sampled_from([0, 16, 1000, 10**9]))
def test_no_two_tensors_alive_together_overlap(
    drawn: list[tuple[int, int, int]], sram: int
) -> None:
    placed = plan(tensors(drawn), sram)
    assert sorted(p.name for p in placed) == sorted(t.name for t in tensors(drawn))
    for i, one in enumerate(placed):
        assert one.offset % 16 == 0
        assert one.region == "psram" or one.end <= sram
        for other in placed[:i]:
            apart = one.last < other.first or other.last < one.first
            beside = one.end <= other.offset or other.end <= one.offset
            assert apart or beside or one.region != other.region


@given(drawn=TENSORS)
def test_the_arena_is_between_what_is_alive_at_once_and_all_of_it(
    drawn: list[tuple[int, int, int]],
) -> None:
    given_tensors = tensors(drawn)
    arena = max(p.end for p in plan(given_tensors, 10**9))
    alive = max(
        sum(aligned(t.size_bytes) for t in given_tensors if t.first <= step <= t.last)
        for step in range(13)
    )
    assert alive <= arena <= sum(aligned(t.size_bytes) for t in given_tensors)


@given(drawn=TENSORS)
def test_the_plan_does_not_depend_on_the_order_given(drawn: list[tuple[int, int, int]]) -> None:
    assert plan(tensors(drawn), 4096) == plan(tensors(drawn)[::-1], 4096)


def test_a_chain_needs_two_neighbours_at_most() -> None:
    chain = [Live(name=f"t{i}", size_bytes=160, first=i, last=i + 1) for i in range(9)]
    assert max(p.end for p in plan(chain, 10**9)) == 320


def test_views_and_fused_activations_take_no_tensor() -> None:
    made = graphs.classifier()
    names = {live.name: (live.first, live.last, live.size_bytes) for live in lives(made, 1)}
    assert names == {
        "x": (-1, 5, 3 * 8 * 8),  # an input keeps its memory
        "c": (0, 2, 6 * 8 * 8),  # with the ReLU behind it
        "m": (2, 4, 6),  # with the Flatten behind it
        "y": (4, 5, 5),
    }
    assert {live.size_bytes for live in lives(made, 2)} == {384, 768, 12, 10}


def test_an_activation_whose_input_is_needed_again_takes_a_tensor() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("Add", ["c", "r"], ["y"]),
    ]
    made = model(
        nodes, {"x": (1, 3, 4, 4)}, {"y": (1, 3, 4, 4)}, {"w": np.ones((3, 3, 1, 1), np.float32)}
    )
    assert [live.name for live in lives(made, 1)] == ["x", "c", "r", "y"]


def resnet50() -> onnx.ModelProto:
    """ResNet-50 for 224 px with normalisation folded: shapes alone, its weights hold nothing."""
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(name: str, *shape: int) -> str:
        weights.append(TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT))
        return name

    def conv(x: str, channels: tuple[int, int], kernel: int, stride: int = 1) -> str:
        name = f"conv{len(nodes)}"
        inputs = [
            x,
            weight(f"{name}_w", channels[1], channels[0], kernel, kernel),
            weight(f"{name}_b", channels[1]),
        ]
        pads = [kernel // 2] * 4
        nodes.append(node("Conv", inputs, [name], pads=pads, strides=[stride, stride]))
        return name

    def apply(kind: str, *inputs: str, **attributes: object) -> str:
        name = f"{kind}{len(nodes)}"
        nodes.append(node(kind, list(inputs), [name], **attributes))
        return name

    x = apply("Relu", conv("image", (3, 64), 7, 2))
    x = apply("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    wide = 64
    for inner, count, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            stride = first_stride if i == 0 else 1
            y = apply("Relu", conv(x, (wide, inner), 1))
            y = conv(apply("Relu", conv(y, (inner, inner), 3, stride)), (inner, 4 * inner), 1)
            skip = conv(x, (wide, 4 * inner), 1, stride) if i == 0 else x
            x, wide = apply("Relu", apply("Add", y, skip)), 4 * inner
    x = apply("Flatten", apply("GlobalAveragePool", x))
    nodes.append(
        node("Gemm", [x, weight("fc_w", 1000, 2048), weight("fc_b", 1000)], ["y"], transB=1)
    )
    graph = helper.make_graph(
        nodes,
        "resnet50",
        [graphs.value("image", (1, 3, 224, 224))],
        [graphs.value("y", (1, 1000))],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_resnet50_does_not_fit_and_the_error_says_by_how_much() -> None:
    made = resnet50()
    assert parameters(made) == 25_557_032 - 26_560  # published, less what folding takes off
    with pytest.raises(UnsupportedError) as caught:
        check_fit(made, load_target("esp32s3"), "int8")
    message = caught.value.message
    assert message.startswith("does not fit esp32s3 in int8: its file needs 25,7")
    assert "the model partition has 6,291,456 bytes (6.00 MiB)" in message
    assert "(18.5" in message
    assert "weights of 25,6" in message
    assert "exceed PSRAM by 17,2" in message
    assert "fewer parameters" in caught.value.hint
    assert caught.value.kind == "unsupported"
    with pytest.raises(UnsupportedError):
        check_fit(made, load_target("esp32s3-n16r8"), "int8")


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """MobileNetV2 1.0 at 224 px, 1,000 classes."""
    import torch

    from edgedeploy.zoo import mobilenet as zoo

    path = tmp_path_factory.mktemp("mobilenet") / "m.onnx"
    network = zoo.build(1000, 1.0).eval()
    torch.onnx.export(network, (torch.zeros(1, 3, 224, 224),), path, opset_version=18, dynamo=False)
    return simplify(onnx.load(path))[0]


@pytest.mark.filterwarnings("ignore")
def test_mobilenet_fits_with_its_largest_tensor_in_psram(mobilenet: onnx.ModelProto) -> None:
    fit = check_fit(mobilenet, load_target("esp32s3"), "int8")
    assert fit.largest_tensor_bytes == 96 * 112 * 112
    assert fit.largest_tensor_region == "psram"
    assert fit.weights_in == "psram"
    assert 3_475_008 < fit.weight_bytes < 3_560_000
    assert 3_500_000 < fit.file_bytes < 3_800_000
    assert fit.arena_sram_bytes <= 327_680
    assert 1_204_224 <= fit.arena_psram_bytes <= 1_204_224 + 2 * 150_528
    assert fit.flash_free_bytes == 6 * MIB - fit.file_bytes
    assert fit.psram_free_bytes == 8 * MIB - fit.arena_psram_bytes - fit.weight_bytes
    assert fit.file_estimated
    assert check_fit(mobilenet, load_target("esp32s3"), "mixed").notes == (
        "least figures: a layer in 16 bits takes twice its bytes",
    )


@pytest.mark.filterwarnings("ignore")
def test_mobilenet_in_16_bits_needs_more_flash(mobilenet: onnx.ModelProto) -> None:
    with pytest.raises(UnsupportedError) as caught:
        check_fit(mobilenet, load_target("esp32s3"), "int16")
    assert "of flash, the model partition has" in caught.value.message
    assert "PSRAM" not in caught.value.message
    fit = check_fit(mobilenet, load_target("esp32s3-n16r8"), "int16")
    assert fit.weights_in == "flash"
    assert fit.notes[0].startswith("weights are read from flash, slower")


def small(target: Target, **memory: int) -> Target:
    return msgspec.structs.replace(target, memory_bytes=memory)


def test_what_is_short_is_named(mobilenet: onnx.ModelProto) -> None:
    board = load_target("esp32s3")
    no_psram = small(board, flash=8 * MIB, sram=300_000)
    with pytest.raises(UnsupportedError) as caught:
        check_fit(mobilenet, no_psram, "int8")
    expected = (
        "its largest tensor '/features/features.2/conv/conv.0/conv.0.0/Conv_output_0' needs "
        "1,204,224 bytes (1.15 MiB), SRAM has 300,000 bytes (0.29 MiB): 904,224 bytes (0.86 MiB) "
        "too much"
    )
    assert caught.value.message.endswith(expected)
    assert "smaller input" in caught.value.hint
    tight = small(board, flash=8 * MIB, sram=1024, psram=1_300_000)
    with pytest.raises(UnsupportedError) as caught:
        check_fit(mobilenet, tight, "int8")
    assert "its tensors need" in caught.value.message
    assert "PSRAM has 1,300,000 bytes" in caught.value.message


def unpacking(**memory: int) -> Target:
    """A board whose firmware unpacks weights at load."""
    board = load_target("rv32-virtual")
    return small(board, **{**board.memory_bytes, "unpacked_weight": 2, **memory})


def wide_biases(made: onnx.ModelProto) -> int:
    """Bytes of the biases, 8 each, which a device does not report among its unpacked weights."""
    sizes = {t.name: math.prod(t.dims) for t in made.graph.initializer}
    biased = [n for n in made.graph.node if n.op_type in {"Conv", "Gemm"}]
    return sum(aligned(8 * sizes[n.input[2]]) for n in biased)


@pytest.mark.filterwarnings("ignore")
def test_unpacked_weights_are_those_that_the_device_reports(
    tmp_path: Path, mobilenet: onnx.ModelProto
) -> None:
    """`unpacked_weights` of the networks' reports from rv32-virtual."""
    import torch

    from edgedeploy.zoo import digits
    from edgedeploy.zoo import mobilenet as zoo

    reported = []
    for network, shape in ((digits.build(), DIGITS), (zoo.build(10, 1.0), (1, 3, 224, 224))):
        path = tmp_path / "net.onnx"
        sample = (torch.zeros(shape),)
        torch.onnx.export(network.eval(), sample, path, opset_version=18, dynamo=False)
        made = simplify(onnx.load(path))[0]
        fit = check_fit(made, unpacking(), "int8")
        assert fit.weights_in == "psram"
        free = 8 * MIB - fit.arena_psram_bytes - fit.unpacked_bytes
        assert fit.psram_free_bytes == free
        reported.append((fit.unpacked_bytes - wide_biases(made), 8 * MIB - free))
    (small_net, _), (large_net, taken) = reported
    assert (small_net, large_net) == (71_120, 4_620_400)
    assert 0.98 < taken / 6_164_144 <= 1  # `psram_arena`, which has the engine's tables too
    board = load_target("esp32s3")
    assert "unpacked_weight" not in board.memory_bytes
    assert check_fit(mobilenet, board, "int8").unpacked_bytes == 0


def product(inner: int, outer: int) -> onnx.ModelProto:
    weight = TensorProto(name="w", dims=(inner, outer), data_type=TensorProto.FLOAT)
    made = model([node("MatMul", ["x", "w"], ["y"])], {"x": (1, inner)}, {"y": (1, outer)})
    made.graph.initializer.append(weight)
    return made


def test_weights_that_only_fit_packed_are_refused() -> None:
    made = product(2350, 2000)  # 4.7 MB, and 9.4 MB unpacked
    with pytest.raises(UnsupportedError) as caught:
        check_fit(made, unpacking(), "int8")
    message = caught.value.message
    assert message.startswith(
        "does not fit rv32-virtual in int8: its weights of 4,700,000 bytes (4.48 MiB) take"
    )
    assert "once unpacked, SRAM and PSRAM have 8,716,288 bytes (8.31 MiB): " in message
    assert "too much" in message
    assert "fewer parameters" in caught.value.hint
    assert "smaller input" not in caught.value.hint
    packed = check_fit(made, load_target("esp32s3"), "int8")
    assert packed.unpacked_bytes == 0


def test_what_psram_lacks_for_unpacked_weights_lies_in_sram_and_tensors_come_on_top() -> None:
    made = product(1024, 1024)
    size = 2 * MIB + aligned(256) + aligned(8 * 1024)
    fit = check_fit(made, unpacking(psram=2 * MIB), "int8")
    assert (fit.unpacked_bytes, fit.weights_in, fit.psram_free_bytes) == (size, "sram", 0)
    assert fit.arena_sram_bytes == 2048
    assert fit.sram_free_bytes == 327_680 - (size - 2 * MIB) - 2048
    assert fit.notes == (
        "PSRAM has no room for 8,448 bytes (0.01 MiB) of the unpacked weights: in SRAM",
    )
    with pytest.raises(UnsupportedError) as caught:
        check_fit(made, unpacking(psram=2 * MIB, sram_arena=9000), "int8")
    assert "once unpacked, and its tensors need" in caught.value.message
    assert "fewer parameters" in caught.value.hint
    assert "smaller input" in caught.value.hint


def test_16_bits_are_as_wide_unpacked_as_in_the_file() -> None:
    fit = check_fit(product(64, 64), unpacking(), "int16")
    assert fit.unpacked_bytes == 2 * 64 * 64 + 8 * 64


def test_the_size_of_the_compiled_file_decides_where_it_is_known() -> None:
    board = load_target("esp32s3")
    fit = check_fit(graphs.classifier(), board, "int8", file_bytes=6 * MIB)
    assert (fit.file_bytes, fit.flash_free_bytes, fit.file_estimated) == (6 * MIB, 0, False)
    with pytest.raises(UnsupportedError) as caught:
        check_fit(graphs.classifier(), board, "int8", file_bytes=6 * MIB + 1)
    assert caught.value.message.endswith("1 bytes (0.00 MiB) too much")


def test_the_record_can_stand_in_a_report() -> None:
    fit = check_fit(graphs.classifier(), load_target("rv32-virtual"), "int8")
    table = msgspec.to_builtins(fit)
    assert table["arena_psram_bytes"] == 0
    assert table["weights_in"] == "psram"
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(table)), Fit) == fit
    biases = 4 * (6 + 5)
    assert fit.weight_bytes == sum(16 * math.ceil(n / 16) for n in (6 * 27, 24, 30, 20))
    assert fit.weight_bytes >= 6 * 27 + 30 + biases


def test_a_board_without_sizes_and_a_model_without_shapes() -> None:
    with pytest.raises(InputError) as caught:
        check_fit(graphs.classifier(), load_target("host"), "int8")
    assert "does not say how large its flash and SRAM are" in caught.value.message
    with pytest.raises(InputError) as caught:
        check_fit(graphs.classifier("batch"), load_target("esp32s3"), "int8")
    assert "the shape of 'x' is not known" in caught.value.message


@settings(deadline=None, max_examples=20)
@given(width=st.integers(1, 64), side=st.integers(2, 32), sram=st.integers(0, 40_000))
def test_free_and_taken_are_the_whole(width: int, side: int, sram: int) -> None:
    weights = {"w": np.zeros((width, 3, 1, 1), np.float32)}
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Sigmoid", ["c"], ["y"])]
    made = model(nodes, {"x": (1, 3, side, side)}, {"y": (1, width, side, side)}, weights)
    board = small(load_target("esp32s3"), flash=8 * MIB, sram=sram, psram=8 * MIB)
    fit = check_fit(made, board, "int8")
    needed = [aligned(n * side * side) for n in (3, width, width)]
    assert fit.arena_sram_bytes <= sram
    assert fit.arena_sram_bytes + fit.sram_free_bytes == sram
    assert fit.arena_sram_bytes + fit.arena_psram_bytes <= sum(needed)
    assert fit.flash_free_bytes + fit.file_bytes == 8 * MIB


def test_targets_and_partitions_agree() -> None:
    """Model partitions end with their flash, and the virtual boards' place is their flash."""
    for path in sorted((Path(__file__).parents[1] / "targets").glob("*.toml")):
        target = load_target(path)
        memory, options = target.memory_bytes, target.device_options
        if target.transport == "serial":
            serial = options["serial"]
            assert serial["model_bytes"] == memory["model_partition"]
            assert serial["model_address"] + serial["model_bytes"] == memory["flash"]
            assert serial["chip"] == target.compile_options["chip"]
        elif target.transport == "qemu":
            assert options["qemu"]["model_bytes"] == memory["flash"]
            assert target.source == "emulated"
            assert "emulated, instruction counts only" in target.board
