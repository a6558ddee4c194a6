"""Pictures into inputs: color order, resizing, fitting, scaling, layout, dtype, damage."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from edgedeploy.data.arrays import Slot, slots_of
from edgedeploy.data.image import decode, image_slot, prepare
from edgedeploy.errors import DataError
from edgedeploy.workload import InputSpec


def slot(shape: tuple[int, ...] = (1, 3, 4, 4), **settings: Any) -> Slot:
    given: dict[str, Any] = {"name": "x", "shape": shape, "dtype": "float32", "layout": "NCHW"}
    return slots_of((InputSpec(**{**given, **settings}),))[0]


def picture(pixels: npt.ArrayLike) -> Image.Image:
    return Image.fromarray(np.asarray(pixels, dtype=np.uint8))


def solid(width: int, height: int, color: tuple[int, int, int] = (255, 0, 51)) -> Image.Image:
    return Image.new("RGB", (width, height), color)


def test_default_scale_is_byte_over_255_in_rgb_planes() -> None:
    found = prepare(solid(4, 4), slot())
    assert found.shape == (3, 4, 4)
    assert found.dtype == np.float32
    assert found[:, 1, 2].tolist() == [1.0, 0.0, np.float32(51) / np.float32(255)]


def test_bgr_reverses_the_channels_before_mean_and_std() -> None:
    spec = slot(color="bgr", value_range=(0.0, 255.0), mean=(104.0, 117.0, 123.0))
    assert prepare(solid(4, 4), spec)[:, 0, 0].tolist() == [51 - 104, 0 - 117, 255 - 123]


def test_mean_and_std_apply_after_scaling() -> None:
    spec = slot(mean=(0.5, 0.5, 0.2), std=(0.5, 0.25, 0.1))
    found = prepare(solid(4, 4), spec)[:, 0, 0]
    np.testing.assert_allclose(found, [1.0, -2.0, 0.0], atol=1e-6)


def test_one_mean_serves_all_channels() -> None:
    assert prepare(solid(4, 4), slot(mean=(1.0,)))[:, 0, 0].tolist()[:2] == [0.0, -1.0]


def test_symmetric_value_range() -> None:
    found = prepare(picture([[0, 255], [51, 204]]), slot((1, 1, 2, 2), value_range=(-1.0, 1.0)))
    np.testing.assert_allclose(found[0], [[-1, 1], [-0.6, 0.6]], atol=1e-6)


def test_one_channel_is_gray_by_the_luma_formula() -> None:
    found = prepare(solid(2, 2, (255, 0, 0)), slot((1, 1, 2, 2), value_range=(0.0, 255.0)))
    # ITU-R 601-2: 0.299 R
    assert found.tolist() == [[[76.0, 76.0], [76.0, 76.0]]]


def test_gray_file_feeds_three_channels() -> None:
    found = prepare(picture([[0, 255], [255, 0]]), slot((1, 3, 2, 2)))
    assert found.tolist() == [[[0, 1], [1, 0]]] * 3


def test_integer_input_gets_the_bytes() -> None:
    spec = slot((1, 2, 2, 3), layout="NHWC", dtype="uint8", value_range=(0.0, 255.0))
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    found = prepare(picture(pixels), spec)
    assert found.dtype == np.uint8
    assert found.tolist() == pixels.tolist()


def test_signed_integer_range_shifts() -> None:
    spec = slot((1, 1, 1, 2), dtype="int8", value_range=(-128.0, 127.0))
    assert prepare(picture([[0, 255]]), spec).tolist() == [[[-128, 127]]]


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))))
def test_layouts_are_transposes_of_each_other(pixels: np.ndarray[Any, Any]) -> None:
    height, width, _ = pixels.shape
    planes = prepare(picture(pixels), slot((1, 3, height, width), std=(0.5, 0.2, 0.1)))
    rows = prepare(picture(pixels), slot((1, height, width, 3), layout="NHWC", std=(0.5, 0.2, 0.1)))
    assert planes.flags.c_contiguous
    assert np.array_equal(planes.transpose(1, 2, 0), rows)


@given(hnp.arrays(np.uint8, (5, 4, 3)))
def test_bytes_survive_scaling_and_back(pixels: np.ndarray[Any, Any]) -> None:
    found = prepare(picture(pixels), slot((1, 5, 4, 3), layout="NHWC"))
    assert np.array_equal(np.rint(found * 255).astype(np.uint8), pixels)


def test_stretch_fills_the_frame_whatever_the_aspect() -> None:
    found = prepare(solid(20, 5), slot())
    assert np.unique(found[0]).tolist() == [1.0]


def halves(width: int, height: int) -> Image.Image:
    """Left half black, right half white."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, width // 2 :] = 255
    return picture(pixels)


def test_crop_takes_the_middle_at_the_short_side() -> None:
    image = picture(np.arange(8 * 4 * 3, dtype=np.uint8).reshape(4, 8, 3))
    found = prepare(image, slot((1, 4, 4, 3), layout="NHWC", value_range=(0, 255.0), fit="crop"))
    assert found.tolist() == np.asarray(image)[:, 2:6].tolist()


def test_short_side_then_crop_as_evaluation_pipelines_do() -> None:
    image = halves(64, 32)
    found = prepare(image, slot((1, 3, 8, 8), short_side=16, fit="crop"))
    by_hand = image.resize((32, 16), Image.Resampling.BILINEAR).crop((12, 4, 20, 12))
    assert np.array_equal(found, np.asarray(by_hand, np.float32).transpose(2, 0, 1) / 255)


def test_crop_scales_up_a_picture_smaller_than_the_frame() -> None:
    found = prepare(solid(3, 2), slot((1, 3, 8, 8), short_side=2, fit="crop"))
    assert np.unique(found[0]).tolist() == [1.0]


def test_letterbox_keeps_the_aspect_with_black_bars() -> None:
    found = prepare(solid(8, 4), slot((1, 3, 8, 8), fit="letterbox"))
    assert found[0, :, 0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_files_decode_exactly(kind: str) -> None:
    image = picture(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    found = decode(io.BytesIO(encoded(image, kind)), "a")
    assert np.array_equal(np.asarray(found), np.asarray(image))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_truncated_file_is_named(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(picture(noise), kind)
    with pytest.raises(DataError, match=r"image holiday\.x is unreadable or truncated") as caught:
        decode(io.BytesIO(data[: len(data) // 2]), "holiday.x")
    assert "Copy it again" in caught.value.hint


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_no_image_at_all(data: bytes) -> None:
    with pytest.raises(DataError, match="unreadable or truncated"):
        decode(io.BytesIO(data), "a.png")


def test_other_formats_are_not_tried() -> None:
    with pytest.raises(DataError, match="unreadable"):
        decode(io.BytesIO(encoded(solid(4, 4), "TIFF")), "a.png")


def test_sixteen_bits_are_refused_rather_than_clipped() -> None:
    deep = Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16))
    with pytest.raises(DataError, match="more than 8 bits"):
        decode(io.BytesIO(encoded(deep, "PNG")), "deep.png")


def test_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"big\.png is too large to decode safely"):
        decode(io.BytesIO(encoded(solid(64, 64), "PNG")), "big.png")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": (1, 10)}, "a picture has three axes"),
        ({"layout": None}, "has no layout"),
        ({"shape": (1, 4, 4, 3)}, "has 4 channels as NCHW: a rgb picture has 1 or 3"),
        ({"color": "gray"}, "has 3 channels as NCHW: a gray picture has 1"),
        ({"dtype": "uint8"}, "is uint8, but its value_range is 0 to 1"),
        ({"short_side": 0}, "short_side is 0"),
    ],
)
def test_inputs_that_are_no_picture(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        image_slot((slot(**settings),), "a folder")
    assert caught.value.hint


def test_images_cannot_feed_two_inputs() -> None:
    with pytest.raises(DataError, match="feeds one input, but the model has 2: x, x"):
        image_slot((slot(), slot()), "a folder")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean": (1.0, 2.0)}, "mean has 2 values for 3 channels"),
        ({"std": (1.0, 0.0, 1.0)}, "std contains 0"),
    ],
)
def test_wrong_mean_and_std(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare(solid(4, 4), slot(**settings))
