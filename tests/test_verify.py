"""The parity ladder: figures by hand, and the first rung that breaks is named."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from edgedeploy.calibrate import calibrate
from edgedeploy.compile import compile_model
from edgedeploy.compilers import Compilers
from edgedeploy.deployment import Session, deployed
from edgedeploy.export import Exported, export
from edgedeploy.records import Artifact, Ladder, Rung
from edgedeploy.target import load_target
from edgedeploy.verify import compare, read_groups, verify
from edgedeploy.workload import DataSpec, InputSpec, ModelSpec, Workload

R = np.array([[3.0, 4.0], [0.0, 12.0]])


def held(found: Any, reference: Any = R, **options: Any) -> Rung:
    return compare("onnx", {"y": np.asarray(reference)}, {"y": np.asarray(found)}, **options)


# --- figures


def test_figures_by_hand() -> None:
    """r = (3, 4, 0, 12), o = (3, 4, 1, 10): noise 1 + 4, signal 169."""
    rung = held([[3.0, 4.0], [1.0, 10.0]])
    assert rung.max_abs_error == 2
    assert rung.mean_abs_error == 0.75
    assert rung.snr_db == pytest.approx(10 * np.log10(169 / 5))
    assert rung.cosine == pytest.approx((9 + 16 + 120) / (13 * np.sqrt(9 + 16 + 1 + 100)))
    assert rung.top1_agreement == 1
    assert not rung.equal
    assert rung.broken
    assert rung.limit == "largest error at most 0.001 of the largest value"


def test_equal_outputs_have_no_noise() -> None:
    rung = held(R.copy())
    assert (rung.equal, rung.snr_db, rung.max_abs_error) == (True, None, 0)
    assert rung.cosine == pytest.approx(1)
    assert not rung.broken
    assert rung.reason is None


@given(scale=st.floats(1e-6, 1e6), level=st.integers(20, 100))
def test_noise_of_a_given_level(scale: float, level: int) -> None:
    """An error of 10^(-level/20) of every value is a signal to noise of `level` dB."""
    reference = scale * np.arange(1.0, 13).reshape(4, 3)
    rung = held(reference * (1 + 10 ** (-level / 20)), reference)
    assert rung.snr_db == pytest.approx(level, abs=0.01)
    assert rung.cosine == pytest.approx(1)


@given(st.floats(-40, 40).filter(abs), st.floats(0.1, 10))
def test_the_cosine_is_that_of_the_angle(degrees: float, scale: float) -> None:
    angle = np.radians(degrees)
    turned = scale * np.array([[np.cos(angle), np.sin(angle)]])
    assert held(turned, [[1.0, 0.0]]).cosine == pytest.approx(np.cos(angle))


def test_all_outputs_count_together_by_name() -> None:
    reference = {"a": np.array([[1.0, 2.0]]), "b": np.array([[2.0]])}
    found = {"b": np.array([[2.0]]), "a": np.array([[1.0, 1.0]])}
    rung = compare("onnx", reference, found)
    assert rung.mean_abs_error == pytest.approx(1 / 3)
    assert rung.snr_db == pytest.approx(10 * np.log10(9))
    renamed = {"first": found["a"], "second": found["b"]}
    assert compare("onnx", reference, renamed) == rung


@pytest.mark.parametrize(
    ("name", "int8", "snr_db", "broken"),
    [
        ("quantized", True, 10.1, False),
        ("quantized", True, 9.9, True),
        ("deployed", True, 10.1, False),
        ("deployed", False, 40.1, False),
        ("deployed", False, 39.9, True),
    ],
)
def test_limits(name: str, int8: bool, snr_db: float, broken: bool) -> None:
    found = {"y": R * (1 + 10 ** (-snr_db / 20))}
    rung = compare(name, {"y": R}, found, int8=int8)
    assert rung.broken == broken
    assert rung.limit == f"SNR at least {10 if int8 else 40} dB"


@pytest.mark.parametrize(
    "found",
    [[[np.nan, 4.0], [0.0, 12.0]], [[np.inf, 4.0], [0.0, 12.0]]],
)
def test_nan_and_infinity_break_a_rung(found: Any) -> None:
    rung = held(found)
    assert rung.broken
    assert rung.snr_db is None
    assert rung.reason is not None
    assert rung.reason.startswith("outputs hold NaN or infinity where the reference does not")
    assert held(R, found).broken


def test_the_same_infinities_are_no_error() -> None:
    reference = np.array([[1.0, -np.inf, 2.0]])
    assert held(reference.copy(), reference).equal
    rung = held([[1.0, -np.inf, 2.5]], reference)
    assert rung.snr_db == pytest.approx(10 * np.log10(5 / 0.25))
    assert held([[1.0, np.inf, 2.0]], reference).broken


def test_other_shapes_break_a_rung() -> None:
    rung = held(np.zeros((2, 3)))
    assert rung.broken
    assert rung.reason == "output shapes are (3,); expected (2,)"
    two = compare("onnx", {"y": R}, {"y": R, "z": R})
    assert two.reason == "output shapes are (2,), (2,); expected (2,)"


def test_a_rung_that_does_not_run() -> None:
    rung = compare("quantized", {"y": R}, "no such operator", against="torch")
    assert (rung.broken, rung.reason, rung.reference) == (True, "no such operator", "torch")


def test_a_reference_without_signal() -> None:
    rung = held([[0.0, 1e-9]], [[0.0, 0.0]])
    assert rung.broken
    assert rung.snr_db is None
    assert rung.cosine is None
    assert rung.reason == "the reference is zero everywhere: there is no signal"
    assert held([[0.0, 0.0]], [[0.0, 0.0]]).equal


@pytest.mark.parametrize(
    ("shape", "batch", "told"),
    [
        ((4, 3), 1, True),
        ((4, 1, 3), 1, True),
        ((4, 2, 3), 2, True),
        ((4, 2, 3), 1, False),
        ((4, 1, 1), 1, False),
        ((4, 1, 3, 8), 1, False),
        ((4,), 1, False),
    ],
)
def test_top1_agreement_is_of_class_scores(shape: tuple[int, ...], batch: int, told: bool) -> None:
    reference = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    assert (held(reference, reference, batch=batch).top1_agreement is not None) == told


def test_top1_agreement_by_hand() -> None:
    reference = np.array([[[1, 2, 3]], [[9, 1, 0]], [[0, 1, 0]], [[5, 4, 4]]], float)
    found = np.array([[[1, 2, 9]], [[0, 1, 0]], [[0, 2, 0]], [[5, 9, 4]]], float)
    assert held(found, reference).top1_agreement == 0.5


def test_integer_outputs() -> None:
    rung = held(np.array([[1, 3]]), np.array([[1, 2]]))
    assert rung.max_abs_error == 1
    assert held(np.array([True]), np.array([True])).equal


# --- the ladder on the host


@dataclass
class Host:
    """A classifier deployed on target host, in fp32 and int8."""

    exported: Exported
    compilers: Compilers
    artifacts: dict[str, Artifact]
    open: Callable[[Artifact], Session]

    def ladder(self, which: str, session: Session | None = None, **changes: Any) -> Ladder:
        """The ladder of an artifact, or of one changed so."""
        artifact = msgspec.structs.replace(self.artifacts[which], **changes)
        session = session or self.open(self.artifacts[which])
        target = load_target("host")
        return verify(self.exported.model, artifact, target, session, self.compilers)[0]


def classifier(folder: Path, seed: int) -> Workload:
    path = graphs.saved(graphs.classifier(seed=seed), folder / f"net-{seed}.onnx")
    return Workload(
        name=path.stem,
        model=ModelSpec(source=path.name),
        inputs=(InputSpec(value_range=(-1.0, 1.0)),),
        calibration=DataSpec(layout="seeded", count=16),
        folder=str(folder),
    )


def compiled(workload: Workload, precision: str, compilers: Compilers) -> tuple[Exported, Artifact]:
    exported, _ = export(workload, 18)
    artifact, _ = compile_model(
        exported.model,
        load_target("host"),
        precision,
        workload,
        compilers=compilers,
        calibration=lambda: calibrate(workload, exported.inputs)[0],
    )
    return exported, artifact


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("verify")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("EDGEDEPLOY_CACHE", str(folder / "cache"))
        compilers = stack.enter_context(Compilers())
        workload = classifier(folder, 0)
        found = {p: compiled(workload, p, compilers) for p in ("fp32", "int8")}

        def opened(artifact: Artifact) -> Session:
            return stack.enter_context(deployed(artifact, load_target("host"), workload))

        yield Host(found["fp32"][0], compilers, {p: a for p, (_, a) in found.items()}, opened)


def test_every_rung_of_a_float_artifact(host: Host) -> None:
    ladder = host.ladder("fp32")
    assert [rung.name for rung in ladder.rungs] == ["onnx", "simplified", "deployed"]
    assert ladder.first_broken is None
    assert ladder.samples == 8
    assert ladder.rungs[0].equal
    assert {rung.reference for rung in ladder.rungs} == {"onnx"}
    assert ladder.rungs[-1].equal or (ladder.rungs[-1].snr_db or 0) > 100
    assert ladder.rungs[-1].top1_agreement == 1
    assert ladder.layers == ()
    assert ladder.layers_reason == "only a model quantized here has a float one to be held against"


def test_every_rung_and_layer_of_an_int8_artifact(host: Host) -> None:
    ladder = host.ladder("int8")
    names = ["onnx", "simplified", "quantized", "deployed"]
    assert [rung.name for rung in ladder.rungs] == names
    assert ladder.first_broken is None
    for rung in ladder.rungs[2:]:
        assert 25 < (rung.snr_db or 0) < 60
        assert (rung.cosine or 0) > 0.99
    found = [layer.snr_db for layer in ladder.layers if layer.snr_db is not None]
    assert len(found) >= 3
    assert found == sorted(found), "worst first"
    assert ladder.layers_reason is None


def test_a_corrupt_scale_breaks_the_quantized_rung(host: Host, tmp_path: Path) -> None:
    quantized = host.artifacts["int8"].quantized_path
    assert quantized is not None
    made = onnx.load(quantized)
    weights = {
        node.input[0]: node for node in made.graph.node if node.op_type == "DequantizeLinear"
    }
    scales = {node.input[1] for name, node in weights.items() if name.startswith("w1")}
    for tensor in made.graph.initializer:
        if tensor.name in scales:
            scale = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(-3 * scale, tensor.name))
    path = graphs.saved(made, tmp_path / "corrupt.onnx")
    ladder = host.ladder("int8", quantized_path=str(path), sha256="c" * 64)
    assert ladder.first_broken == "quantized"
    assert [rung.name for rung in ladder.rungs if rung.broken] == ["quantized"]


def test_a_quantized_file_that_does_not_load_breaks_its_rung(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "q.onnx"
    path.write_bytes(b"cut")
    ladder = host.ladder("int8", quantized_path=str(path), sha256="d" * 64)
    assert ladder.first_broken == "quantized"
    rung = next(rung for rung in ladder.rungs if rung.name == "quantized")
    assert rung.reason is not None
    assert "cannot load" in rung.reason
    assert ladder.layers == ()
    assert ladder.layers_reason


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_artifact_of_another_model_breaks_the_last_rung(
    host: Host, tmp_path: Path, precision: str
) -> None:
    _, other = compiled(classifier(tmp_path, 1), precision, host.compilers)
    with deployed(other, load_target("host"), classifier(tmp_path, 1)) as session:
        ladder = host.ladder(precision, session, sha256=other.sha256)
    assert ladder.first_broken == "deployed"
    assert (ladder.rungs[-1].snr_db or 0) < 10


@pytest.mark.parametrize(("precision", "limit"), [("fp16", "40"), ("bf16", "40"), ("int4", "10")])
def test_the_limit_is_that_of_the_precision(host: Host, precision: str, limit: str) -> None:
    """A half precision artifact must not pass with the noise that int8 may have."""
    ladder = host.ladder("int8", precision=precision, sha256=precision)
    assert ladder.rungs[-1].limit == f"SNR at least {limit} dB"


def test_a_second_climb_is_a_hit_until_the_artifact_changes(host: Host) -> None:
    target, artifact = load_target("host"), host.artifacts["fp32"]
    session = host.open(artifact)

    def climbed(given: Artifact) -> str:
        model = host.exported.model
        return verify(model, given, target, session, host.compilers)[1].event.outcome

    climbed(artifact)
    assert climbed(artifact) == "hit"
    assert climbed(msgspec.structs.replace(artifact, sha256="e" * 64)) == "miss"


def test_the_reference_file_by_groups(host: Host) -> None:
    groups = read_groups(Path(host.exported.model.reference))
    assert {group: sorted(arrays) for group, arrays in groups.items()} == {
        "inputs": ["x"],
        "outputs": ["y"],
        "simplified": ["y"],
    }
    assert groups["inputs"]["x"].shape == (8, 1, 3, 8, 8)


def test_names_with_slashes_stay_whole(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", **{"outputs/head/scores": R})
    assert list(read_groups(tmp_path / "r.npz")["outputs"]) == ["head/scores"]
