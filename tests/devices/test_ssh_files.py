"""Files over ssh: sent once, checked at each use, on from where a link broke, gone when done."""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sshd as servers
from rough_link import RoughLink
from sshd import FarHost

from edgedeploy._inproc.serve import sha256
from edgedeploy.compile import hash_files
from edgedeploy.devices.ssh import SshDevice
from edgedeploy.errors import ConnectionLostError, StorageError

sshd, far_host = servers.sshd, servers.far_host

ODD = ("a b", "$HOME", 'it\'s "odd"', "-n", "línea\nzwei", "日本/模型.bin", "x/__pycache__/y")


@pytest.fixture
def device(far_host: FarHost) -> Iterator[SshDevice]:
    with SshDevice(far_host.target()) as found:
        yield found


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A folder with odd names, an empty file, one that is there twice and one of some size."""
    root = tmp_path / "artifact"
    for number, name in enumerate(ODD):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"file {number}")
    (root / "empty").write_bytes(b"")
    (root / "twice").write_text("file 0")
    (root / "large").write_bytes(random.Random(0).randbytes(700_001))
    (root / "link").symlink_to("large")
    (root / "no files").mkdir()
    return root


def sent(device: SshDevice) -> int:
    return device._entered().sent_bytes


def test_a_folder_arrives_whole_and_once(
    device: SshDevice, far_host: FarHost, artifact: Path
) -> None:
    place = device.put(artifact)
    wanted = hash_files(artifact)
    assert place.startswith(f"{far_host.folder}/trees/")
    assert hash_files(Path(place)) == wanted
    assert sha256(pytest, lambda _: None, place)["sha256"] == wanted[0]
    first = sent(device)
    assert 700_000 < first < 701_000
    assert device.put(artifact) == place
    assert sent(device) == first
    # the next run finds it too, and one more file is all that is sent
    device.__exit__(None, None, None)
    (artifact / "more").write_text("123456789")
    with device:
        assert device.put(artifact) != place
        assert sent(device) == 9
        assert list((far_host.folder / "part").iterdir()) == []


def test_a_single_file_keeps_its_name(device: SshDevice, tmp_path: Path) -> None:
    for name, content in (("model.bin", b"some bytes"), ("nothing", b"")):
        path = tmp_path / name
        path.write_bytes(content)
        place = Path(device.put(path))
        assert (place.name, place.read_bytes()) == (name, content)
        assert hash_files(place) == hash_files(path)


def test_what_is_damaged_there_is_sent_again(
    device: SshDevice, far_host: FarHost, artifact: Path
) -> None:
    place = Path(device.put(artifact))
    wanted = hash_files(artifact)
    before = sent(device)
    large = place / "large"
    large.chmod(0o644)
    with large.open("r+b") as file:
        file.write(b"!!")
    (place / "empty").unlink()
    (place / "left by a runtime").write_text("x")
    assert device.put(artifact) == str(place)
    assert hash_files(place) == wanted
    assert sent(device) - before == 700_001
    assert (place / "large").stat().st_mode & 0o777 == 0o444
    # a file that is only lost, or lies in the wrong place, is laid there again and not sent
    (place / "twice").unlink()
    (far_host.folder / "store" / "no hash").write_text("x")
    assert device.put(artifact) == str(place)
    assert hash_files(place) == wanted
    assert sent(device) - before == 700_001


def test_the_files_of_one_call(device: SshDevice, far_host: FarHost, tmp_path: Path) -> None:
    given, wanted = tmp_path / "same.npz", tmp_path / "there" / "same.npz"
    given.write_bytes(random.Random(1).randbytes(300_000))
    wanted.parent.mkdir()
    with device.exchange(given, wanted) as (source, target):
        assert source != target
        assert Path(source).read_bytes() == given.read_bytes()
        Path(target).write_bytes(given.read_bytes()[::-1])
        assert list(wanted.parent.iterdir()) == []
    assert wanted.read_bytes() == given.read_bytes()[::-1]
    with device.exchange(given, None) as (source, target):
        assert target == ""
    assert not Path(source).exists()
    assert not list(far_host.folder.glob("sessions/*/work/*"))
    assert not list((far_host.folder / "store").iterdir())
    # a program that fails leaves nothing, and what it did not write is said to be missing
    with pytest.raises(KeyError), device.exchange(given, tmp_path / "x") as (_, target):
        raise KeyError(Path(target).write_text("half"))
    with (
        pytest.raises(StorageError, match=r"my-board at far: .*/wanted/x: No such file"),
        device.exchange(given, tmp_path / "x"),
    ):
        pass
    assert not (tmp_path / "x").exists()
    assert not list(far_host.folder.glob("sessions/*/work/*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "same.npz", "there"]


def test_more_comes_than_was_announced(
    device: SshDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_end() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    given, keeper = tmp_path / "given", device._entered()
    given.write_bytes(b"y" * 1500)
    monkeypatch.setattr(keeper, "_chunks", without_end)
    with pytest.raises(StorageError, match="came damaged: 2000 of 1500 bytes"):
        keeper.download(str(given), tmp_path / "wanted")
    assert [path.name for path in tmp_path.iterdir() if path.name != "far"] == ["given"]


def test_a_transfer_goes_on_where_it_broke_off(far_host: FarHost, tmp_path: Path) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(random.Random(2).randbytes(4_000_000))
    with RoughLink(far_host.sshd.port) as link:
        far_host.through(link.port)
        device = SshDevice(far_host.target())
        link.cut_after(2_500_000)
        with pytest.raises(ConnectionLostError) as caught, device:
            device.put(model)
        assert "the connection was lost during the transfer of model.bin" in caught.value.message
        assert "; far itself is up" in caught.value.message
        (part,) = (far_host.folder / "part").iterdir()
        there = part.stat().st_size
        assert 100_000 < there < 2_500_000
        assert part.read_bytes() == model.read_bytes()[:there]
        with device:
            assert Path(device.put(model)).read_bytes() == model.read_bytes()
            assert sent(device) == 4_000_000 - there
    assert list((far_host.folder / "part").iterdir()) == []


def test_a_part_of_something_else_is_thrown_away(
    device: SshDevice, far_host: FarHost, tmp_path: Path
) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(random.Random(3).randbytes(100_000))
    part = far_host.folder / "part" / hash_files(model)[0]
    for left in (b"x" * 50_000, b"y" * 200_000):
        part.write_bytes(left)
        place = Path(device.put(model))
        assert place.read_bytes() == model.read_bytes()
        place.unlink()
        (far_host.folder / "store" / part.name).unlink()
        assert not part.exists()


def test_a_file_that_changes_while_it_is_sent(
    device: SshDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(b"x" * 300_000)
    keeper = device._entered()
    pour = keeper._pour

    def changing(path: Path, offset: int, size: int) -> None:
        model.write_bytes(b"y" * 100_000)
        pour(path, offset, size)

    with monkeypatch.context() as patch:
        patch.setattr(keeper, "_pour", changing)
        with pytest.raises(StorageError, match=r"model\.bin changed while it was sent to far"):
            device.put(model)
    assert Path(device.put(model)).read_bytes() == b"y" * 100_000


def test_a_full_disk_over_there(
    far_host: FarHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here: that takes root")
    try:
        model = tmp_path / "model.bin"
        model.write_bytes(random.Random(4).randbytes(4_000_000))
        larger = tmp_path / "larger.bin"
        larger.write_bytes(model.read_bytes() * 2)
        with SshDevice(far_host.target(folder=str(disk))) as device:
            with pytest.raises(StorageError) as caught:
                device.put(larger)
            assert "needs 9,048,576 bytes, 6," in caught.value.message
            assert f"my-board at far: {disk}/part/" in caught.value.message
            assert "Free space or correct the permissions on far" in caught.value.hint
            # one that fills up after it was looked at
            filler = disk / "filler"
            keeper = device._entered()
            pour = keeper._pour

            def filling(path: Path, offset: int, size: int) -> None:
                with filler.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, 4_000_000)
                pour(path, offset, size)

            full = r"No space left on device: needs 1,[\d,]+ bytes more, 0 are free"
            with monkeypatch.context() as patch:
                patch.setattr(keeper, "_pour", filling)
                with pytest.raises(StorageError, match=full):
                    device.put(model)
            assert list((disk / "part").iterdir()) == []
            filler.unlink()
            # the session goes on, and so does the run
            assert Path(device.put(model)).read_bytes() == model.read_bytes()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_was_not_used_for_long_is_removed(far_host: FarHost, artifact: Path) -> None:
    with SshDevice(far_host.target()) as device:
        old = Path(device.put(artifact / "large"))
        used = Path(device.put(artifact / "twice"))
    (far_host.folder / "part" / "left").write_text("x")
    long_ago = time.time() - 15 * 86400
    for path in (*far_host.folder.glob("*/*"), old, used):
        os.utime(path, (long_ago, long_ago))
    with SshDevice(far_host.target(lock="other")) as device:
        assert not list(far_host.folder.glob("trees/*"))
        assert not list(far_host.folder.glob("store/*"))
        assert not list(far_host.folder.glob("part/*"))
        assert Path(device.put(artifact / "twice")).read_text() == "file 0"


def test_a_folder_that_cannot_be_had(far_host: FarHost, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    device = SshDevice(far_host.target(folder=str(tmp_path / "file" / "below")))
    with pytest.raises(StorageError, match=r"far: .*/file/below: Not a directory"), device:
        pass
