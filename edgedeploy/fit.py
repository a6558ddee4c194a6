"""Does a model fit a board's flash, SRAM and PSRAM? Answered from its graph alone."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from edgedeploy.errors import InputError, UnsupportedError
from edgedeploy.records import Record, Target

if TYPE_CHECKING:
    import onnx

    from edgedeploy.graph.links import Links

ALIGN_BYTES = 16
# what a model file holds beside its weights: header and tables, and per node a name, attributes,
# operands and a record of each tensor
FILE_BYTES = 1024
NODE_BYTES = 960
ELEMENT_BYTES = {"int8": 1, "int16": 2, "mixed": 1, "fp32": 4}
BIAS_BYTES = {"int8": 4, "int16": 8, "mixed": 4, "fp32": 4}
VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
FUSED = frozenset({"Relu", "Clip"})
FUSED_BEHIND = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add"})
# of whole numbers and truth values, by ONNX's numbers for them; floats are quantized
WIDTHS = {2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 12: 4, 13: 8}
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
PRODUCTS = CONVOLUTIONS | {"Gemm", "MatMul"}
WITH_BIAS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
# how kernels that unpack weights lay them out: four output channels side by side, four inputs at
# a time; biases widened to 64 bits first
TILE, LANES, WIDE_BIAS = 4, 4, 8

Region = Literal["sram", "psram"]


class Live(Record):
    """A tensor that an arena must hold from the making node `first` to its last user `last`."""

    name: str
    size_bytes: int
    first: int
    last: int


class Placed(Live):
    """Where a tensor lies: an offset in a region."""

    region: Region = "sram"
    offset: int = 0

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.size_bytes


class Fit(Record):
    """What a model takes of a board's memories, and what stays free; all from its graph.

    `file_bytes` is the model file in flash: estimated, unless its size was known. Weights are
    copied to PSRAM where they have room beside the arena, else they are read from flash, slower.
    Arena bytes are the ends of the used part of SRAM and PSRAM; buffers that kernels take for
    themselves come on top.

    `unpacked_bytes` are weights and biases as firmware that unpacks them at load keeps them, beside
    the file in flash: in PSRAM, and in SRAM what PSRAM has no room for. It is 0 where weights are
    used as they are.
    """

    precision: str
    weight_bytes: int
    unpacked_bytes: int
    file_bytes: int
    file_estimated: bool
    arena_sram_bytes: int
    arena_psram_bytes: int
    largest_tensor: str
    largest_tensor_bytes: int
    largest_tensor_region: Region
    weights_in: Literal["psram", "sram", "flash"]
    flash_free_bytes: int
    sram_free_bytes: int
    psram_free_bytes: int
    notes: tuple[str, ...] = ()


def check_fit(
    model: "onnx.ModelProto", target: Target, precision: str, *, file_bytes: int | None = None
) -> Fit:
    """What a static model takes of a board's memories in a precision.

    `file_bytes` is the size of the compiled model where it is known already: the verdict on flash
    is then exact. Of the target's `memory_bytes`, `model_partition` (else `flash`) holds the file,
    `sram_arena` (else `sram`) is what the firmware leaves of SRAM to tensors, `psram` may be
    absent. `unpacked_weight` is there where the firmware unpacks weights at load: bytes that one
    takes then. In mixed precision the figures are the least, those of 8 bits.

    Raises `UnsupportedError` saying by how much a model does not fit, `InputError` for shapes that
    are not known or a target without memory sizes.
    """
    memory = target.memory_bytes
    if "flash" not in memory or "sram" not in memory:
        msg = f"target {target.name} does not say how large its flash and SRAM are"
        raise InputError(msg, hint="Give memory_bytes = {flash = …, sram = …, psram = …}.")
    flash = memory.get("model_partition", memory["flash"])
    sram, psram = memory.get("sram_arena", memory["sram"]), memory.get("psram", 0)
    element = ELEMENT_BYTES.get(precision, 4)
    weights = _weights(model, element, BIAS_BYTES.get(precision, 4))
    weight_bytes = sum(_aligned(size) for size in weights)
    needed = FILE_BYTES + weight_bytes + NODE_BYTES * len(model.graph.node)
    file = needed if file_bytes is None else file_bytes
    unpacked = _unpacked(model, element, memory.get("unpacked_weight", 0))
    beside = min(unpacked, psram)
    spilled = unpacked - beside
    # what is unpacked is placed first, and does not move for tensors
    placed = plan(lives(model, element), max(sram - spilled, 0))
    ends = {r: max((p.end for p in placed if p.region == r), default=0) for r in ("sram", "psram")}
    largest = max(placed, key=lambda p: p.size_bytes)
    in_psram = not spilled and ends["psram"] + (unpacked or weight_bytes) <= psram
    room = _Room(flash=flash, sram=sram, psram=psram)
    short = _shortages(file, weight_bytes, unpacked, placed, room)
    if short:
        msg = f"does not fit {target.name} in {precision}: {'; '.join(short)}"
        raise UnsupportedError(msg, hint=_remedy(short))
    return Fit(
        precision=precision,
        weight_bytes=weight_bytes,
        unpacked_bytes=unpacked,
        file_bytes=file,
        file_estimated=file_bytes is None,
        arena_sram_bytes=ends["sram"],
        arena_psram_bytes=ends["psram"],
        largest_tensor=largest.name,
        largest_tensor_bytes=largest.size_bytes,
        largest_tensor_region=largest.region,
        weights_in="psram" if in_psram else "sram" if unpacked else "flash",
        flash_free_bytes=flash - file,
        sram_free_bytes=sram - spilled - ends["sram"],
        psram_free_bytes=psram
        - ends["psram"]
        - (beside if unpacked else weight_bytes if in_psram else 0),
        notes=_notes(precision, spilled, from_flash=not (unpacked or in_psram) and psram > 0),
    )


def plan(tensors: Iterable[Live], sram_bytes: int) -> list[Placed]:
    """Offsets for tensors in an arena: the largest first, each at the lowest place that is free.

    A place is free where no tensor alive at the same time lies; SRAM up to `sram_bytes` is tried
    first, then PSRAM without a limit. All offsets and sizes are multiples of 16 bytes.
    """
    placed: list[Placed] = []
    for live in sorted(tensors, key=lambda t: (-_aligned(t.size_bytes), t.first, t.name)):
        size = _aligned(live.size_bytes)
        together = [p for p in placed if p.first <= live.last and live.first <= p.last]
        region: Region = "sram"
        offset = _lowest(size, [p for p in together if p.region == region])
        if offset + size > sram_bytes:
            region = "psram"
            offset = _lowest(size, [p for p in together if p.region == region])
        placed.append(
            Placed(
                name=live.name,
                size_bytes=size,
                first=live.first,
                last=live.last,
                region=region,
                offset=offset,
            )
        )
    return placed


def _lowest(size: int, taken: Sequence[Placed]) -> int:
    offset = 0
    for other in sorted(taken, key=lambda p: p.offset):
        if other.offset - offset >= size:
            return offset
        offset = max(offset, other.end)
    return offset


def lives(model: "onnx.ModelProto", element_bytes: int) -> list[Live]:
    """The tensors of a static model that need memory, and when, by the positions of its nodes.

    Views share their tensor, and a ReLU or Clip behind what can apply it takes none of its own.
    Inputs keep theirs throughout, outputs to the end.
    """
    from edgedeploy.graph.links import Links
    from edgedeploy.graph.read import real_inputs

    links = Links(model)
    sizes = _sizes(model, element_bytes)
    outputs = {value.name for value in model.graph.output}
    inputs = [value.name for value in real_inputs(model)]
    end = len(links.nodes)
    roots: dict[str, str] = {}
    span: dict[str, tuple[int, int]] = {name: (-1, end) for name in inputs}
    for index, node in enumerate(links.nodes):
        if links.constant(next(iter(node.output), "")) is not None:
            continue
        shared = _shares(links, node, outputs)
        for name in node.output:
            users = links.users.get(name, [])
            if not name or (not users and name not in outputs):
                continue
            root = roots.get(node.input[0], node.input[0]) if shared else name
            root = name if root in links.weights else root
            roots[name] = root
            last = end if name in outputs else max(users)
            first, before = span.get(root, (index, index))
            span[root] = (first, max(before, last))
    return [
        Live(name=name, size_bytes=_size(sizes, name), first=first, last=last)
        for name, (first, last) in span.items()
    ]


def _shares(links: "Links", node: "onnx.NodeProto", outputs: set[str]) -> bool:
    """Whether a node's output lies where its first input does."""
    if node.op_type in VIEWS:
        return True
    name = node.input[0] if node.input else ""
    alone = len(links.users.get(name, ())) == 1 and name not in outputs
    return node.op_type in FUSED and alone and links.node_of(name, *FUSED_BEHIND) is not None


def _weights(model: "onnx.ModelProto", element: int, bias: int) -> list[int]:
    """Bytes of the weights of each node as a compiled model holds them; whole numbers stay.

    A weight that several nodes share counts for each: toolchains give each node its own.
    """
    from edgedeploy.graph.links import used_names

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        for position, name in enumerate(used_names(node)):
            if name in tensors:
                is_bias = position == WITH_BIAS.get(node.op_type)
                width = bias if is_bias else WIDTHS.get(tensors[name].data_type, element)
                found.append(math.prod(tensors[name].dims) * width)
    return found


def _unpacked(model: "onnx.ModelProto", element: int, width: int) -> int:
    """Bytes of the weights and biases of products once unpacked, `width` bytes a weight; 0 for 0.

    In 8 bits, channels are filled up to whole tiles and lanes, and a depthwise convolution has
    beside each channel's weights what its sums start from: two weights of a row share a sum.
    """
    from edgedeploy.graph.links import attribute

    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    total = 0
    for node in model.graph.node if width else ():
        names = list(node.input)
        dims = shapes.get(names[1], ()) if len(names) > 1 else ()
        if node.op_type not in PRODUCTS or len(dims) < 2:
            continue
        if node.op_type in CONVOLUTIONS:
            group = int(str(attribute(node, "group", 1)))
            out, into = dims[:2] if node.op_type == "Conv" else (dims[1] * group, dims[0] // group)
            rows, columns = math.prod(dims[2:-1]), math.prod(dims[2:][-1:])
        else:
            group, rows, columns = 1, math.prod(dims[:-2]), 1
            out, into = dims[-2:] if attribute(node, "transB", 0) else dims[:-3:-1]
        count = out * into * rows * columns
        if element > 1:
            total += _aligned(count * max(width, element))
        elif group > 1 and into == 1:
            sums = out * rows * -(-columns // 2)
            parts = (4 * out, 4 * sums, out, count * width)
            total += sum(_aligned(part) for part in parts)
        else:
            few = into < LANES
            lanes = _whole(columns * into, LANES) if few else columns * _whole(into, LANES)
            tiles = -(-out // TILE)
            total += _aligned(tiles) + _aligned(tiles * TILE * rows * lanes * width)
        total += _aligned(out * WIDE_BIAS)
    return total


def _sizes(model: "onnx.ModelProto", element: int) -> dict[str, int | None]:
    from edgedeploy.graph.shapes import dimensions, with_shapes

    graph = model.graph
    known = {value.name for value in graph.value_info}
    made = {name for node in graph.node for name in node.output if name}
    if not made <= known | {value.name for value in graph.output}:
        graph = with_shapes(model).graph
    found: dict[str, int | None] = {}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        shape = dimensions(value) if value.type.tensor_type.HasField("shape") else ("?",)
        whole = [d for d in shape if isinstance(d, int)]
        width = WIDTHS.get(value.type.tensor_type.elem_type, element)
        found[value.name] = math.prod(whole) * width if len(whole) == len(shape) else None
    return found


def _size(sizes: dict[str, int | None], name: str) -> int:
    size = sizes.get(name)
    if size is None:
        msg = f"whether the model fits cannot be said: the shape of {name!r} is not known"
        raise InputError(msg, hint="Export it with static shapes.")
    return size


class _Room(NamedTuple):
    flash: int
    sram: int
    psram: int


def _shortages(
    file: int, weights: int, unpacked: int, placed: Sequence[Placed], room: _Room
) -> list[str]:
    """What is too large, and by how much."""
    flash, sram, psram = room
    arena = max((p.end for p in placed if p.region == "psram"), default=0)
    largest = max(placed, key=lambda p: p.size_bytes)
    copies = f"its weights of {_told(weights)} take {_told(unpacked)} once unpacked"
    found = []
    if file > flash:
        text = f"its file needs {_told(file)} of flash, the model partition has {_told(flash)}"
        if weights > psram:
            text += (
                f", and its weights of {_told(weights)} exceed PSRAM by {_told(weights - psram)}"
            )
        found.append(f"{text}: {_told(file - flash)} too much")
    if unpacked > sram + psram:
        text = f"{copies}, SRAM and PSRAM have {_told(sram + psram)}"
        found.append(f"{text}: {_told(unpacked - sram - psram)} too much")
    if largest.size_bytes > max(sram, psram):
        text = f"its largest tensor {largest.name!r} needs {_told(largest.size_bytes)}"
        region = "PSRAM" if psram >= sram else "SRAM"
        most = max(sram, psram)
        found.append(
            f"{text}, {region} has {_told(most)}: {_told(largest.size_bytes - most)} too much"
        )
    elif arena > psram:
        text = f"its tensors need {_told(arena)} beside {_told(sram)} of SRAM"
        found.append(f"{text}, PSRAM has {_told(psram)}: {_told(arena - psram)} too much")
    elif unpacked <= sram + psram and arena > max(psram - unpacked, 0):
        taken = min(unpacked, psram) + arena
        text = f"{copies}, and its tensors need {_told(arena)} beside SRAM"
        found.append(f"{text}, PSRAM has {_told(psram)}: {_told(taken - psram)} too much")
    return found


def _remedy(short: Sequence[str]) -> str:
    weights = any("its weights" in text or "its file" in text for text in short)
    tensors = any("tensor" in text for text in short)
    what = [
        *(["fewer parameters (prune it, take a narrower one)"] if weights else []),
        *(["a smaller input, or an end-node cut before its largest tensors"] if tensors else []),
    ]
    return f"It needs {' and '.join(what)}, or a board with more memory."


def _notes(precision: str, spilled: int, *, from_flash: bool) -> tuple[str, ...]:
    found = []
    if precision == "mixed":
        found.append("least figures: a layer in 16 bits takes twice its bytes")
    if from_flash:
        found.append("weights are read from flash, slower: PSRAM has no room beside the arena")
    if spilled:
        found.append(f"PSRAM has no room for {_told(spilled)} of the unpacked weights: in SRAM")
    return tuple(found)


def _told(size: int) -> str:
    return f"{size:,} bytes ({size / 2**20:.2f} MiB)"


def _aligned(size: int) -> int:
    return _whole(size, ALIGN_BYTES)


def _whole(count: int, step: int) -> int:
    return -(-count // step) * step
