"""Models on one chip: taken up together under the scheduler, run, let go in the right order."""

from __future__ import annotations

import contextlib
import gc
import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from hailort_faults import BadInput, explained

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import numpy.typing as npt
    from hailort_tensors import Manifest

    Array = npt.NDArray[Any]
    Options = dict[str, Any]
    # hailo_platform's classes are imported too late to be named
    Info = Any

Answer = TypeVar("Answer")
RUNNING = "running the model"
GONE = "the chip was let go since this was bound"


class Slot:
    """Buffers of one inference in flight, and the calls on them. `inputs` are wire arrays."""

    def __init__(self, model: Model, inputs: dict[str, Array]) -> None:
        bindings = model.configured.create_bindings(output_buffers=model.output_buffers())
        self.bindings = [bindings]
        self.timeout_ms: int = model.options["timeout_ms"]
        self.run_bound: Callable[..., Any] = model.configured.run
        self.start_bound: Callable[..., Any] = model.configured.run_async
        self.ready: Callable[..., Any] = model.configured.wait_for_async_ready
        self.layers = [edge.layer for edge in model.manifest.outputs]
        self.shapes = model.input_shapes
        self.found = model.found
        self.take(inputs)

    def take(self, inputs: dict[str, Array]) -> None:
        """Have the next inference read these wire arrays; they must not change until it is done."""
        for layer, wire in inputs.items():
            self.bindings[0].input(layer).set_buffer(wire.reshape(self.shapes[layer]))

    def run(self) -> None:
        """One inference from the wire arrays to the output buffers, by `run` alone, to be timed.

        HailoRT tells of an inference that failed on the chip only at the one after it.
        """
        try:
            self.run_bound(self.bindings, self.timeout_ms)
        except Exception:
            with explained(RUNNING, self.found):
                raise

    def start(self) -> Callable[[], None]:
        """Queue one inference, waiting for a place in the queue; the answer waits for its end."""
        failed: list[Exception] = []

        def done(completion_info: Info) -> None:
            if completion_info.exception is not None:
                failed.append(completion_info.exception)

        def wait() -> None:
            # waiting tells the end; only the callback is told of a failure
            with explained(RUNNING, self.found):
                job.wait(self.timeout_ms)
                if failed:
                    raise failed[0]

        with explained(RUNNING, self.found):
            self.ready(timeout_ms=self.timeout_ms, frames_count=1)
            job = self.start_bound(self.bindings, done)
        return wait

    def outputs(self) -> dict[str, Array]:
        """The buffers by layer: what the inference before wrote."""
        return {layer: self.bindings[0].output(layer).get_buffer() for layer in self.layers}

    def let_go(self) -> None:
        """Drop what holds the chip; a call from here on says so."""
        self.bindings = []
        self.run_bound = self.start_bound = self.ready = gone


def gone(*_: object, **__: object) -> None:
    """In the place of a call on a chip that is not held any more."""
    raise BadInput(GONE, "Call bind() again after vendor_figures().")


class Model:
    """One HEF configured on the chip."""

    def __init__(self, chip: Chip, manifest: Manifest, options: Options) -> None:
        self.manifest = manifest
        self.options = options
        self.slots: list[Slot] = []
        self.held = contextlib.ExitStack()
        platform = chip.platform
        mode = getattr(platform.HailoPowerMode, options["power_mode"].upper())
        self.found = chip.found(manifest)
        with explained(f"loading {manifest.hef}", self.found):
            self.infer = chip.device.create_infer_model(str(manifest.hef))
            self.check_names()
            for edge in manifest.inputs:
                kind = getattr(platform.FormatType, edge.wire_dtype.upper())
                self.infer.input(edge.layer).set_format_type(kind)
            for edge in manifest.outputs:
                self.infer.output(edge.layer).set_format_type(platform.FormatType.FLOAT32)
            self.infer.set_batch_size(options["batch_size"])
            self.infer.set_power_mode(mode)
            self.input_shapes = self.shapes(self.infer.input, manifest.inputs)
            self.output_shapes = self.shapes(self.infer.output, manifest.outputs)
            self.configured = self.held.enter_context(self.infer.configure())
            self.queue: int = self.configured.get_async_queue_size()
        self.single: Slot | None = None

    def check_names(self) -> None:
        """Raise `BadInput` where the HEF's inputs and outputs are not those of model.json."""
        for side in ("input", "output"):
            found = sorted(getattr(self.infer, f"{side}_names"))
            said = sorted(edge.layer for edge in getattr(self.manifest, f"{side}s"))
            if found != said:
                msg = f"{self.manifest.hef} has {side}s {found}, its model.json says {said}"
                raise BadInput(msg, "They are not of one compilation: compile or copy both again.")

    def shapes(self, stream: Callable[[str], Any], edges: list[Any]) -> dict[str, tuple[int, ...]]:
        """The HEF's shapes by layer; raises `BadInput` where model.json counts other elements."""
        found = {}
        for edge in edges:
            shape = tuple(int(size) for size in stream(edge.layer).shape)
            if math.prod(shape) != math.prod(edge.wire_shape):
                msg = (
                    f"{edge.layer!r} has shape {list(shape)} in {self.manifest.hef}, its model.json"
                    f" says {edge.wire_shape}"
                )
                hint = "Compile again; an nms_postprocess line in a model script changes outputs."
                raise BadInput(msg, hint)
            found[edge.layer] = shape
        return found

    def output_buffers(self) -> dict[str, Array]:
        """Memory for the outputs of one inference."""
        return {layer: np.empty(shape, np.float32) for layer, shape in self.output_shapes.items()}

    def slot(self, inputs: dict[str, Array]) -> Slot:
        """Memory and bindings of one more inference in flight, on these inputs of the model."""
        self.slots.append(Slot(self, self.manifest.wire(inputs)))
        return self.slots[-1]

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """One inference, the model's arrays in and out."""
        if self.single is None:
            self.single = self.slot(inputs)
        else:
            self.single.take(self.manifest.wire(inputs))
        self.single.start()()
        return self.manifest.outcome(self.single.outputs())

    def run_many(self, samples: dict[str, Array]) -> dict[str, Array]:
        """Inferences on arrays of N samples, as many in flight as the queue takes."""
        counts = {len(values) for values in samples.values()}
        if len(counts) != 1:
            msg = f"inputs have {sorted(counts)} samples"
            raise BadInput(msg, "Give as many samples for each input.")
        count = counts.pop()
        parts: dict[str, list[Array]] = {edge.name: [] for edge in self.manifest.outputs}
        ring: list[Slot] = []
        waiting: list[tuple[Slot, Callable[[], None]]] = []

        def finish() -> None:
            slot, wait = waiting.pop(0)
            wait()
            for name, value in self.manifest.outcome(slot.outputs()).items():
                parts[name].append(value)

        for place in range(count):
            inputs = {name: values[place] for name, values in samples.items()}
            if len(ring) < max(1, self.queue):
                slot = self.slot(inputs)
                ring.append(slot)
            else:
                finish()
                slot = ring[place % len(ring)]
                slot.take(self.manifest.wire(inputs))
            waiting.append((slot, slot.start()))
        while waiting:
            finish()
        shapes = {edge.name: (0, *edge.shape) for edge in self.manifest.outputs}
        for slot in ring:
            self.slots.remove(slot)
        return {
            name: np.stack(values) if values else np.zeros(shapes[name], np.float32)
            for name, values in parts.items()
        }

    def let_go(self) -> None:
        """Drop bindings first, then the configured model, then the model."""
        for slot in self.slots:
            slot.let_go()
        self.slots.clear()
        self.single = None
        self.configured = self.infer = None
        self.held.close()


class Chip:
    """A chip held by this process, and the models on it, first the one that `load` brought.

    `chip` is its id; one that is free, where it is empty.
    """

    def __init__(self, platform: ModuleType, chip: str, told: dict[str, str]) -> None:
        self.platform = platform
        self.chip = chip
        self.told = told
        self.models: list[Model] = []
        self.device: Any = None
        self.take()

    def take(self) -> None:
        """Hold the chip, for several models in turns where there are more than one."""
        params = self.platform.VDevice.create_params()
        # Python's default is none, where each model would have to be activated by hand
        params.scheduling_algorithm = self.platform.HailoSchedulingAlgorithm.ROUND_ROBIN
        if self.chip:
            # as an argument of VDevice the ids would have the parameters ignored
            params.device_ids = [self.chip]
        with explained("taking the chip", self.told):
            self.device = self.platform.VDevice(params)
            self.chip = str(self.device.get_physical_devices_ids()[0])

    def found(self, manifest: Manifest) -> dict[str, str]:
        """What fills in the texts of faults of this model on this chip."""
        made = f"HEF of the Dataflow Compiler {manifest.compiler} for HailoRT {manifest.runtime}"
        versions = f"{self.told['versions']}, {made}"
        return {
            **self.told,
            "versions": versions,
            "runtime": manifest.runtime,
            "hw_arch": manifest.hw_arch,
        }

    def add(self, manifest: Manifest, options: Options) -> Model:
        """One more model on the chip; raises what `explained` makes of a refusal."""
        self.models.append(Model(self, manifest, options))
        return self.models[-1]

    def let_go(self) -> None:
        """Let the models go, last first, and then the chip."""
        while self.models:
            self.models.pop().let_go()
        device, self.device = self.device, None
        if device is not None:
            device.release()
        # what C++ holds is freed with the last reference to it
        gc.collect()

    def without(self, task: Callable[[], Answer]) -> Answer:
        """Do what needs the chip free, and take it and its models up again, however that ends."""
        kept = [(model.manifest, model.options) for model in self.models]
        self.let_go()
        try:
            return task()
        finally:
            self.take()
            for manifest, options in kept:
                self.add(manifest, options)
