"""CIFAR-10 pickles as Python 2 and 3 write them; anything that could run code is refused."""

import codecs
import os
import pickle
import pickletools
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.data import open_dataset
from edgedeploy.data.dataset import Dataset
from edgedeploy.data.pickled import read_pickle
from edgedeploy.errors import DataError
from edgedeploy.workload import DataSpec, InputSpec

INPUTS = (
    InputSpec(
        name="x", shape=(1, 32, 32, 3), dtype="uint8", layout="NHWC", value_range=(0.0, 255.0)
    ),
)
TRAIN = [f"data_batch_{i}" for i in range(1, 6)]


def rows(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def batch(data: object, labels: object) -> dict[bytes, object]:
    return {b"batch_label": b"testing batch", b"labels": labels, b"data": data, b"filenames": []}


def python2_pickle(data: np.ndarray[Any, Any], labels: list[int]) -> bytes:
    """Protocol 2 as Python 2 wrote the official files: byte strings, the old name of numpy."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def long_text(value: bytes) -> bytes:
        return b"T" + len(value).to_bytes(4, "little") + value

    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    array = b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n",
            b"(" + number(0) + b"t" + text(b"b") + b"\x87R",
            b"(" + number(1) + b"(" + number(data.shape[0]) + number(data.shape[1]) + b"t",
            b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R",
            b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb",
            b"\x89" + long_text(data.tobytes()) + b"tb",
        ]
    )
    entries = b"".join(number(label) for label in labels)
    table = text(b"data") + array + text(b"labels") + b"](" + entries + b"e"
    return b"\x80\x02}(" + table + b"u."


def write(folder: Path, name: str, data: object, labels: object, protocol: int = 2) -> None:
    (folder / name).write_bytes(pickle.dumps(batch(data, labels), protocol=protocol))


def spec(folder: Path, split: str = "test", **more: Any) -> DataSpec:
    return DataSpec(layout="cifar10", data=str(folder), split=split, **more)


def images(dataset: Dataset) -> np.ndarray[Any, Any]:
    return np.stack([sample.arrays["x"] for sample in dataset])


@pytest.mark.parametrize("protocol", [2, 4])
def test_pixels_are_planes_of_red_green_blue(tmp_path: Path, protocol: int) -> None:
    data = rows(3)
    write(tmp_path, "test_batch", data, [7, 0, 9], protocol)
    dataset = open_dataset(spec(tmp_path), INPUTS, "")
    assert len(dataset) == 3
    assert [sample.label for sample in dataset] == [7, 0, 9]
    assert np.array_equal(images(dataset), data.reshape(3, 3, 32, 32).transpose(0, 2, 3, 1))
    assert dataset.files() == [tmp_path / "test_batch"]


def test_the_official_python_2_form(tmp_path: Path) -> None:
    data = rows(2)
    content = python2_pickle(data, [1, 8])
    # the standard library reads the same from these bytes
    assert pickle.loads(content, encoding="bytes")[b"labels"] == [1, 8]
    (tmp_path / "test_batch").write_bytes(content)
    dataset = open_dataset(spec(tmp_path), INPUTS, "")
    assert [sample.label for sample in dataset] == [1, 8]
    assert np.array_equal(images(dataset), data.reshape(2, 3, 32, 32).transpose(0, 2, 3, 1))


def test_train_is_the_five_batches_in_order_whatever_their_sizes(tmp_path: Path) -> None:
    root = tmp_path / "cifar-10-batches-py"
    root.mkdir()
    for size, name in enumerate(TRAIN, start=1):
        write(root, name, rows(size), [size] * size)
    dataset = open_dataset(spec(tmp_path, "train"), INPUTS, "")
    assert [s.label for s in dataset] == [1, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5]
    assert [path.name for path in dataset.files()] == TRAIN


def test_subset_has_each_class(tmp_path: Path) -> None:
    write(tmp_path, "test_batch", rows(100), [i * 3 % 10 for i in range(100)])
    dataset = open_dataset(spec(tmp_path, count=20), INPUTS, "")
    assert sorted(s.label for s in dataset) == sorted([*range(10), *range(10)])


def test_fortran_order_is_kept(tmp_path: Path) -> None:
    data = np.asfortranarray(rows(4))
    (tmp_path / "a").write_bytes(pickle.dumps({"data": data}, protocol=2))
    found = read_pickle(tmp_path / "a")
    assert isinstance(found, dict)
    assert np.array_equal(found["data"], data)


def test_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no split 'val'") as caught:
        open_dataset(spec(tmp_path, "val"), INPUTS, "")
    assert "test, train" in caught.value.hint


def test_missing_batches_are_named(tmp_path: Path) -> None:
    write(tmp_path, "data_batch_2", rows(1), [0])
    message = r"lacks data_batch_1, data_batch_3, data_batch_4, data_batch_5 of"
    with pytest.raises(DataError, match=message):
        open_dataset(spec(tmp_path, "train"), INPUTS, "")


@pytest.mark.parametrize(
    ("data", "labels", "message"),
    [
        (rows(3), [1, 2], "is mislabelled: 2 labels for 3 images"),
        (rows(2), [1, "cat"], "'labels' is not a list of integers"),
        (rows(2), None, "'labels' is not a list of integers"),
        (rows(2)[:, :100], [1, 2], r"'data' found \(2, 100\), expected .* \(N, 3072\)"),
        ([1, 2], [1, 2], "'data' found list"),
        (rows(2).astype(np.float32), [1, 2], "holds an array of 'f4'; CIFAR images are uint8"),
    ],
)
def test_wrong_contents(tmp_path: Path, data: object, labels: object, message: str) -> None:
    write(tmp_path, "test_batch", data, labels)
    with pytest.raises(DataError, match=message):
        len(open_dataset(spec(tmp_path), INPUTS, ""))


def test_files_are_named_without_reading_them(tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(b"damaged")
    dataset = open_dataset(spec(tmp_path, count=1), INPUTS, "")
    assert dataset.files() == [tmp_path / "test_batch"]
    assert "pillow" in dataset.fingerprint_parts()


def test_no_rows(tmp_path: Path) -> None:
    write(tmp_path, "test_batch", rows(0), [], protocol=4)
    with pytest.raises(DataError, match="is empty: 0 samples"):
        len(open_dataset(spec(tmp_path), INPUTS, ""))


def test_another_object(tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match="holds a list, not a CIFAR-10 batch"):
        len(open_dataset(spec(tmp_path), INPUTS, ""))


class Evil:
    """Makes a pickle call `function` with `arguments`."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.function = function
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_never_run(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "proof"
    content = pickle.dumps(batch(Evil(os.mkdir, str(proof)), [1]), protocol=protocol)
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match="mkdir, which a CIFAR file has no use for") as caught:
        len(open_dataset(spec(tmp_path), INPUTS, ""))
    assert not proof.exists()
    assert "made to run code" in caught.value.hint
    pickle.loads(content)
    assert proof.exists()


@pytest.mark.parametrize(
    "evil",
    [
        Evil(eval, "1"),
        Evil(codecs.decode, b"aa", "hex"),
        Evil(np.load, "a.npy"),
        Evil(getattr, 1, "real"),
    ],
)
def test_other_names_are_refused(tmp_path: Path, evil: Evil) -> None:
    (tmp_path / "a").write_bytes(pickle.dumps(evil, protocol=2))
    with pytest.raises(DataError, match="has no use for"):
        read_pickle(tmp_path / "a")


def test_encode_takes_latin_1_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(pickle.dumps(Evil(codecs.encode, "a", "rot13"), protocol=2))
    with pytest.raises(DataError, match="encodes str as 'rot13'"):
        read_pickle(tmp_path / "a")


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    array = np.array([1, "a"], dtype=object)
    (tmp_path / "a").write_bytes(pickle.dumps(array, protocol=2))
    with pytest.raises(DataError, match="holds an array of 'O8'"):
        read_pickle(tmp_path / "a")


def test_stand_ins_cannot_be_written_to(tmp_path: Path) -> None:
    """BUILD with a dict would set attributes of what a name stands for."""
    content = b"\x80\x02cnumpy\nndarray\n}(U\x04evilK\x01ub."
    assert any(op.name == "BUILD" for op, _, _ in pickletools.genops(content))
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match="is not a CIFAR pickle"):
        read_pickle(tmp_path / "a")


def test_a_memory_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x80\x02Nr" + (2**31).to_bytes(4, "little") + b".")
    with pytest.raises(DataError, match="numbers an object 2147483648 in 9 bytes"):
        read_pickle(tmp_path / "a")


@given(st.data())
def test_damage_is_one_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(python2_pickle(rows(1), [3]))
    # not in the pixels, where any byte is good
    head = content[:330]
    for _ in range(data.draw(st.integers(1, 3))):
        head[data.draw(st.integers(0, len(head) - 1))] = data.draw(st.integers(0, 127))
    path = tmp_path_factory.mktemp("damage") / "test_batch"
    path.write_bytes(bytes(head) + bytes(content[330:]))
    # whatever else it raises fails the test; a change may also leave a sound file
    with suppress(DataError):
        read_pickle(path)


@pytest.mark.parametrize("cut", [0, 1, 50, 3000, -1])
def test_cut_short(tmp_path: Path, cut: int) -> None:
    write(tmp_path, "test_batch", rows(2), [1, 2])
    path = tmp_path / "test_batch"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="is not a CIFAR pickle or is cut short"):
        len(open_dataset(spec(tmp_path), INPUTS, ""))
