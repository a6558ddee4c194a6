"""The parity ladder: source framework, ONNX, simplified, quantized, deployed; which rung breaks."""

import contextlib
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgedeploy import container
from edgedeploy.cache import Cached, build
from edgedeploy.calibrate import save_arrays
from edgedeploy.compile import layer_errors, toolchain_rungs
from edgedeploy.compilers import Compilers
from edgedeploy.deployment import Session
from edgedeploy.digest import file_sha256, files_sha256
from edgedeploy.errors import EdgeDeployError
from edgedeploy.interpreter import choose
from edgedeploy.quantize import is_float
from edgedeploy.records import Artifact, Ladder, LayerError, Model, Rung, Target
from edgedeploy.share import program_files
from edgedeploy.target import compiler_program, runtime_program
from edgedeploy.worker import SERVE, Worker

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Emulator = Callable[[], contextlib.AbstractContextManager[Session]]

# What a rung may lose. Float rungs: the export's own limit. Int8 keeps a usable signal over 10 dB;
# below that top-1 of common classifiers falls apart. A float artifact holds 40 dB (bf16 does).
FLOAT_RELATIVE_LIMIT = 1e-3
FLOAT_SNR_LIMIT_DB = 40.0
SAME_RELATIVE_LIMIT = 1e-6
INT8_SNR_LIMIT_DB = 10.0
JUDGE = "ort"
LAYER_SAMPLES = 4
DEPLOYED, EMULATED = "deployed", "emulated"


def verify(
    model: Model,
    artifact: Artifact,
    target: Target,
    session: Session,
    compilers: Compilers,
    *,
    emulator: Emulator | None = None,
    emulated: bool = False,
    use_cache: bool = True,
) -> tuple[Ladder, Cached]:
    """Run the reference samples through every rung and hold each against the source framework.

    The middle rungs run on the host without graph optimisations; the last is the artifact on its
    device, through the process that is timed, and held against the target's `emulator` too where
    it has one. `emulated` says that `session` is that emulator itself, the device being missing.
    """
    judge = runtime_program(JUDGE)
    programs = [runtime_program(target.profiler)]
    chosen = [choose(programs[0])]
    if target.emulator:
        programs.append(runtime_program(target.emulator))
        chosen.append(container.choose(programs[-1]))
    parts = {
        "model": model.sha256,
        "reference": file_sha256(Path(model.reference)),
        "artifact": artifact.sha256,
        "tail": file_sha256(Path(artifact.tail_path)) if artifact.tail_path else "",
        "device": session.device.identity(),
        "options": msgspec.json.encode(session.options, order="sorted").decode(),
        "code": files_sha256([Path(__file__), judge, *chain(*map(program_files, programs))]),
        "compiler": files_sha256(program_files(compiler_program(target.compiler))),
        "last": EMULATED if emulated else DEPLOYED,
        **{f"judge {n}": v for n, v in choose(judge).versions.items()},
        **{f"tool {n}": v for each in chosen for n, v in each.versions.items()},
        **{f"runtime {n}": v for n, v in session.tools.items()},
    }
    if target.quantizer:
        quantizer = compiler_program(target.quantizer)
        parts["quantizer"] = files_sha256(program_files(quantizer))

    def make(_: Path) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(
            _ladder(
                model,
                artifact,
                target,
                {EMULATED if emulated else DEPLOYED: session},
                compilers=compilers,
                emulator=emulator,
            )
        )
        return found

    subject = f"{target.name}-{artifact.precision}"
    # a board's firmware is not told by its name: it is asked anew each time
    use = use_cache and "serial" not in target.device_options
    cached = build("verify", subject, parts, make, use=use)
    return msgspec.convert(cached.answer, Ladder), cached


def _ladder(
    model: Model,
    artifact: Artifact,
    target: Target,
    finals: dict[str, Session],
    *,
    compilers: Compilers,
    emulator: Emulator | None,
) -> Ladder:
    groups = read_groups(Path(model.reference))
    inputs, reference = groups["inputs"], groups["outputs"]
    against = model.reference_source
    rungs = [Rung(name=model.reference_source, reference=model.reference_source, equal=True)]
    with (
        tempfile.TemporaryDirectory(prefix="edgedeploy-verify-") as scratch,
        ThreadPoolExecutor(max_workers=1) as beside,
    ):
        given = Path(scratch, "inputs.npz")
        save_arrays(given, inputs)
        first = next(iter(inputs.values()))
        batch = first.shape[1] if first.ndim > 1 else 1
        judged = None
        if artifact.quantized_path and not model.quantized:
            kept = Path(scratch, "quantized.npz")
            judged = beside.submit(_judge, artifact.quantized_path, given, kept)
        for name in ("onnx", "simplified"):
            if name in groups:
                rungs.append(compare(name, reference, groups[name], against=against, batch=batch))
        outputs: dict[str, Arrays] = {}
        if emulator is not None:
            try:
                with emulator() as session:
                    outputs[EMULATED] = _ran(session, given, Path(scratch))
            except EdgeDeployError as err:  # what the device gave stands without it
                rungs.append(Rung(name=EMULATED, reference=against, reason=err.message))
        for name, session in finals.items():
            outputs[name] = _ran(session, given, Path(scratch))
        own, meanings = _own_steps(
            artifact, target, compilers, next(iter(finals.values())), given=given
        )
        for name, found in own.items():
            if isinstance(found, str):
                rungs.append(Rung(name=name, reference=against, reason=found))
            else:
                rungs.append(compare(name, reference, found, against=against, batch=batch))
        few = Path(scratch, "few.npz")
        save_arrays(few, {name: value[:LAYER_SAMPLES] for name, value in inputs.items()})
        try:
            layers, reason = layer_errors(model, artifact, target, compilers, str(few))
        except EdgeDeployError as err:  # the ladder stands without its layers
            layers, reason = [], err.message
        if judged:
            held = judged.result()
            rungs.append(
                compare("quantized", reference, held, against=against, batch=batch, int8=True)
            )
        int8 = not (model.quantized or is_float(artifact.precision))
        rungs += [
            compare(name, reference, found, against=against, batch=batch, int8=int8)
            for name, found in outputs.items()
        ]
        if len(outputs) == 2:
            rungs.append(
                _same_numbers(outputs[EMULATED], outputs[DEPLOYED], target.emulator_limit_db)
            )
    # what breaks behind it breaks with it
    broken = next((rung for rung in rungs if rung.broken), None)
    return Ladder(
        rungs=tuple(
            msgspec.structs.replace(rung, meaning=meanings.get(rung.name, ""))
            if rung is broken
            else rung
            for rung in rungs
        ),
        samples=len(first),
        first_broken=broken.name if broken is not None else None,
        layers=tuple(msgspec.convert(layers, list[LayerError])),
        layers_reason=reason,
    )


def _own_steps(
    artifact: Artifact, target: Target, compilers: Compilers, session: Session, *, given: Path
) -> tuple[dict[str, Arrays | str], dict[str, str]]:
    """Outputs of the steps that the toolchain itself can compute, or why not, and the meanings."""
    with tempfile.TemporaryDirectory(prefix="edgedeploy-steps-") as folder:
        try:
            answer = toolchain_rungs(artifact, target, compilers, str(given), folder)
        except EdgeDeployError as err:  # what the device gave stands without them
            return {"toolchain": err.message}, {}
        found: dict[str, Arrays | str] = {}
        for rung in answer["rungs"]:
            whole = Path(folder, f"{rung['name']}-whole.npz")
            session.behind(Path(rung["path"]), whole)
            found[rung["name"]] = _read(whole)
    return found, answer["meanings"]


def _same_numbers(emulated: Arrays, deployed: Arrays, limit_db: float | None) -> Rung:
    """The device held against its emulator: equal, or off by the rounding of a float operator.

    One step of an int8 or int16 output is far more than that limit. An emulator that is not exact
    has a limit of its own, in dB.
    """
    rung = compare(DEPLOYED, emulated, deployed, against=EMULATED)
    if rung.max_abs_error is None:
        return rung
    if limit_db is not None:
        below = rung.snr_db is not None and rung.snr_db < limit_db
        return msgspec.structs.replace(rung, broken=below, limit=f"SNR at least {limit_db:g} dB")
    scale = max(float(np.abs(value).max(initial=0.0)) for value in emulated.values())
    broken = rung.max_abs_error > SAME_RELATIVE_LIMIT * scale
    limit = f"equal, or within {SAME_RELATIVE_LIMIT:g} of the largest value"
    return msgspec.structs.replace(rung, broken=broken, limit=limit)


def _ran(session: Session, inputs: Path, scratch: Path) -> Arrays:
    """What an artifact gives for an .npz of inputs."""
    outputs = scratch / "outputs.npz"
    session.infer(inputs, outputs)
    return _read(outputs)


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


def read_groups(path: Path) -> dict[str, Arrays]:
    """A model's reference file: group (`inputs`, `outputs`, …) to name to (N, *shape)."""
    groups: dict[str, Arrays] = {}
    for key, value in _read(path).items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = value
    return groups


def compare(
    name: str,
    reference: Arrays,
    outputs: Arrays | str,
    *,
    against: str = "source",
    batch: int = 1,
    int8: bool = False,
) -> Rung:
    """A rung's outputs held against the reference ones: by name, else in order.

    Errors are over all samples and outputs together: `snr_db` = 10 log10(Σ r² / Σ (o - r)²),
    `cosine` = <r, o> / (|r| |o|). Where both are the same infinity there is no error, and it is no
    signal. Top-1 agreement is told where the first output is one row of two or more scores a
    sample, (N, C) or (N, `batch`, C).
    """
    if isinstance(outputs, str):
        return Rung(name=name, reference=against, broken=True, reason=outputs)
    expected = list(reference.values())
    same = outputs.keys() == reference.keys()
    found = [outputs[key] for key in reference] if same else list(outputs.values())
    if [a.shape for a in found] != [a.shape for a in expected]:
        shapes = ", ".join(str(a.shape[1:]) for a in found)
        wanted = ", ".join(str(a.shape[1:]) for a in expected)
        reason = f"output shapes are {shapes}; expected {wanted}"
        return Rung(name=name, reference=against, broken=True, reason=reason)
    r = np.concatenate([a.ravel().astype(np.float64) for a in expected])
    o = np.concatenate([a.ravel().astype(np.float64) for a in found])
    finite = np.isfinite(r) & np.isfinite(o)
    if not (finite | (r == o)).all():
        reason = "outputs hold NaN or infinity where the reference does not, or lack it"
        return Rung(name=name, reference=against, broken=True, reason=reason)
    r, o = np.where(finite, r, 0.0), np.where(finite, o, 0.0)
    difference = np.abs(o - r)
    signal, noise = float(r @ r), float(difference @ difference)
    norms = float(np.linalg.norm(r) * np.linalg.norm(o))
    largest = float(difference.max(initial=0.0))
    scale = float(np.abs(r).max(initial=0.0))
    silent = noise > 0 and signal == 0
    snr_db = 10 * float(np.log10(signal / noise)) if noise > 0 and not silent else None
    if name in {DEPLOYED, EMULATED} or int8:
        limit_db = INT8_SNR_LIMIT_DB if int8 else FLOAT_SNR_LIMIT_DB
        limit, broken = f"SNR at least {limit_db:g} dB", snr_db is not None and snr_db < limit_db
    else:
        limit = f"largest error at most {FLOAT_RELATIVE_LIMIT:g} of the largest value"
        broken = largest > FLOAT_RELATIVE_LIMIT * scale + 1e-6
    return Rung(
        name=name,
        reference=against,
        max_abs_error=largest,
        mean_abs_error=float(difference.mean()) if difference.size else 0.0,
        snr_db=snr_db,
        cosine=float(r @ o) / norms if norms > 0 else None,
        top1_agreement=_agreement(expected[0], found[0], batch),
        equal=noise == 0,
        broken=broken or silent,
        limit=limit,
        reason="the reference is zero everywhere: there is no signal" if silent else None,
    )


def _agreement(expected: Array, found: Array, batch: int) -> float | None:
    """Share of samples whose largest score is the same class, for outputs like (N, [B,] C)."""
    one_row = expected.ndim in {2, 3} and expected.shape[1:-1] in {(), (1,), (batch,)}
    if not one_row or expected.shape[-1] < 2 or expected.size == 0:
        return None
    return float((expected.argmax(axis=-1) == found.argmax(axis=-1)).mean())


def _read(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
