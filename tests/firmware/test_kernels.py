"""The int8 kernels against numpy, bit for bit, on this host with sanitizers and on both boards."""

import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

REPOSITORY = Path(__file__).resolve().parent.parent.parent
ENGINE = REPOSITORY / "firmware" / "engine"
BENCHMARK = REPOSITORY / "benchmarks" / "firmware"
SANITIZE = "-fsanitize=address,undefined"


@dataclass(frozen=True)
class Shape:
    """The fields of `conv_shape`, in its order."""

    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int
    shift: int
    low: int
    high: int

    @property
    def fields(self) -> tuple[int, ...]:
        """All in order."""
        return tuple(self.__dict__.values())


@dataclass(frozen=True)
class Layer:
    """A shape and its numbers; weights (out, y, x, in), depthwise (channel, y, x, 1)."""

    shape: Shape
    depthwise: bool
    inputs: np.ndarray
    weights: np.ndarray
    bias: np.ndarray


class Runner:
    """The kernels in a process of their own, which a sanitizer may end."""

    def __init__(self, program: Path) -> None:
        """Start it; a report of a sanitizer goes to the test's stderr."""
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, shape: Shape, head: tuple[bool, bool], data: bytes, count: int) -> bytes:
        """`count` bytes of the answer to one case; head: only sizes?, depthwise?."""
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(struct.pack("<19i", *map(int, head), *shape.fields) + data)
        process.stdin.flush()
        answer = process.stdout.read(count)
        assert len(answer) == count, f"the kernels ended with {process.wait()} at {shape}"
        return answer

    def sizes(self, shape: Shape, *, depthwise: bool) -> tuple[int, int]:
        """Bytes of packed weights and of scratch."""
        packed, scratch = struct.unpack("<2I", self.ask(shape, (True, depthwise), b"", 8))
        return packed, scratch

    def run(self, layer: Layer) -> tuple[np.ndarray, int, int]:
        """The outputs (out_h, out_w, out_c), and the bytes of packed weights and scratch."""
        s = layer.shape
        data = b"".join(v.tobytes() for v in (layer.inputs, layer.weights, layer.bias))
        answer = self.ask(s, (False, layer.depthwise), data, 8 + s.out_h * s.out_w * s.out_c)
        packed, scratch = struct.unpack("<2I", answer[:8])
        outputs = np.frombuffer(answer[8:], np.int8).reshape(s.out_h, s.out_w, s.out_c)
        return outputs, packed, scratch


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """The kernels built for this host, with sanitizers where they can be linked."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler on this host")
    program = tmp_path_factory.mktemp("kernels") / "runner"
    sources = [Path(__file__).with_name("kernel_runner.c"), ENGINE / "conv.c"]
    sources += sorted(ENGINE.glob("kernels_*.c"))
    command = [compiler, "-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O1", "-g", "-Wall", "-Wextra"]
    command += ["-Werror", f"-I{ENGINE.parent}", "-o", str(program), *map(str, sources)]
    done = subprocess.run(
        [*command, SANITIZE, "-fno-sanitize-recover=all"], check=False, capture_output=True
    )
    if done.returncode:
        subprocess.run(command, check=True)
    running = Runner(program)
    yield running
    assert running.process.stdin is not None
    running.process.stdin.close()
    assert running.process.wait(10) == 0


def expected(layer: Layer) -> np.ndarray:
    """By numpy: sums in int32 that wrap, round half up, clip."""
    s = layer.shape
    reach_h = (s.out_h - 1) * s.stride_h + (s.kernel_h - 1) * s.dilation_h + 1
    reach_w = (s.out_w - 1) * s.stride_w + (s.kernel_w - 1) * s.dilation_w + 1
    padded = np.zeros(
        (max(reach_h, s.pad_top + s.in_h), max(reach_w, s.pad_left + s.in_w), s.in_c), np.int64
    )
    padded[s.pad_top : s.pad_top + s.in_h, s.pad_left : s.pad_left + s.in_w] = layer.inputs
    sums = np.zeros((s.out_h, s.out_w, s.out_c), np.int64) + layer.bias
    for y in range(s.kernel_h):
        for x in range(s.kernel_w):
            top, left = y * s.dilation_h, x * s.dilation_w
            rows = padded[top : top + (s.out_h - 1) * s.stride_h + 1 : s.stride_h]
            part = rows[:, left : left + (s.out_w - 1) * s.stride_w + 1 : s.stride_w]
            weights = layer.weights[:, y, x].astype(np.int64)
            sums += part * weights[:, 0] if layer.depthwise else part @ weights.T
    wrapped = sums.astype(np.uint32).astype(np.int32).astype(np.int64)
    rounded = (2 * wrapped + (1 << s.shift)) >> (s.shift + 1)
    return np.clip(rounded, s.low, s.high).astype(np.int8)


def check(runner: Runner, layer: Layer) -> None:
    """The kernels' outputs are numpy's."""
    outputs, packed, scratch = runner.run(layer)
    np.testing.assert_array_equal(outputs, expected(layer))
    assert packed % 16 == 0
    assert scratch % 16 == 0


def numbers(draw: st.DrawFn, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values of int8 of one kind."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    match kind:
        case "any":
            return random.integers(-128, 128, shape, np.int8)
        case "small":
            return random.normal(0, 18, shape).clip(-128, 127).astype(np.int8)
        case "ends":
            return random.choice(np.array([-128, 127], np.int8), shape)
        case "low":
            return np.full(shape, -128, np.int8)
        case _:
            return np.full(shape, 127, np.int8)


KINDS = st.sampled_from(["any", "small", "ends", "low", "high"])


@st.composite
def layers(draw: st.DrawFn, *, depthwise: bool) -> Layer:
    """Any layer that a loader may pass on, small."""
    size = st.integers(1, 5)
    small = st.integers(1, 3)
    kernel_h, kernel_w = draw(st.sampled_from([(1, 1), (3, 3), (5, 5)]) | st.tuples(size, size))
    stride_h, stride_w = draw(st.sampled_from([(1, 1), (2, 2)]) | st.tuples(small, small))
    dilation_h, dilation_w = draw(st.just((1, 1)) | st.tuples(small, small))
    out_h, out_w = draw(st.integers(1, 5)), draw(st.integers(1, 14))
    pad_top, pad_left = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    more = st.integers(-4, 3)
    in_c = draw(st.integers(1, 21))
    out_c = in_c if depthwise else draw(st.integers(1, 13))
    low = draw(st.sampled_from([-128, 0]) | st.integers(-128, 127))
    shape = Shape(
        max(1, (out_h - 1) * stride_h + (kernel_h - 1) * dilation_h + 1 - pad_top + draw(more)),
        max(1, (out_w - 1) * stride_w + (kernel_w - 1) * dilation_w + 1 - pad_left + draw(more)),
        in_c,
        *(out_h, out_w, out_c, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w),
        *(pad_top, pad_left, draw(st.integers(0, 31)), low, draw(st.integers(low, 127))),
    )
    shape = replace(shape, high=draw(st.sampled_from([127, shape.high])))
    bias_of = st.sampled_from([-(2**31), 2**31 - 1, 0]) | st.integers(-(2**31), 2**31 - 1)
    return Layer(
        shape,
        depthwise,
        numbers(draw, draw(KINDS), (shape.in_h, shape.in_w, in_c)),
        numbers(draw, draw(KINDS), (out_c, kernel_h, kernel_w, 1 if depthwise else in_c)),
        np.array(draw(st.lists(bias_of, min_size=out_c, max_size=out_c)), np.int32),
    )


SETTINGS = settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SETTINGS
@given(layer=layers(depthwise=False))
def test_convolution(runner: Runner, layer: Layer) -> None:
    """Any shape, any weights, any bias."""
    check(runner, layer)


@SETTINGS
@given(layer=layers(depthwise=True))
def test_depthwise(runner: Runner, layer: Layer) -> None:
    """The same, a channel at a time."""
    check(runner, layer)


def plain_shape(in_c: int, out_c: int, kernel: int, out: int, shift: int) -> Shape:
    """Without padding, stride 1."""
    size = out + kernel - 1
    return Shape(
        *(size, size, in_c, out, out, out_c, kernel, kernel, 1, 1, 1, 1, 0, 0),
        *(shift, -128, 127),
    )


@pytest.mark.parametrize("activation", [-128, -1, 0, 1, 127])
@pytest.mark.parametrize("other", [-128, 127])
@pytest.mark.parametrize("in_c", [1, 4, 8, 12, 16])
def test_every_weight_value(runner: Runner, in_c: int, other: int, activation: int) -> None:
    """Each of 256 weights in each lane beside a far one, at both ends of the activations: exact."""
    shape = plain_shape(in_c, 256, 1, 2, 6)
    lanes = np.arange(in_c)
    for lane in range(in_c):
        inputs = np.full((2, 2, in_c), activation, np.int8)
        inputs[1, :, lane] = -128
        inputs[:, 1, lanes != lane] = 127
        weights = np.zeros((256, 1, 1, in_c), np.int8)
        weights[:, 0, 0, lane] = np.arange(-128, 128)
        weights[:, 0, 0, (lane + 1) % in_c] = other
        weights[:, 0, 0, lane ^ 2 if lane ^ 2 < in_c else 0] = other
        check(runner, Layer(shape, False, inputs, weights, np.zeros(256, np.int32)))


@pytest.mark.parametrize("total", [254, 255, 256, 257, 258])
@pytest.mark.parametrize("sign", [-1, 1])
def test_sums_at_the_bounds_of_a_group(runner: Runner, total: int, sign: int) -> None:
    """Weights whose sizes add up to just under and over what a packed sum holds."""
    random = np.random.default_rng(total)
    for size in (2, 4, 8, 9):
        depthwise = size == 9
        shape = plain_shape(16 if depthwise else size, 16, 3 if depthwise else 1, 8, 0)
        weights = np.zeros((16, size), np.int64)
        for row in weights:
            while np.abs(row).sum() < total and np.abs(row).sum() < 127 * size:
                lane = random.integers(size)
                row[lane] += sign if abs(row[lane]) < 127 else 0
        weights = weights.astype(np.int8).reshape(16, shape.kernel_h, shape.kernel_w, -1)
        inputs = random.choice(np.array([-128, 127], np.int8), (shape.in_h, shape.in_w, shape.in_c))
        inputs[: shape.in_h // 2, : shape.in_w // 2] = -128
        bias = np.arange(16, dtype=np.int32) * 64 - 512
        for shift in (0, 8):
            layer = Layer(replace(shape, shift=shift), depthwise, inputs, weights, bias)
            check(runner, layer)


@pytest.mark.parametrize("shift", [0, 1, 2, 22, 23, 24, 25, 30, 31])
@pytest.mark.parametrize("low", [-128, -127, 0, 5, 127])
def test_rounding_at_the_ends_of_int32(runner: Runner, shift: int, low: int) -> None:
    """Sums at both ends of int32 and around each half, whatever is clipped."""
    half = 1 << max(0, shift - 1)
    around = np.array([-2, -1, 0, 1, 2], np.int64)
    bias = [np.array([-(2**31), -(2**31) + 1, 2**31 - 2, 2**31 - 1])]
    bias += [around + factor * half for factor in (-257, -256, -255, -1, 0, 1, 253, 254, 255, 256)]
    values = np.concatenate(bias).clip(-(2**31), 2**31 - 1).astype(np.int32)
    shape = replace(plain_shape(len(values), len(values), 1, 1, shift), low=low)
    for depthwise in (False, True):
        depth = 1 if depthwise else len(values)
        layer = Layer(
            shape,
            depthwise,
            np.ones((1, 1, len(values)), np.int8),
            np.zeros((len(values), 1, 1, depth), np.int8),
            values,
        )
        check(runner, layer)
        three = replace(shape, in_h=3, in_w=3, kernel_h=3, kernel_w=3)
        ones = np.ones((3, 3, len(values)), np.int8)
        zeros = np.zeros((len(values), 3, 3, depth), np.int8)
        check(runner, Layer(three, depthwise, ones, zeros, values))


def test_sums_wrap(runner: Runner) -> None:
    """A sum beyond int32 goes round, as on the chip."""
    shape = plain_shape(8, 4, 1, 1, 24)
    bias = np.array([2**31 - 1, 2**31 - 1000, -(2**31), -(2**31) + 1000], np.int32)
    for weight in (127, -128):
        layer = Layer(
            shape,
            False,
            np.full((1, 1, 8), -128, np.int8),
            np.full((4, 1, 1, 8), weight, np.int8),
            bias,
        )
        check(runner, layer)
        outputs = runner.run(layer)[0].ravel()
        assert set(outputs[:2] if weight < 0 else outputs[2:]) <= {-128, 127}


def test_large_blocks(runner: Runner) -> None:
    """More channels than one block holds, and rows longer than one strip."""
    random = np.random.default_rng(5)
    deep = replace(plain_shape(84, 84, 3, 20, 9), pad_top=1, pad_left=1, in_h=19, in_w=21)
    for depthwise, out_c in ((True, 84), (False, 18)):
        shape = replace(deep, out_c=out_c)
        inputs = random.integers(-128, 128, (19, 21, 84), np.int8)
        weights = random.integers(-20, 21, (out_c, 3, 3, 1 if depthwise else 84), np.int8)
        check(runner, Layer(shape, depthwise, inputs, weights, np.zeros(out_c, np.int32)))


@pytest.mark.parametrize("depthwise", [False, True])
def test_padding_below_and_right_only(runner: Runner, depthwise: bool) -> None:
    """As frameworks pad an even image for stride 2: one row and one column of zeros at the end."""
    random = np.random.default_rng(2)
    for stride, dilation in ((1, 1), (2, 1), (1, 2)):
        last = 4 * stride + 2 * dilation
        shape = replace(plain_shape(8, 8, 3, 5, 7), stride_h=stride, stride_w=stride)
        shape = replace(shape, dilation_h=dilation, dilation_w=dilation, in_h=last, in_w=last)
        inputs = random.integers(-128, 128, (last, last, 8), np.int8)
        weights = random.integers(-40, 40, (8, 3, 3, 1 if depthwise else 8), np.int8)
        check(runner, Layer(shape, depthwise, inputs, weights, np.zeros(8, np.int32)))


@pytest.mark.parametrize("depthwise", [False, True])
def test_all_padding(runner: Runner, depthwise: bool) -> None:
    """Outputs that see nothing of the image: the bias alone."""
    shape = replace(plain_shape(8, 8, 1, 1, 0), pad_top=7, pad_left=9, out_h=2, out_w=3)
    for kernel, pad_top in ((1, 7), (3, 7), (1, 0), (3, 0)):
        layer = Layer(
            replace(shape, kernel_h=kernel, kernel_w=kernel, pad_top=pad_top),
            depthwise,
            np.full((1, 1, 8), 100, np.int8),
            np.full((8, kernel, kernel, 1 if depthwise else 8), 100, np.int8),
            np.arange(8, dtype=np.int32),
        )
        check(runner, layer)
        assert (runner.run(layer)[0] == np.arange(8)).all()


@pytest.mark.parametrize("depthwise", [False, True])
def test_sizes_that_do_not_fit_32_bits(runner: Runner, depthwise: bool) -> None:
    """A shape from a bad file asks for more than there is, never for less than it needs."""
    shape = replace(plain_shape(64, 64, 3, 1, 8), in_h=1, in_w=1, pad_top=32767, pad_left=32767)
    far = replace(shape, dilation_h=32767, dilation_w=32767, out_h=2, out_w=2)
    assert runner.sizes(far, depthwise=depthwise)[1] >= 0xFFFFFFF0
    deep = replace(far, in_c=2**22, out_c=2**22 if depthwise else 1, kernel_h=1, kernel_w=2)
    assert runner.sizes(deep, depthwise=depthwise)[1] >= (2**24 if depthwise else 0xFFFFFFF0)
    many = replace(
        shape, in_c=2**20, out_c=2**20, kernel_h=64, kernel_w=64, pad_top=70, pad_left=70
    )
    assert runner.sizes(many, depthwise=depthwise)[0] == 0xFFFFFFF0


def test_boards_agree(tmp_path: Path) -> None:
    """240 random layers on both emulated boards: equal to plain loops, and to one another."""
    sys.path.insert(0, str(BENCHMARK))
    try:
        import boards
    finally:
        sys.path.remove(str(BENCHMARK))
    printed = {}
    for name, board in boards.BOARDS.items():
        absent = boards.missing(board)
        if absent is not None:
            pytest.skip(f"{absent} is not here: make toolchain")
        elf = boards.build(board, "vectors", tmp_path / name)
        printed[name] = boards.run(board, elf, 60)
        assert boards.kernel_bytes(board, tmp_path / name) <= 16 * 1024
    assert printed["lx106"] == printed["rv32imac"]
    words = printed["lx106"][-1].split()
    assert words[:4] == ["vectors", "240", "different", "0"]
