"""The handwritten digits: the split, the committed weights, the training script."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgedeploy.errors import DataError
from edgedeploy.zoo import digits, digits_data, train_digits

WEIGHTS = Path(digits.__file__).parent / "weights" / "digits.safetensors"


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_split_is_stratified_and_apart() -> None:
    (train, train_labels), (test, test_labels) = map(digits_data.load_split, ("train", "test"))
    assert (train.shape, test.shape) == ((1442, 1, 8, 8), (355, 1, 8, 8))
    assert train.dtype == test.dtype == np.float32
    assert (train.min(), train.max()) == (0.0, 1.0)
    shares = np.bincount(test_labels) / (np.bincount(test_labels) + np.bincount(train_labels))
    assert np.all(np.abs(shares - 0.2) < 0.005)
    assert not {image.tobytes() for image in test} & {image.tobytes() for image in train}


def test_images_and_labels_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    bundled = load_digits()
    table = digits_data._read_table()
    assert np.array_equal(table[:, :64], bundled.data)
    assert np.array_equal(table[:, 64], bundled.target)


def test_the_public_loader_serves_where_the_file_lies_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = digits_data.load_split("test")
    monkeypatch.setattr(Path, "is_file", lambda _path: False)
    found = digits_data.load_split("test")
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


def test_unknown_split() -> None:
    with pytest.raises(DataError, match="no split 'tset'") as caught:
        digits_data.load_split("tset")
    assert "'test'" in caught.value.hint


def test_loading_data_needs_neither_torch_nor_scikit_learn_imported() -> None:
    code = (
        "import sys; from edgedeploy.zoo.digits_data import load_split; load_split('test');"
        "print([name for name in ('torch', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_committed_weights_recognise_the_held_out_digits() -> None:
    model = digits.build()
    model.load_state_dict(load_file(WEIGHTS))
    # 354 of 355; a few parts in a million may differ between processors, a digit may not
    assert train_digits.accuracy(model.eval(), "test") == pytest.approx(354 / 355, abs=1e-6)


@pytest.mark.usefixtures("one_thread")
def test_training_depends_on_the_seed_alone() -> None:
    first = train_digits.train(seed=5, epochs=1).state_dict()
    torch.rand(7)
    again = train_digits.train(seed=5, epochs=1).state_dict()
    other = train_digits.train(seed=6, epochs=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


@pytest.mark.usefixtures("one_thread")
def test_the_script_writes_weights_that_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda _count: None)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda _on: None)
    path = tmp_path / "new" / "digits.safetensors"
    train_digits.main(["--output", str(path), "--epochs", "3"])
    model = digits.build()
    model.load_state_dict(load_file(path))
    accuracy = train_digits.accuracy(model.eval(), "test")
    assert accuracy > 0.9
    assert f"test {accuracy:.4f}" in capsys.readouterr().out


def test_jitter_keeps_shape_and_range() -> None:
    torch.manual_seed(0)
    images = torch.rand(6, 1, 8, 8)
    moved = train_digits.jittered(images)
    assert moved.shape == images.shape
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    assert not torch.allclose(moved, images)
