"""A report as a run leaves it: ok rows with power and without, emulated, failed, missing ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedeploy import figures, records
from edgedeploy.records import Missed, Row, Series, Source, Window

Arrays = Mapping[str, tuple[NDArray[Any], NDArray[Any]]]
RUN = "20251120-134455-digits"
MODEL_SHA = "9f2c41d07be85a6630e1f5a7c2d94be1708c3ad65e92f14b0d7a68c95b3fe214"
FACTS = {
    "cpu": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
    "machine": "x86_64",
    "cores": 2,
    "affinity": [0],
    "governor": "performance",
    "clock_hz": 2.7e9,
    "virtual_machine": True,
    "temperatures_c": {"x86_pkg_temp": 51.0},
    "load_average": [0.31, 0.4, 0.22],
    "system": "Linux-6.6.113-x86_64-with-glibc2.36",
    "threads": 1,
}
NO_POWER = (
    Missed(
        what="rapl",
        reason="/sys/class/powercap/intel-rapl:0/energy_uj is readable by root only",
        hint="sudo chmod -R a+r /sys/class/powercap/intel-rapl*",
    ),
    Missed(what="hwmon", reason="no power sensor among 2 hwmon devices"),
)
OPS = ("Conv", "Relu", "MaxPool", "Conv", "Relu", "GlobalAveragePool", "Gemm", "QuantizeLinear")


def latencies(
    median_s: float, count: int, *, seed: int, spread: float = 0.03, stalls: float = 0.004
) -> NDArray[np.float64]:
    """Latencies as a busy host gives them: a narrow body, a slower mode, a few long stalls."""
    rng = np.random.default_rng(seed)
    body = median_s * (1 + np.abs(rng.normal(0, spread, count)) - spread / 2)
    slower = rng.random(count) < 0.08
    stalled = rng.random(count) < stalls
    return body * np.where(slower, 1.12, 1) * np.where(stalled, 1 + rng.exponential(2.5, count), 1)


def ok_row(
    target: str,
    board: str,
    precision: str,
    median_s: float,
    accuracy: float | None,
    *,
    seed: int,
    count: int = 4000,
    watts: float | None = None,
    source: Source = "measured",
    instability: tuple[records.Instability, ...] = (),
    size: int = 142_000,
) -> tuple[Row, Arrays]:
    """A measured row and its raw series."""
    load_peak = (88_000 if source == "emulated" else 11_800_000) + int(watts or 0) * 25_000_000
    values = latencies(median_s, count, seed=seed)
    clock = 1_000_000_000
    start = clock + 2_500_000_000
    starts = start + np.concatenate([[0], np.cumsum(values[:-1] + 2e-7)]) * 1e9
    end = int(starts[-1] + values[-1] * 1e9)
    arrays: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {
        "latency": (starts.astype(np.int64), values)
    }
    series = [
        Series(
            key="latency",
            quantity="latency",
            unit="s",
            clock="host-monotonic",
            instrument="perf_counter_ns",
            scope="one inference",
            count=count,
        )
    ]
    rested, saturated = clock + 2_000_000_000, end + 1_000_000_000
    cooled, finished = saturated + 1_000_000_000, round(1.7 / median_s)
    windows = (
        Window(phase="idle", start_ns=clock, end_ns=rested, count=0),
        Window(phase="warm_up", start_ns=rested, end_ns=start, count=900, steady=True),
        Window(phase="latency", start_ns=start, end_ns=end, count=count),
        Window(phase="throughput", start_ns=end, end_ns=saturated, count=finished, concurrency=2),
        Window(phase="cool_down", start_ns=saturated, end_ns=cooled, count=0),
    )
    if watts is not None:
        t = np.arange(clock, end + 2_000_000_000, 20_000_000)
        busy = (t > clock + 2_000_000_000) & (t < end + 1_000_000_000)
        noise = np.random.default_rng(seed).normal(0, 0.03, len(t))
        arrays["power"] = (t, np.where(busy, watts, 0.42 * watts) * (1 + noise))
        series.append(
            Series(
                key="power",
                quantity="power",
                unit="W",
                clock="host-monotonic",
                instrument="hwmon ina3221",
                scope="rail VDD_IN",
                count=len(t),
                period_s=0.02,
                total=True,
            )
        )
    measurement = records.Measurement(
        plan=records.Plan(),
        source=source,
        windows=windows,
        series=tuple(series),
        series_file=f"rows/{target}-{precision}.npz",
        options={"intra_op_num_threads": 1, "graph_optimization_level": "all"},
        memory_bytes={"empty_runtime": 61_000_000, "load_peak": load_peak, "steady": 9_400_000},
        layers=_layers(median_s, seed) if source == "measured" else (),
        layers_reason=None if source == "measured" else "the simulator has no clock for a layer",
        accuracy=_accuracy(accuracy, source) if accuracy is not None else None,
        instability=instability,
        missed=NO_POWER if watts is None else (),
        facts=FACTS,
        facts_after={**FACTS, "clock_hz": 2.69e9, "temperatures_c": {"x86_pkg_temp": 58.0}},
        tools={"onnxruntime": "1.23.2", "numpy": "2.3.4"},
        duration_s=9.4,
    )
    artifact = records.Artifact(
        path=f"/home/user/.cache/edgedeploy/{target}/{precision}.onnx",
        format="onnx",
        sha256="c0ffee" + f"{seed:058x}",
        size_bytes=size,
        precision=precision,
        model_sha256=MODEL_SHA,
        calibration_fingerprint="5ad01e77" if precision == "int8" else None,
        requested_options={"opset": 18, "calibration_method": "minmax", "per_channel": True},
        options={"opset": 18, "calibration_method": "minmax", "per_channel": seed % 2 == 0},
        tools={"onnxruntime": "1.23.2", "onnx": "1.19.1"},
        duration_s=1.84,
        peak_memory_bytes=312_000_000,
    )
    ladder = _ladder(precision, seed)
    row = Row(
        run=RUN,
        workload="digits",
        target=target,
        board=board,
        precision=precision,
        status="ok",
        figures=figures.row_figures(
            model=model(), artifact=artifact, measurement=measurement, series=arrays, ladder=ladder
        ),
        artifact=artifact,
        deployment=records.Deployment(
            path="/tmp/edgedeploy/c0ffee.onnx",
            artifact_sha256=artifact.sha256,
            device=board,
            transport="local",
            facts={"driver": "36.4.7"} if watts else {},
            deployed_at="2025-11-20T13:45:02+00:00",
        ),
        measurement=measurement,
        ladder=ladder,
        cached={"export": True, "compile": False},
        stage_s={"export": 1.2, "compile": 1.84, "deploy": 0.02, "verify": 0.9, "profile": 9.4},
    )
    return row, arrays


def failed_row(target: str, precision: str, failure: records.Failure) -> Row:
    """A row without a measurement."""
    statuses: dict[str, records.Status] = {"missing": "missing", "unsupported": "unsupported"}
    return Row(
        run=RUN,
        workload="digits",
        target=target,
        board="",
        precision=precision,
        status=statuses.get(failure.kind, "failed"),
        figures=figures.row_figures(
            model=model(), artifact=None, measurement=None, series={}, ladder=None
        ),
        failure=failure,
    )


def model() -> records.Model:
    """The exported model of the sample."""
    return records.Model(
        path="/home/user/runs/model.onnx",
        raw_path="/home/user/runs/raw.onnx",
        sha256=MODEL_SHA,
        inputs=(records.Tensor(name="image", dtype="float32", shape=(1, 1, 8, 8), layout="NCHW"),),
        outputs=(records.Tensor(name="logits", dtype="float32", shape=(1, 10)),),
        opset=18,
        requested_opset=18,
        exporter="dynamo",
        parameters=34_186,
        macs=1_183_744,
        reference="/home/user/runs/reference.npz",
        reference_source="torch 2.10.0",
    )


def sample() -> tuple[records.Report, dict[tuple[str, str, str], Arrays]]:
    """The report and the raw series of its ok rows."""
    drifted = records.Instability(
        verdict="drift",
        message="the median latency moved by +7.3 % from the first third of the run to the last"
        " (limit 5 % either way): let the device cool down first, or fix its clocks, run again",
    )
    busy = records.Instability(
        verdict="host_load",
        message="the host's load average was 1.84 before the run on 2 cores (limit 1): stop what"
        " else runs there, wait a minute, run again",
    )
    host, orin = "x86-64 host", "Jetson Orin Nano 8 GB developer kit"
    unstable = (drifted, busy)
    qemu = "ESP32-S3 under QEMU"
    measured = [
        ok_row("host", host, "fp32", 4.12e-4, 0.9778, seed=1),
        ok_row("host", host, "int8", 2.2e-4, 0.975, seed=2, instability=unstable, size=48_000),
        ok_row("host-openvino", host, "int8", 1.74e-4, 0.9722, seed=3, size=61_000),
        ok_row("orin-nano", orin, "fp16", 2.9e-4, 0.9778, seed=4, watts=7.4, size=96_000),
        ok_row("orin-nano", orin, "int8", 1.9e-4, 0.9694, seed=5, watts=6.6, size=58_000),
        ok_row(
            "esp32-s3",
            qemu,
            "int8",
            2.31e-2,
            0.9667,
            seed=6,
            count=320,
            source="emulated",
            size=39_000,
        ),
    ]
    failed = [
        failed_row(
            "hailo8",
            "int8",
            records.Failure(
                target="hailo8",
                stage="compile",
                kind="failed",
                message="the allocator found no mapping: 3 contexts need 41 MB of weights, 32 fit",
                hint="lower the batch or raise allocation.timeout; see the log",
                log="\n".join(f"[info] layer conv{i}: 0.{i:03d} utilisation" for i in range(80))
                + "\n[error] Mapping failed (allocation: agent infeasible)",
            ),
        ),
        failed_row(
            "raspberry-pi-5",
            "int8",
            records.Failure(
                target="raspberry-pi-5",
                stage="deploy",
                kind="missing",
                message="ssh pi@raspberrypi.local: connection timed out after 10 s",
                hint="check that the board is on, and that `ssh pi@raspberrypi.local true` works",
            ),
        ),
        failed_row(
            "coral-micro",
            "fp32",
            records.Failure(
                target="coral-micro",
                stage="compile",
                kind="unsupported",
                message="the accelerator runs int8 only, and precision fp32 was asked for",
                hint="--precision int8",
            ),
        ),
    ]
    report = records.Report(
        created_at="2025-11-20T13:46:31+00:00",
        edgedeploy_version="0.1.0",
        host=FACTS,
        runs=(RUN,),
        model=model(),
        workload={"name": "digits", "description": "A small CNN on handwritten digits, 8x8 pixels"},
        rows=(*(row for row, _ in measured), *failed),
        folder=f"runs/{RUN}",
    )
    series = {(row.run, row.target, row.precision): arrays for row, arrays in measured}
    return report, series


def _layers(median_s: float, seed: int) -> tuple[records.Layer, ...]:
    shares = np.random.default_rng(seed).dirichlet(np.full(22, 0.6))
    return tuple(
        records.Layer(name=f"/features/{i}/{OPS[i % 8]}", op=OPS[i % 8], time_s=median_s * share)
        for i, share in enumerate(shares.tolist())
    )


def _accuracy(value: float, source: Source) -> records.Accuracy:
    return records.Accuracy(
        metric="top1", value=value, unit="1", count=360, source=source, data="digits, split test"
    )


def _ladder(precision: str, seed: int) -> records.Ladder:
    exact = records.Rung(
        name="onnx",
        reference="torch",
        max_abs_error=3.8e-6,
        mean_abs_error=4.1e-7,
        snr_db=128.4,
        cosine=1.0,
        top1_agreement=1.0,
        limit="max error 1e-3",
    )
    simplified = records.Rung(
        name="simplified", reference="onnx", max_abs_error=0.0, mean_abs_error=0.0, cosine=1.0,
        top1_agreement=1.0, equal=True, limit="max error 1e-3",
    )  # fmt: skip
    snr = 118.0 if precision != "int8" else 26.5 - seed
    deployed = records.Rung(
        name="deployed",
        reference="torch",
        max_abs_error=0.61,
        mean_abs_error=0.08,
        snr_db=snr,
        cosine=0.99731,
        top1_agreement=0.9375,
        broken=seed == 6,
        limit="SNR 21 dB" if precision == "int8" else "SNR 40 dB",
    )
    layers = tuple(
        records.LayerError(layer=f"/features/{i}/Conv_output", snr_db=18.0 + 2.3 * i)
        for i in range(12)
    )
    return records.Ladder(
        rungs=(exact, simplified, deployed),
        samples=16,
        first_broken="deployed" if seed == 6 else None,
        layers=layers if precision == "int8" else (),
        layers_reason=None if precision == "int8" else "not quantized",
    )
