"""The records handed from stage to stage; each is written to a run's folder as JSON.

Units stand in the names: `_s _w _j _bytes _hz _db`, `_ns` for clock readings. A number that could
not be had is null with a reason, never 0.
"""

from typing import Any, Literal, dataclass_transform

import msgspec

SCHEMA_VERSION = 1

Source = Literal["measured", "emulated", "estimated", "published"]
Status = Literal["ok", "failed", "unsupported", "missing"]
Phase = Literal["idle", "load", "warm_up", "latency", "throughput", "cool_down"]
Stage = Literal["export", "calibrate", "quantize", "compile", "deploy", "verify", "profile"]
Verdict = Literal[
    "spread", "drift", "throttled", "too_few", "too_short", "not_steady", "host_load", "host_bound"
]


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class RecordMeta(msgspec.StructMeta):
    """Tells type checkers what `Record` hands down to its subclasses."""


class Record(
    msgspec.Struct, metaclass=RecordMeta, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A value handed between stages: immutable, typed, unknown keys refused."""


class Figure(Record):
    """One number of a report, and how it was had.

    `source` says measured on the device, emulated by a simulator of it, estimated by a formula or
    published by somebody; a null `value` has a `reason` instead.
    """

    value: float | int | None
    unit: str
    source: Source | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None) or (self.value is None) != (
            self.source is None
        ):
            message = f"a figure has a value and a source, or a reason and neither: {self!r}"
            raise ValueError(message)


class Fact(Record):
    """One line of a datasheet: `source` is where it is printed."""

    name: str
    value: float | int | str
    source: str
    unit: str = ""


class Tensor(Record):
    """One input or output of a model: `shape` is static unless a dimension is a name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    layout: str | None = None
    value_range: tuple[float, float] | None = None


class Approximation(Record):
    """A toolchain on this host whose arithmetic is like a target's, for where the target's own is
    missing; `note` says how alike.
    """

    compiler: str
    profiler: str
    note: str
    quantizer: str | None = None
    quantize_options: dict[str, Any] = {}
    compile_options: dict[str, Any] = {}
    run_options: dict[str, Any] = {}


class Target(Record):
    """One board: everything the stages need to know about it, and nothing but data.

    `emulator` is a runtime program that computes the device's numbers on this host: parity is held
    against it, and where the device is missing it gives the accuracy, marked emulated. The device
    is to equal it, or to come within `emulator_limit_db` of it. `approximation` gives an accuracy
    where even the compiler is missing, when asked for. `rewrites` are files of edgedeploy/graph/
    applied before the compiler, in that order. `calibration_count` samples are taken where the
    workload names no number. `typed` are precisions whose graph is converted to that type before
    the compiler, which runs on the host or, `compile_on`, beside the device. Latencies that spread
    by more than `spread_limit` are told to be unstable. `by_default` are the precisions deployed in
    where none is asked for: all else.
    """

    name: str
    board: str
    transport: str
    compiler: str
    profiler: str
    quantizer: str | None = None
    emulator: str | None = None
    emulator_limit_db: float | None = None
    approximation: Approximation | None = None
    instruments: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("fp32",)
    by_default: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()
    typed: dict[str, Literal["float16", "bfloat16"]] = {}
    compile_on: Literal["host", "device"] = "host"
    spread_limit: float = 0.10
    opset: int = 18
    source: Source = "measured"
    calibration_count: int | None = None
    memory_bytes: dict[str, int] = {}
    compile_options: dict[str, Any] = {}
    quantize_options: dict[str, Any] = {}
    run_options: dict[str, Any] = {}
    device_options: dict[str, Any] = {}
    facts: tuple[Fact, ...] = ()


class Model(Record):
    """An exported ONNX model, checked; paths are absolute on this host.

    `reference` is an .npz of inputs and of the outputs the source framework gave for them, keys
    `inputs/<name>` and `outputs/<name>`, samples stacked on axis 0 before the model's own axes;
    `onnx/<name>` and `simplified/<name>` are what the exported model gives before and after it was
    simplified.
    """

    path: str
    raw_path: str
    sha256: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    opset: int
    requested_opset: int
    exporter: str
    parameters: int
    macs: int | None
    reference: str
    reference_source: str
    macs_reason: str | None = None
    quantized: bool = False
    max_abs_error: float | None = None
    notes: tuple[str, ...] = ()
    tools: dict[str, str] = {}
    duration_s: float = 0.0


class Calibration(Record):
    """Representative inputs as the model takes them: .npz, one array an input, N samples first."""

    path: str
    fingerprint: str
    count: int
    source: str


class Artifact(Record):
    """What a compiler made of a model for one target and precision.

    `folder` is set where it is several files: hash and size are then over all of them. `kept` is a
    folder of what the compiler wrote for people and does not go to the device. `tail_path` is an
    ONNX file of the nodes behind the end-node cut, run on the host behind the artifact. `fit` is
    what the device's memories are to hold (see fit.py), `notes` what was changed in the graph.
    `downgrades` say where the toolchain did less than it was asked for, `script` is what it was
    told. `virtual` says that it was a stand-in for the toolchain.
    """

    path: str
    format: str
    sha256: str
    size_bytes: int
    precision: str
    model_sha256: str
    folder: str | None = None
    kept: str | None = None
    tail_path: str | None = None
    fit: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    quantized_path: str | None = None
    calibration_fingerprint: str | None = None
    requested_options: dict[str, Any] = {}
    options: dict[str, Any] = {}
    tools: dict[str, str] = {}
    duration_s: float = 0.0
    peak_memory_bytes: int | None = None
    log: str = ""
    warnings: tuple[str, ...] = ()
    downgrades: tuple[str, ...] = ()
    script: str = ""
    virtual: bool = False


class Preparation(Record):
    """What a compiler that is missing would be given: files made without it, for people to look at
    or to carry to where it is.
    """

    folder: str
    files: tuple[str, ...]
    options: dict[str, Any] = {}
    script: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Deployment(Record):
    """An artifact on a device, its hash read back there.

    `identity` tells the device from others of its kind; of an emulator, its version and firmware.
    """

    path: str
    artifact_sha256: str
    device: str
    transport: str
    deployed_at: str
    identity: str = ""
    facts: dict[str, Any] = {}


class Plan(Record):
    """How a measurement is made; durations of None are chosen by whether an instrument is there."""

    idle_s: float | None = None
    warm_up_min_s: float = 0.2
    warm_up_max_s: float = 10.0
    latency_min_s: float = 2.0
    latency_max_s: float = 10.0
    latency_min_count: int = 1000
    latency_count: int | None = None
    throughput_s: float = 0.5
    concurrency: tuple[int, ...] | None = None
    cool_down_s: float | None = None
    layer_runs: int = 10
    timeout_s: float = 600.0


class Window(Record):
    """A stretch of a measurement: readings of `clock`, and the inferences finished within."""

    phase: Phase
    start_ns: int
    end_ns: int
    count: int
    concurrency: int = 1
    clock: str = "host-monotonic"
    steady: bool | None = None


class Series(Record):
    """Raw readings kept in the run's .npz: `<key>/t_ns` and `<key>/values`.

    `counter_range` is set for an energy counter: it wraps there. `window_s` is the shortest window
    that a mean of it holds over. `total` marks the series whose
    sum stands for the whole device.
    """

    key: str
    quantity: Literal[
        "latency",
        "cycles",
        "instructions",
        "power",
        "energy",
        "temperature",
        "clock",
        "current",
        "voltage",
    ]
    unit: str
    clock: str
    instrument: str
    scope: str
    count: int
    counter_range: float | None = None
    period_s: float | None = None
    window_s: float | None = None
    total: bool = False


class Layer(Record):
    """What one layer as its runtime names it takes in one inference: means of a run of its own.

    `instructions` are an emulator's, which has no time.
    """

    name: str
    op: str
    time_s: float | None = None
    cycles: float | None = None
    instructions: float | None = None


class Rung(Record):
    """One step of the parity ladder, held against the rung that `reference` names.

    Errors are over all reference samples and outputs: `snr_db` is 10 log10(signal / noise power),
    infinite where equal, so null with `equal` true. `meaning` is what its breaking usually means.
    """

    name: str
    reference: str
    max_abs_error: float | None = None
    mean_abs_error: float | None = None
    snr_db: float | None = None
    cosine: float | None = None
    top1_agreement: float | None = None
    equal: bool = False
    broken: bool = False
    limit: str = ""
    reason: str | None = None
    meaning: str = ""


class LayerError(Record):
    """Signal to noise of one activation, float against quantized; null where equal.

    `snr_db` with all layers before it quantized too, `alone_snr_db` with this one only.
    """

    layer: str
    snr_db: float | None
    alone_snr_db: float | None = None


class Ladder(Record):
    """Parity from the source framework to the device; `first_broken` names the rung that fails."""

    rungs: tuple[Rung, ...]
    samples: int
    first_broken: str | None = None
    layers: tuple[LayerError, ...] = ()
    layers_reason: str | None = None


class Accuracy(Record):
    """A metric over a whole evaluation set, through the artifact and the process kind timed."""

    metric: str
    value: float | None
    unit: str
    count: int
    source: Source
    data: str
    reason: str | None = None


class Instability(Record):
    """A verdict on a measurement and why, with what to do next."""

    verdict: Verdict
    message: str


class Missed(Record):
    """An instrument or figure that could not be had, and the remedy."""

    what: str
    reason: str
    hint: str = ""


class VendorFigure(Record):
    """A figure that only the vendor's own tool can tell, and which tool said it."""

    name: str
    value: float
    unit: str
    by: str


class Share(Record):
    """What one model got of a device that several ran on at once, and what it gets alone.

    Latencies are percentiles of single inferences as they came back, with one in flight a model.
    """

    workload: str
    count: int
    rate_hz: float
    alone_rate_hz: float
    latency_p50_s: float | None = None
    latency_p99_s: float | None = None
    artifact_sha256: str = ""


class Together(Record):
    """Several models on one device at once: the first is the row's own."""

    window_s: float
    shares: tuple[Share, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str | None = None


class Measurement(Record):
    """What was read off a device; raw series lie in `series_file` beside this record.

    `timing_reason` says why there is no latency where the device has no clock of its own.
    """

    plan: Plan
    source: Source
    windows: tuple[Window, ...]
    series: tuple[Series, ...]
    series_file: str
    options: dict[str, Any] = {}
    timing_reason: str | None = None
    memory_bytes: dict[str, int] = {}
    memory_reason: str | None = None
    layers: tuple[Layer, ...] = ()
    layers_reason: str | None = None
    accuracy: Accuracy | None = None
    instability: tuple[Instability, ...] = ()
    missed: tuple[Missed, ...] = ()
    vendor_figures: tuple[VendorFigure, ...] = ()
    together: Together | None = None
    facts: dict[str, Any] = {}
    facts_after: dict[str, Any] = {}
    tools: dict[str, str] = {}
    duration_s: float = 0.0


class Emulation(Record):
    """What the target's emulator gave on this host for a device that is missing, or what its
    approximation did for a toolchain that is; `note` then says how alike it is.
    """

    program: str
    note: str = ""
    accuracy: Accuracy | None = None
    tools: dict[str, str] = {}
    duration_s: float = 0.0


class Failure(Record):
    """Why a row has no measurement.

    `lost`: the link to the device's host went away, so `--resume` does the row again.
    """

    target: str
    stage: Stage
    kind: Literal["failed", "input", "missing", "unsupported"]
    message: str
    hint: str = ""
    log: str = ""
    lost: bool = False


class Row(Record):
    """One target and precision of a report: a Measurement or a Failure, and the figures of it."""

    run: str
    workload: str
    target: str
    precision: str
    status: Status
    board: str = ""
    figures: dict[str, Figure] = {}
    artifact: Artifact | None = None
    deployment: Deployment | None = None
    measurement: Measurement | None = None
    preparation: Preparation | None = None
    emulation: Emulation | None = None
    ladder: Ladder | None = None
    failure: Failure | None = None
    cached: dict[str, bool] = {}
    stage_s: dict[str, float] = {}


class Report(Record):
    """All rows of one or several runs; the JSON a user gets, schema in docs/report.schema.json."""

    created_at: str
    edgedeploy_version: str
    host: dict[str, Any]
    schema_version: int = SCHEMA_VERSION
    runs: tuple[str, ...] = ()
    model: Model | None = None
    workload: dict[str, Any] = {}
    rows: tuple[Row, ...] = ()
    folder: str | None = None

    def _repr_html_(self) -> str:
        """The comparison table, for notebooks."""
        from edgedeploy.report.html import to_notebook

        return to_notebook(self)
