"""A picture becomes a model input: decode, resize, fit, scale, normalise, lay out."""

import struct
import zlib
from typing import IO, assert_never

import numpy as np
from PIL import Image

from edgedeploy.data.arrays import Array, Slot, normalize, to_dtype
from edgedeploy.errors import DataError
from edgedeploy.workload import Color, InputSpec

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
# what pillow's decoders are known to raise on damaged files
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


def image_slot(slots: tuple[Slot, ...], source: str) -> Slot:
    """The one input that pictures feed.

    Raises `DataError` where the model has several inputs, or this one is no picture: four axes with
    the batch axis, a layout, one channel (gray) or three, and a range its dtype can hold.
    """
    if len(slots) != 1:
        names = ", ".join(slot.name for slot in slots)
        msg = f"{source} feeds one input, but the model has {len(slots)}: {names}"
        raise DataError(msg, hint="Give all of them with layout 'npz' or 'python'.")
    slot = slots[0]
    if len(slot.shape) != 3:
        msg = f"input {slot.name!r} takes samples of shape {slot.shape}: a picture has three axes"
        raise DataError(msg, hint="Use layout 'npz', 'python' or 'seeded'.")
    if slot.spec.layout is None:
        msg = f"input {slot.name!r} of shape {slot.shape} has no layout"
        raise DataError(msg, hint='Set layout = "NCHW" or "NHWC" in [[inputs]].')
    channels = slot.shape[0] if slot.spec.layout == "NCHW" else slot.shape[2]
    if channels not in (1, 3) or (channels == 3 and slot.spec.color == "gray"):
        expected = "1" if slot.spec.color == "gray" else "1 or 3"
        msg = (
            f"input {slot.name!r} has {channels} channels as {slot.spec.layout}:"
            f" a {slot.spec.color} picture has {expected}"
        )
        raise DataError(msg, hint="Correct layout, shape or color in [[inputs]].")
    if slot.spec.short_side is not None and slot.spec.short_side < 1:
        msg = f"input {slot.name!r}: short_side is {slot.spec.short_side}"
        raise DataError(msg, hint="Give a number of pixels.")
    low, high = slot.spec.value_range
    if slot.dtype.kind in "iub" and high - low <= 1:
        msg = f"input {slot.name!r} is {slot.dtype}, but its value_range is {low:g} to {high:g}"
        raise DataError(msg, hint="Set value_range in [[inputs]], as in [0, 255].")
    return slot


def decode(file: IO[bytes], name: str) -> Image.Image:
    """The picture in `file`, fully decoded; `DataError` names an unreadable or truncated one.

    Pixels are as stored: an EXIF orientation is not applied, as training pipelines do not.
    """
    try:
        image: Image.Image = Image.open(file, formats=FORMATS)
        image.load()
    except Image.DecompressionBombError as err:
        msg = f"image {name} is too large to decode safely: {err}"
        raise DataError(msg, hint="Shrink it.") from err
    except DAMAGE as err:
        msg = f"image {name} is unreadable or truncated: {err}"
        raise DataError(msg, hint="Copy it again or remove it.") from err
    if image.mode.startswith(("I", "F")):
        msg = f"image {name} has pixels of mode {image.mode}, more than 8 bits a channel"
        raise DataError(msg, hint="Convert it to 8 bits a channel.")
    return image


def prepare(image: Image.Image, slot: Slot) -> Array:
    """The array that `slot` takes, of its sample shape and dtype.

    In this order: color, short side (bilinear), fit to height and width, 0..255 to `value_range`,
    (x - mean) / std per channel in the order of `color`, layout, dtype.
    """
    spec = slot.spec
    height, width = slot.shape[1:] if spec.layout == "NCHW" else slot.shape[:2]
    channels = slot.shape[0] if spec.layout == "NCHW" else slot.shape[2]
    color: Color = "gray" if channels == 1 else spec.color
    image = image.convert("L" if color == "gray" else "RGB")
    if spec.short_side is not None:
        image = _resize_short_side(image, spec.short_side)
    pixels = np.asarray(_fit(image, height, width, spec), dtype=np.float32)
    pixels = pixels.reshape(height, width, channels)
    if color == "bgr":
        pixels = pixels[:, :, ::-1]
    low, high = spec.value_range
    pixels = normalize(pixels * np.float32(high - low) / 255 + np.float32(low), spec, axis=2)
    if spec.layout == "NCHW":
        pixels = pixels.transpose(2, 0, 1)
    return to_dtype(pixels, slot.dtype)


def _resize(image: Image.Image, height: int, width: int) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _resize_short_side(image: Image.Image, side: int) -> Image.Image:
    """The shorter side becomes `side`, the other keeps the aspect, rounded down."""
    width, height = image.size
    if width <= height:
        return _resize(image, side * height // width, side)
    return _resize(image, side, side * width // height)


def _fit(image: Image.Image, height: int, width: int, spec: InputSpec) -> Image.Image:
    match spec.fit:
        case "stretch":
            return _resize(image, height, width)
        case "crop":
            return _crop(image, height, width, whole=spec.short_side is None)
        case "letterbox":
            return _letterbox(image, height, width)
        case _:
            assert_never(spec.fit)


def _crop(image: Image.Image, height: int, width: int, *, whole: bool) -> Image.Image:
    """The middle of the frame's size.

    `whole` first scales the image to just cover the frame; otherwise that happens only where a
    side is shorter than the frame's.
    """
    scale = max(height / image.height, width / image.width)
    if whole or scale > 1:
        scaled = (round(image.height * scale), round(image.width * scale))
        image = _resize(image, max(height, scaled[0]), max(width, scaled[1]))
    left = round((image.width - width) / 2)
    top = round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _letterbox(image: Image.Image, height: int, width: int) -> Image.Image:
    """Scaled to lie within the frame, in its middle, black around."""
    scale = min(height / image.height, width / image.width)
    inner_height = min(height, max(1, round(image.height * scale)))
    inner_width = min(width, max(1, round(image.width * scale)))
    frame = Image.new(image.mode, (width, height))
    corner = ((width - inner_width) // 2, (height - inner_height) // 2)
    frame.paste(_resize(image, inner_height, inner_width), corner)
    return frame
