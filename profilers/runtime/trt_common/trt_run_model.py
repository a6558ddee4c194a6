"""An engine on a card: its tensors, the slots that run it, inputs checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from trt_run_faults import BadInput
from trt_run_slot import Slot

if TYPE_CHECKING:
    import numpy.typing as npt
    from trt_run_artifact import Artifact
    from trt_run_cuda import Card
    from trt_run_library import Library, Tensor

    Array = npt.NDArray[Any]
    Table = dict[str, Any]


class Model:
    """An engine on the card, and the slots that run it."""

    def __init__(self, library: Library, card: Card, artifact: Artifact, options: Table) -> None:
        self.library, self.card, self.artifact, self.options = library, card, artifact, options
        self.engine, self.notes = library.read(artifact, card)
        self.tensors = library.tensors(self.engine)
        self.slots: list[Slot] = []
        self.plain: Slot | None = None
        self._check_names()

    def _check_names(self) -> None:
        """The engine and the model.json beside it must be of one model."""
        for place, said in enumerate((self.artifact.inputs, self.artifact.outputs)):
            tensors = self.tensors[place]
            told = sorted(each["name"] for each in said)
            if told != sorted(tensors):
                msg = f"model.json names {told}, the engine beside it {sorted(tensors)}"
                raise BadInput(msg, "Compile it again: the two files are of different models.")

    def slot(self, inputs: dict[str, Array], **other: Any) -> Slot:
        """A slot of its own on these inputs; `other` in place of the options."""
        chosen = {
            "transfers": self.options["transfers"],
            "graph": self.options["cuda_graph"],
            **other,
        }
        feed = self.verified(inputs)
        made = Slot(self.library, self.engine, self.card, feed, tensors=self.tensors, **chosen)
        self.slots.append(made)
        return made

    def drop(self, slot: Slot) -> None:
        """Give back what a slot has."""
        self.slots.remove(slot)
        slot.close()

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """One inference with its transfers, on a slot kept for inputs of this shape."""
        feed = self.verified(inputs)
        slot = self.plain
        if slot is None or any(slot.buffers[name].array.shape != feed[name].shape for name in feed):
            if slot is not None:
                self.plain = None
                self.drop(slot)
            slot = self.plain = self.slot(feed, transfers=True, graph=False)
        return slot.run(feed)

    def verified(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """The inputs as the engine takes them; a wrong name, dtype or shape is refused."""
        wanted = self.tensors[0]
        if set(inputs) != set(wanted):
            msg = f"inputs given are {sorted(inputs)}, the model's are {sorted(wanted)}"
            raise BadInput(msg, "Give one array for each of the model's inputs.")
        feed = {}
        for name, value in inputs.items():
            array, tensor = np.asarray(value), wanted[name]
            if str(array.dtype) != tensor.dtype or not fits(array.shape, tensor):
                least_most = ""
                if tensor.profile:
                    least, _, most = tensor.profile
                    least_most = f", its profile from {least} to {most}"
                expected = f"{tensor.dtype} {tuple(tensor.described()['shape'])}{least_most}"
                msg = f"input {name!r} is {array.dtype} {array.shape}, expected {expected}"
                hint = (
                    "Give a shape within the profile, or compile with another (compile option"
                    " profiles)."
                    if tensor.profile
                    else "Check the workload's shape and dtype for this input."
                )
                raise BadInput(msg, hint)
            feed[name] = array
        return feed

    def described(self) -> Table:
        """A loaded model as `load` answers it."""
        return {
            "inputs": [tensor.described() for tensor in self.tensors[0].values()],
            "outputs": [tensor.described() for tensor in self.tensors[1].values()],
            "options": self.options,
        }

    def close(self) -> None:
        """Give slots back before the engine that they are of."""
        for slot in self.slots:
            slot.close()
        self.slots.clear()
        self.plain = self.engine = None


def fits(shape: tuple[int, ...], tensor: Tensor) -> bool:
    """Whether an input may have this shape."""
    if len(shape) != len(tensor.shape):
        return False
    if tensor.profile:
        least, _, most = tensor.profile
        return all(least[i] <= size <= most[i] for i, size in enumerate(shape))
    return tuple(shape) == tensor.shape
