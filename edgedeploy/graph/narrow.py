"""Arrays and tensors of float32 in a narrower float type, and what that cost."""

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgedeploy.errors import UnsupportedError

# by ONNX name: the type in ONNX and in NumPy, its largest and its smallest normal number
NARROW: dict[str, tuple[int, np.dtype[np.generic], float, float]] = {
    "float16": (TensorProto.FLOAT16, np.dtype(np.float16), 65504.0, 2.0**-14),
    "bfloat16": (
        TensorProto.BFLOAT16,
        np.dtype(ml_dtypes.bfloat16),
        (2 - 2.0**-7) * 2.0**127,
        2.0**-126,
    ),
}


class Narrowed:
    """Rounds tensors to the nearest of a narrower type, and counts what leaves its range."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind, self.dtype, self.largest, self.smallest = NARROW[name]
        self.values = 0
        self.zeros: dict[str, int] = {}
        self.subnormals: dict[str, int] = {}
        self.cut: list[str] = []

    def tensor(self, tensor: onnx.TensorProto, name: str, said: str) -> onnx.TensorProto:
        """A float32 tensor in this type, called `name`; messages call it `said`.

        Values beyond the range become the largest of their sign. Raises `UnsupportedError` for an
        infinity where the type is float16.
        """
        array = self.array(numpy_helper.to_array(tensor), said)
        return helper.make_tensor(name, self.kind, list(tensor.dims), array.tobytes(), raw=True)

    def array(self, array: NDArray[np.generic], said: str) -> NDArray[np.generic]:
        """The same for an array."""
        exact = np.asarray(array, np.float32)
        endless = np.isinf(exact)
        if self.name == "float16" and endless.any():
            msg = f"weight {said!r} holds {np.count_nonzero(endless)} infinities: not for float16"
            raise UnsupportedError(msg, hint="Write a large finite number there, as -10000 is.")
        beyond = (np.abs(exact) > self.largest) & ~endless
        if beyond.any():
            count, top = np.count_nonzero(beyond), np.abs(exact[beyond]).max()
            self.cut.append(f"{said} ({count} of {exact.size}, up to {top:.4g})")
        held = np.where(endless, exact, np.clip(exact, -self.largest, self.largest))
        narrow: NDArray[np.generic] = held.astype(self.dtype)
        size = np.abs(narrow.astype(np.float32))
        self.values += exact.size
        for counts, found in (
            (self.zeros, (size == 0) & (exact != 0)),
            (self.subnormals, (size > 0) & (size < self.smallest)),
        ):
            if found.any():
                counts[said] = counts.get(said, 0) + int(np.count_nonzero(found))
        return narrow

    def notes(self) -> list[str]:
        """What left the range: each tensor with too large values, the others by their number."""
        found = []
        if self.cut:
            found.append(f"beyond {self.largest:.6g}, put to it: weights {', '.join(self.cut)}")
        for counts, what in ((self.zeros, "0"), (self.subnormals, "subnormal")):
            if counts:
                most = max(counts, key=lambda said: counts[said])
                found.append(
                    f"{sum(counts.values())} of {self.values} weights become {what} in {self.name},"
                    f" in {len(counts)} tensors; most in {most} ({counts[most]})"
                )
        return found
