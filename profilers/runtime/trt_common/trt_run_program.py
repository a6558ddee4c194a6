"""What a runtime program answers, for either flavour: engines on a card, run, timed, described."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import trt_run_cuda
from trt_run_artifact import Artifact
from trt_run_faults import BadInput, Unsupported
from trt_run_library import Library
from trt_run_model import Model
from trt_run_options import checked, device_scope, host_bound, scope

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Table = dict[str, Any]

WARM_UP_RUNS = 10
RUNS_OF_LAYERS = 3
MEMORY_NOTE = "device_delta is of the whole card: what others took or gave meanwhile is in it"


class Program:
    """The state of one program: a card, its library, the models on it."""

    def __init__(self, flavour: str) -> None:
        self.flavour = flavour
        self.card: Any = None
        self.library: Any = None
        self.models: list[Model] = []
        self.delta_bytes = 0

    def probe(self) -> Table:
        """Versions of what is there; raises `Missing`: first of all where there is no driver."""
        cuda = trt_run_cuda.runtime()
        return {"tools": self._tools(cuda, Library(self.flavour))}

    def _tools(self, cuda: trt_run_cuda.Cuda, library: Library) -> dict[str, str]:
        return {self.flavour.replace("_", "-"): library.version, "cuda-python": cuda.version}

    def load(self, path: str, options: Table) -> Table:
        """Take the card and read an engine; replaces those before."""
        chosen = checked(options)
        self.close()
        cuda = trt_run_cuda.runtime()
        library = self.library = Library(self.flavour)
        artifact = Artifact(path)
        self.card = trt_run_cuda.Card(cuda, chosen["device"], chosen["spin"])
        try:
            before = self.card.free_bytes()
            model = Model(library, self.card, artifact, chosen)
            self.models.append(model)
            self._try_out(model)
            self.delta_bytes = before - self.card.free_bytes()
        except BaseException:
            self.close()
            raise
        return model.described()

    def _try_out(self, model: Model) -> None:
        """One inference on ones: what a model takes of the card is taken now, or refused now."""
        feed = {
            name: np.ones(tensor.profile[1] if tensor.profile else tensor.shape, tensor.dtype)
            for name, tensor in model.tensors[0].items()
        }
        model.run(feed)

    def beside(self, path: str, options: Table) -> Table:
        """Read one more engine onto the same card."""
        first = self.first()
        chosen = checked(options)
        for name in ("device", "spin"):
            if name in options and chosen[name] != first.options[name]:
                msg = f"{name} is {chosen[name]!r}, the first model's is {first.options[name]!r}"
                raise BadInput(msg, "Leave it out: models beside each other share the card.")
            chosen[name] = first.options[name]
        model = Model(self.library, self.card, Artifact(path), chosen)
        self.models.append(model)
        self._try_out(model)
        return model.described()

    def place(self, number: int) -> Model:
        """The model that call number `number` of `beside` brought."""
        others = self.models[1:]
        if not 0 <= number < len(others):
            msg = f"there is no model {number} beside the first, {len(others)} were loaded so"
            raise BadInput(msg, "Call beside(artifact, options) first.")
        return others[number]

    def first(self) -> Model:
        """The model that `load` brought."""
        if not self.models:
            msg = "no artifact is loaded"
            raise BadInput(msg, "Call load(artifact, options) first.")
        return self.models[0]

    def device_times(self, inputs: dict[str, Array], count: int) -> Table:
        """Seconds of `count` single inferences by CUDA events, and what lies between them.

        `enqueue_s` is how long the host took to queue each: where that is as long as the inference,
        the card waits for the host, and its gaps are in the time between the events.
        """
        model = self.first()
        slot = model.slot(inputs)
        try:
            seconds, queueing = slot.timed(count, WARM_UP_RUNS)
        finally:
            model.drop(slot)
        notes = host_bound(seconds, queueing, model.options)
        return {
            "clock": "cuda-events",
            "latency_s": seconds,
            "enqueue_s": queueing,
            "scope": device_scope(model.options),
            "notes": notes,
        }

    def layers(self, inputs: dict[str, Array], count: int) -> list[Table]:
        """Mean seconds of each layer in `count` inferences of a context that profiles itself."""
        model, library = self.first(), self.library
        times: dict[str, float] = {}

        class Profile(library.trt.IProfiler):
            def __init__(self) -> None:
                library.trt.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times[layer_name] = times.get(layer_name, 0.0) + ms / 1e3

        slot = model.slot(inputs, transfers=False, graph=False, profiler=Profile())
        try:
            for _ in range(RUNS_OF_LAYERS):
                slot.infer()
            times.clear()
            for _ in range(count):
                slot.infer()
        finally:
            model.drop(slot)
        if not times:
            msg = f"{library.name} {library.version} reported no times of layers"
            raise Unsupported(
                msg, "NVIDIA's profiler Nsight Systems shows kernels (`nsys profile`)."
            )
        kinds = library.operators(model.engine)
        return [
            {"name": name, "op": kinds.get(name, ""), "time_s": total / count}
            for name, total in times.items()
        ]

    def memory(self) -> dict[str, int]:
        """Bytes on the card: the engine's own figures, and what the card lost by loading it."""
        model = self.first()
        return {**self.library.memory(model.engine), "device_delta": max(0, self.delta_bytes)}

    def facts(self) -> Table:
        """Versions; with a model loaded, the card, the options that matter and what is timed."""
        if not self.models:
            cuda = trt_run_cuda.runtime()
            library = Library(self.flavour)
            return {"tools": self._tools(cuda, library), **virtual(cuda, library)}
        card, model, library = self.card, self.first(), self.library
        found = card.facts()
        tools = self._tools(card.cuda, library)
        if found["driver"]:
            tools["nvidia-driver"] = found["driver"]
        notes = [MEMORY_NOTE]
        if card.integrated:
            notes.append("the GPU shares the memory of its CPU: free memory is that of both")
        if found["mig"]:
            notes.append("this is a part of a GPU (MIG): others may run on the rest of it")
        notes += [note for each in self.models for note in each.notes]
        return {
            **found,
            "tools": tools,
            "engine_compute_capability": model.artifact.capabilities,
            "precision": model.artifact.precision,
            "layers": model.engine.num_layers,
            "cuda_graph": model.options["cuda_graph"],
            "transfers": model.options["transfers"],
            "host_waits_by": model.options["spin"],
            "latency_scope": scope(model.options),
            "notes": notes,
            **virtual(card.cuda, library),
        }

    def close(self) -> None:
        """Let models, library and card go, in this order."""
        for model in self.models:
            model.close()
        self.models.clear()
        if self.library is not None:
            self.library.close()
        self.library = self.card = None
        self.delta_bytes = 0


def virtual(cuda: trt_run_cuda.Cuda, library: Library) -> Table:
    """The mark of a stand-in, none on the vendor's own packages."""
    return {"virtual": True} if cuda.virtual or library.virtual else {}
