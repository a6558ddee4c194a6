"""The functions of a runtime program for both TensorRT libraries; which one, the program says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trt_run_program import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Table = dict[str, Any]
    Calls = Callable[[], object]

programs: list[Program] = []


def use(library: str) -> Program:
    """Serve this library's engines, `tensorrt` or `tensorrt_rtx`, and let another's go."""
    while programs:
        programs.pop().close()
    programs.append(Program(library))
    return programs[0]


def chosen() -> Program:
    """The program that `use` made."""
    return programs[0]


def probe() -> Table:
    """Versions of the library and cuda-python. Raises `Missing`, of a driver before all else."""
    return chosen().probe()


def load(artifact: str, options: Table) -> Table:
    """Take the GPU and read an engine; replaces those before.

    `artifact` is the folder with model.engine and model.json, or one of these. Options: `device`
    (0), `cuda_graph` (false: an inference is queued anew each time; true: captured once and
    launched), `transfers` (true: copies from page-locked host memory and back are in what is
    timed), `spin` ("spin" or "block": how the host waits). Raises `Missing` (driver, GPU,
    package), `BadInput` (an engine for another version or GPU, a damaged one, an option),
    `Unsupported` (a graph that cannot be captured), `OutOfDeviceMemory`, `DeviceLost`.
    """
    return chosen().load(artifact, options)


def run(inputs: dict[str, Array]) -> dict[str, Array]:
    """One inference: arrays by the model's names in and out. Raises `BadInput`."""
    return chosen().first().run(inputs)


def bind(inputs: dict[str, Array]) -> Calls:
    """One inference as the options say, on a context, stream and buffers of its own."""
    return chosen().first().slot(inputs).infer


def bind_async(inputs: dict[str, Array]) -> Callable[[], Calls]:
    """A start of one inference in a stream of its own, answering what waits for its end."""
    slot = chosen().first().slot(inputs)

    def started() -> Calls:
        slot.start()
        return slot.wait

    return started


def beside(artifact: str, options: Table) -> Table:
    """Read one more engine onto the same GPU; answers as `load`."""
    return chosen().beside(artifact, options)


def bind_beside(place: int, inputs: dict[str, Array]) -> Calls:
    """As `bind`, of the model that call number `place` of `beside` loaded, from 0 on."""
    return chosen().place(place).slot(inputs).infer


def device_times(inputs: dict[str, Array], count: int) -> Table:
    """Seconds of `count` single inferences by CUDA events: `{"clock", "latency_s", "scope"}`."""
    return chosen().device_times(inputs, count)


def layers(inputs: dict[str, Array], count: int) -> list[Table]:
    """Mean seconds of each layer in `count` inferences, by TensorRT's profiler, in a context of
    its own that waits after each layer: the sum exceeds an unprofiled run."""
    return chosen().layers(inputs, count)


def memory() -> dict[str, int]:
    """Bytes on the GPU: a context's activations, weights where told, the change on the card."""
    return chosen().memory()


def facts() -> Table:
    """Versions and, with a model loaded, the GPU, the options that matter and what is timed."""
    return chosen().facts()


def close() -> None:
    """Let models and GPU go."""
    chosen().close()
