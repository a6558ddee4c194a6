"""The parity ladder: source framework, ONNX, simplified, quantized, deployed; which rung breaks."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgedeploy.cache import Cached, build
from edgedeploy.calibrate import save_arrays
from edgedeploy.compile import Compilers, layer_errors
from edgedeploy.deployment import Session
from edgedeploy.digest import file_sha256, files_sha256
from edgedeploy.errors import EdgeDeployError
from edgedeploy.interpreter import choose
from edgedeploy.records import Artifact, Ladder, LayerError, Model, Rung, Target
from edgedeploy.target import compiler_program, runtime_program
from edgedeploy.worker import SERVE, Worker

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

# What a rung may lose. Float rungs: the export's own limit. Int8 keeps a usable signal over 10 dB;
# below that top-1 of common classifiers falls apart. A float artifact holds 40 dB (bf16 does).
FLOAT_RELATIVE_LIMIT = 1e-3
FLOAT_SNR_LIMIT_DB = 40.0
INT8_SNR_LIMIT_DB = 10.0
JUDGE = "ort"
LAYER_SAMPLES = 8


def verify(
    model: Model,
    artifact: Artifact,
    target: Target,
    session: Session,
    compilers: Compilers,
    *,
    use_cache: bool = True,
) -> tuple[Ladder, Cached]:
    """Run the reference samples through every rung and hold each against the source framework.

    The middle rungs run on the host without graph optimisations; the last is the artifact on its
    device, through the process that is timed.
    """
    judge = runtime_program(JUDGE)
    parts = {
        "model": model.sha256,
        "reference": file_sha256(Path(model.reference)),
        "artifact": artifact.sha256,
        "device": session.device.identity(),
        "options": msgspec.json.encode(session.options, order="sorted").decode(),
        "code": files_sha256([Path(__file__), judge, runtime_program(target.profiler)]),
        **{f"judge {n}": v for n, v in choose(judge).versions.items()},
        **{f"tool {n}": v for n, v in choose(runtime_program(target.profiler)).versions.items()},
    }
    if target.quantizer:
        parts["quantizer"] = file_sha256(compiler_program(target.quantizer))

    def make(_: Path) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(
            _ladder(model, artifact, target, session, compilers)
        )
        return found

    subject = f"{target.name}-{artifact.precision}"
    cached = build("verify", subject, parts, make, use=use_cache)
    return msgspec.convert(cached.answer, Ladder), cached


def _ladder(
    model: Model, artifact: Artifact, target: Target, session: Session, compilers: Compilers
) -> Ladder:
    inputs, reference = read_reference(Path(model.reference))
    rungs = [Rung(name=model.reference_source, reference=model.reference_source, equal=True)]
    with tempfile.TemporaryDirectory(prefix="edgedeploy-verify-") as scratch:
        given = Path(scratch, "inputs.npz")
        save_arrays(given, inputs)
        steps = [("onnx", model.raw_path)] if model.reference_source != "onnx" else []
        steps.append(("simplified", model.path))
        if artifact.quantized_path and not model.quantized:
            steps.append(("quantized", artifact.quantized_path))
        for name, path in steps:
            int8 = name == "quantized"
            outputs = _judge(path, given, Path(scratch, f"{name}.npz"))
            rungs.append(compare(name, reference, outputs, int8=int8))
        session.infer(given, Path(scratch, "deployed.npz"))
        outputs = _read(Path(scratch, "deployed.npz"))
        int8 = artifact.precision != "fp32" and not model.quantized
        rungs.append(compare("deployed", reference, outputs, int8=int8))
        few = Path(scratch, "few.npz")
        save_arrays(few, {name: value[:LAYER_SAMPLES] for name, value in inputs.items()})
        try:
            layers, reason = layer_errors(model, artifact, target, compilers, str(few))
        except EdgeDeployError as err:  # the ladder stands without its layers
            layers, reason = [], err.message
    return Ladder(
        rungs=tuple(rungs),
        samples=len(next(iter(inputs.values()))),
        first_broken=next((rung.name for rung in rungs if rung.broken), None),
        layers=tuple(msgspec.convert(layers, list[LayerError])),
        layers_reason=reason,
    )


def _judge(path: str, inputs: Path, outputs: Path) -> Arrays | str:
    """Outputs of an ONNX file run as it stands, or why it does not run."""
    program = runtime_program(JUDGE)
    command = [choose(program).path, str(SERVE), str(program)]
    try:
        with Worker("verify", command) as worker:
            options = {"graph_optimization": "disable"}
            worker.call("measure.prepare", artifact=path, options=options)
            worker.call("measure.infer", inputs=str(inputs), outputs=str(outputs))
    except EdgeDeployError as err:
        return err.message
    return _read(outputs)


def read_reference(path: Path) -> tuple[Arrays, Arrays]:
    """Inputs and outputs of a model's reference file, by name: (N, *shape) each."""
    arrays = _read(path)
    inputs = {k.removeprefix("inputs/"): v for k, v in arrays.items() if k.startswith("inputs/")}
    outputs = {k.removeprefix("outputs/"): v for k, v in arrays.items() if k.startswith("outputs/")}
    return inputs, outputs


def compare(name: str, reference: Arrays, outputs: Arrays | str, *, int8: bool = False) -> Rung:
    """A rung's outputs, matched in order, held against the reference ones.

    Errors are over all samples and outputs together: `snr_db` = 10 log10(Σ r² / Σ (o - r)²),
    `cosine` = <r, o> / (|r| |o|). Top-1 agreement is told where the first output is one row of two
    or more scores a sample.
    """
    against = "source"
    if isinstance(outputs, str):
        return Rung(name=name, reference=against, broken=True, reason=outputs)
    found = list(outputs.values())
    expected = list(reference.values())
    if [a.shape for a in found] != [a.shape for a in expected]:
        shapes = ", ".join(str(a.shape[1:]) for a in found)
        wanted = ", ".join(str(a.shape[1:]) for a in expected)
        reason = f"output shapes are {shapes}; expected {wanted}"
        return Rung(name=name, reference=against, broken=True, reason=reason)
    r = np.concatenate([a.ravel().astype(np.float64) for a in expected])
    o = np.concatenate([a.ravel().astype(np.float64) for a in found])
    if not np.isfinite(o).all() and np.isfinite(r).all():
        reason = "outputs hold NaN or infinity where the reference does not"
        return Rung(name=name, reference=against, broken=True, reason=reason)
    difference = np.abs(o - r)
    signal, noise = float(r @ r), float(difference @ difference)
    snr_db = 10 * float(np.log10(signal / noise)) if noise > 0 and signal > 0 else None
    norms = float(np.linalg.norm(r) * np.linalg.norm(o))
    largest = float(difference.max(initial=0.0))
    scale = float(np.abs(r).max(initial=0.0))
    if name == "deployed" or int8:
        limit_db = INT8_SNR_LIMIT_DB if int8 else FLOAT_SNR_LIMIT_DB
        limit, broken = f"SNR at least {limit_db:g} dB", snr_db is not None and snr_db < limit_db
    else:
        limit = f"largest error at most {FLOAT_RELATIVE_LIMIT:g} of the largest value"
        broken = largest > FLOAT_RELATIVE_LIMIT * scale + 1e-6
    if noise > 0 and signal == 0:
        broken = True
    return Rung(
        name=name,
        reference=against,
        max_abs_error=largest,
        mean_abs_error=float(difference.mean()) if difference.size else 0.0,
        snr_db=snr_db,
        cosine=float(r @ o) / norms if norms > 0 else None,
        top1_agreement=_agreement(expected[0], found[0]),
        equal=noise == 0,
        broken=broken,
        limit=limit,
    )


def _agreement(expected: Array, found: Array) -> float | None:
    """Share of samples whose largest score is the same class, for outputs like (N, [B,] C)."""
    squeezed = [a.reshape(-1, a.shape[-1]) for a in (expected, found) if a.ndim in {2, 3}]
    if len(squeezed) != 2 or squeezed[0].shape[1] < 2 or expected.shape[1:-1] not in {(), (1,)}:
        return None
    first, second = (a.argmax(axis=1) for a in squeezed)
    return float((first == second).mean())


def _read(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
