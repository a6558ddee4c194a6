"""What the engine tells of a model: its edges, layers, memory, metadata and embedded vectors."""

import ctypes

import engine_host as host
import numpy as np
import pytest


def file_of(name: str) -> bytes:
    return (host.networks() / f"{name}.espdl").read_bytes()


def test_edges_have_names_types_shapes_and_exponents() -> None:
    engine = host.Engine(file_of("mobile"))
    (entry,) = engine.tensors("input")
    (result,) = engine.tensors("output")
    assert (entry.type, entry.shape, entry.bytes) == (8, (1, 16, 20, 3), 960)
    assert (result.type, result.shape, result.bytes) == (8, (1, 11), 11)
    assert -10 < entry.exponent < 0
    assert not engine.library.engine_input(1, ctypes.byref(host.Tensor()))
    assert engine.library.engine_input_data(1) is None
    assert engine.library.engine_output_data(1) is None


@pytest.mark.parametrize("name", ["mobile", "pools", "curves", "odds", "sixteen", "mixed"])
def test_embedded_vectors_pass(name: str) -> None:
    engine = host.Engine(file_of(name))
    check = engine.self_test()
    assert check.vectors == len(engine.tensors("output"))
    assert check.values == sum(
        one.bytes // host.TYPES[one.type]().nbytes for one in engine.tensors("output")
    )
    assert (check.failed, check.different) == (0, 0)


def test_a_wrong_embedded_vector_is_found() -> None:
    file = bytearray(file_of("mobile"))
    engine = host.Engine(bytes(file))
    engine.self_test()
    answer = engine.outputs()[engine.tensors("output")[0].text].tobytes()
    at = file.rindex(answer)
    file[at + 3] ^= 1
    check = host.Engine(bytes(file)).self_test()
    assert (check.vectors, check.failed, check.different, check.first_bad) == (1, 1, 1, 3)
    assert check.found == np.int8(answer[3]) if answer[3] < 128 else answer[3] - 256
    assert check.expected == check.found ^ 1


def test_the_hook_is_called_around_each_layer() -> None:
    engine = host.Engine(file_of("mobile"))
    called: list[tuple[int, bool]] = []
    hook = host.HOOK(lambda _, layer, before: called.append((layer, before)))
    assert engine.library.engine_run(hook, None, engine.error)
    layers = engine.layers()
    assert called == [(index, before) for index in range(len(layers)) for before in (True, False)]
    assert layers[0][0] == "Conv"
    assert "stem" in layers[0][1]


def test_metadata_is_read_by_key() -> None:
    engine = host.Engine(file_of("mobile"))
    assert engine.metadata("mlperf") == b"ic01"
    assert engine.metadata("edgedeploy") == b"{}"
    assert engine.metadata("mlper") is None
    assert engine.metadata("mlperf2") is None


def test_memory_is_told() -> None:
    file = file_of("mobile")
    use = host.Engine(file + bytes(100), "-DENGINE_REFERENCE").use()
    assert use["model_bytes"] == len(file)
    assert use["largest_tensor_bytes"] == 8 * 10 * 40
    # the input, which stays; and around the depthwise convolution its input, its output, a summand
    assert use["arena_fast_bytes"] == 960 + 2 * 3200 + 8 * 10 * 18
    assert 1000 < use["parameter_bytes"] < len(file)
    assert use["unpacked_bytes"] <= use["arena_large_bytes"]


def test_one_model_takes_the_place_of_another() -> None:
    host.Engine(file_of("mobile"))
    engine = host.Engine(file_of("line"))
    assert engine.tensors("input")[0].shape == (1, 44, 6)
    with pytest.raises(host.Refused):
        host.Engine(b"no model at all, but long enough")
    assert not engine.library.engine_loaded()
    assert not engine.library.engine_run(None, None, engine.error)
    assert engine.error.value == b"no model is loaded"
    assert engine.library.engine_layer_count() == 0


@pytest.mark.parametrize(
    ("found", "instead", "reason"),
    [
        (b"ReduceMean", b"ReduceMeal", "operator ReduceMeal of node /ReduceMeal is not in"),
        (b"(N/16)HWC16", b"(N/17)HWC17", "has weights in an order this engine does not know"),
        (b"EDL2", b"ELF2", "no model here"),
        (b"Linear", b"Lineal", "is fused with an activation this engine lacks"),
    ],
)
def test_what_it_cannot_run_is_refused_by_name(found: bytes, instead: bytes, reason: str) -> None:
    file = file_of("mobile").replace(found, instead)
    with pytest.raises(host.Refused, match=reason.replace("(", "\\(")):
        host.Engine(file)


def test_too_little_memory_is_told_with_the_tensor() -> None:
    with pytest.raises(host.Refused, match=r"does not fit: \d+ bytes for /.* beside the \d+"):
        host.Engine(file_of("mobile"), fast=3000, large=25000)
    with pytest.raises(host.Refused, match=r"does not fit: weights and tables need \d+ bytes"):
        host.Engine(file_of("mobile"), fast=3000, large=4000)


def test_an_encrypted_file_is_told() -> None:
    file = bytearray(file_of("mobile"))
    file[4] = 1
    with pytest.raises(host.Refused, match="encrypted"):
        host.Engine(bytes(file))
