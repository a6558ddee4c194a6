"""The engine answers what esp-ppq's simulator does, bit for bit."""

import engine_host as host
import numpy as np
import pytest
from engine_nets import CASES, TESTS

KERNELS = [pytest.param((), id="fast"), pytest.param(("-DENGINE_REFERENCE",), id="reference")]


def samples(name: str, engine: host.Engine) -> list[tuple[dict, dict]]:
    """Inputs and expected outputs in the device's layout."""
    found = []
    with np.load(host.networks() / f"{name}.npz") as kept:
        for index in range(TESTS):
            inputs, outputs = (
                {
                    one.text: host.arranged(kept[f"{kind[:-3]}/{index}/{one.text}"], one.shape)
                    for one in engine.tensors(kind)
                }
                for kind in ("input", "output")
            )
            found.append((inputs, outputs))
    return found


@pytest.mark.parametrize("flags", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_outputs_equal_the_simulators(name: str, flags: tuple[str, ...]) -> None:
    engine = host.Engine((host.networks() / f"{name}.espdl").read_bytes(), *flags)
    for inputs, outputs in samples(name, engine):
        found = engine.run(inputs)
        assert found.keys() == outputs.keys()
        for key, expected in outputs.items():
            if expected.dtype == np.float32:  # Softmax, whose float32 steps have no fixed order
                np.testing.assert_array_almost_equal_nulp(found[key], expected, 8)
            else:
                apart = np.abs(found[key].astype(int) - expected)
                assert apart.max() <= CASES[name].apart, key


def test_outputs_hold_and_inputs_keep_their_contents() -> None:
    engine = host.Engine((host.networks() / "places.espdl").read_bytes())
    (inputs, outputs), *_ = samples("places", engine)
    first = engine.run(inputs)
    for _ in range(2):
        assert engine.library.engine_run(None, None, engine.error)
        again = engine.outputs()
        for key in outputs:
            np.testing.assert_array_equal(again[key], first[key])


@pytest.mark.parametrize("fast", [0, 2048, 1 << 20])
def test_memory_makes_no_difference(fast: int) -> None:
    file = (host.networks() / "places.espdl").read_bytes()
    large = 0 if fast == 1 << 20 else 1 << 20
    engine = host.Engine(file, fast=fast, large=large)
    for inputs, outputs in samples("places", engine):
        found = engine.run(inputs)
        for key, expected in outputs.items():
            np.testing.assert_array_equal(found[key], expected, key)
    use = engine.use()
    assert use["arena_fast_bytes"] <= fast
    assert use["arena_large_bytes"] <= large
    assert (use["arena_large_bytes"] > 0) == (large > 0)


def test_views_and_clamps_are_no_layers() -> None:
    engine = host.Engine((host.networks() / "mobile.espdl").read_bytes())
    assert [op for op, _ in engine.layers()] == [
        "Conv",
        "Conv",
        "Conv",
        "Conv",
        "Add",
        "ReduceMean",
        "Gemm",
    ]


def test_a_transposed_convolution_runs_without_its_zeros() -> None:
    engine = host.Engine((host.networks() / "up.espdl").read_bytes())
    # the last one's kernel is as large as its stride
    assert [op for op, _ in engine.layers()] == [
        "InsertZeros",
        "Conv",
        "InsertZeros",
        "Conv",
        "Conv",
    ]
