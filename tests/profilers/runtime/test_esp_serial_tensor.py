"""Model files and tensors: what an artifact notes, and numbers as a board holds them."""

import json
import struct
from pathlib import Path
from typing import Any

import fake_board
import numpy as np
import pytest
from esp_line import BadInput
from esp_tensor import Tensor, layout
from fake_board import LAYOUT, write_espdl
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def test_what_is_no_model_file_is_refused(tmp_path: Path) -> None:
    good = write_espdl(tmp_path / "good", {"edgedeploy": json.dumps(LAYOUT)}).read_bytes()
    old = write_espdl(tmp_path / "old", {"edgedeploy": json.dumps(LAYOUT)}, magic=b"EDL1")
    assert layout(str(old)) == layout(str(tmp_path / "good")) == LAYOUT
    broken = tmp_path / "broken"
    texts = [b"", b"EDL2", b"ONNX" + good[4:], good[:-400], good[:4] + b"\1" + good[5:]]
    for data in texts:
        broken.write_bytes(data)
        with pytest.raises(BadInput, match="broken"):
            layout(str(broken))
    for noted in [{}, {**LAYOUT, "rounding": "down"}, {**LAYOUT, "outputs": []}, [], 3]:
        write_espdl(broken, {"edgedeploy": json.dumps(noted)})
        with pytest.raises(BadInput, match="broken"):
            layout(str(broken))
    write_espdl(broken, {"other": "1"})
    with pytest.raises(BadInput, match="with `edgedeploy` in its metadata"):
        layout(str(broken))
    with pytest.raises(BadInput, match="cannot be read"):
        layout(str(tmp_path / "none"))


@given(st.binary(max_size=120), st.integers(0, 400))
def test_damaged_model_files_are_never_more_than_refused(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "noisy.espdl"
    good = write_espdl(path, {"edgedeploy": json.dumps(LAYOUT)}).read_bytes()
    path.write_bytes(good[:at] + noise + good[at + len(noise) :])
    refused = ""
    try:
        found = layout(str(path))
    except BadInput as error:
        refused = str(error)
    assert "noisy.espdl" in refused or isinstance(found, dict)


def tensor(
    shape: list[int], perm: list[int] | None, *, kind: int, exponent: int, rounding: str
) -> Tensor:
    """One as the board would describe it."""
    held = [shape[axis] for axis in perm or range(len(shape))]
    size = int(np.prod(held)) * {8: 1, 16: 2, 32: 4, 33: 4}[kind]
    answer = struct.pack(f"<BbB{len(held)}iI", kind, exponent, len(held), *held, size) + b"t"
    return Tensor({"name": "t", "dtype": "float32", "shape": shape, "perm": perm}, rounding, answer)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[list[int], list[int] | None]:
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    return shape, draw(st.none() | st.permutations(range(len(shape))))


@given(shapes(), st.sampled_from([8, 16, 32, 33]), st.integers(-12, 4), st.data())
def test_numbers_of_the_board_survive_the_way_to_values_and_back(
    laid: tuple[list[int], list[int] | None], kind: int, exponent: int, data: st.DataObject
) -> None:
    each = tensor(laid[0], laid[1], kind=kind, exponent=exponent, rounding="half_even")
    dtype = {8: "<i1", 16: "<i2", 32: "<i4", 33: "<f4"}[kind]
    # a float32 holds 24 bits of a number
    limits = {"min_value": -(1 << 24), "max_value": 1 << 24} if kind == 32 else {}
    elements = {"allow_nan": False} if kind == 33 else limits
    shape = (2, int(np.prod(laid[0])))
    numbers = data.draw(hnp.arrays(dtype, shape, elements=elements)).view(np.uint8)
    values = each.values(numbers)
    assert values.shape == (2, *laid[0])
    assert np.array_equal(each.numbers(values), numbers)


@given(hnp.arrays(np.float32, (1, 2, 3), elements={"allow_nan": False}))
def test_values_are_rounded_by_the_law_and_clipped(values: Any) -> None:
    perm = [1, 0]
    scale = 2.0**-6
    for rounding, law in [("half_up", lambda x: np.floor(x + 0.5)), ("half_even", np.rint)]:
        each = tensor([2, 3], perm, kind=8, exponent=-6, rounding=rounding)
        found = each.numbers(values).view("i1").reshape(3, 2)
        wanted = np.clip(law(values[0].astype(float) / scale), -128, 127)
        assert np.array_equal(found, wanted.T)
        back = each.values(each.numbers(values))
        inside = (values >= -2) & (values <= 127 / 64)
        assert np.all(np.abs(back - values)[inside] <= scale / 2)


def test_halves_go_up_or_to_even() -> None:
    halves = np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 200, -np.inf]], np.float32)
    for rounding, wanted in [
        ("half_up", [-2, -1, 0, 1, 2, 3, 127, -128]),
        ("half_even", [-2, -2, 0, 0, 2, 2, 127, -128]),
    ]:
        each = tensor([8], None, kind=8, exponent=0, rounding=rounding)
        assert each.numbers(halves).view("i1").tolist() == [wanted]


def test_tables_of_the_fake_agree() -> None:
    for side in (0, 1):
        for (kind, _, shape), size in zip(
            fake_board.TENSORS[side], fake_board.SIZES[side], strict=True
        ):
            assert np.prod(shape) * kind // 8 == size
        assert sum(fake_board.SIZES[side]) == 72
