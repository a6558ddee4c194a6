"""Boards as data: a wrong file is named with the place, an unknown name with the nearest."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgedeploy.devices import open_device
from edgedeploy.devices.local import LocalDevice
from edgedeploy.errors import InputError
from edgedeploy.records import Target
from edgedeploy.share import share_folders, shared_files
from edgedeploy.target import (
    compiler_program,
    instrument_program,
    load_target,
    load_targets,
    runtime_program,
    target_files,
)
from edgedeploy.toml import decode, read_toml

Write = Callable[..., Path]
ROOT = Path(__file__).parents[1]
GOOD = """
board = "a board"
transport = "local"
compiler = "ort"
profiler = "ort"
"""


@pytest.mark.parametrize("name", sorted(target_files()))
def test_every_shipped_target_is_sound(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert compiler_program(target.compiler).is_file()
    assert runtime_program(target.profiler).is_file()
    if target.quantizer:
        assert compiler_program(target.quantizer).is_file()
    if target.emulator:
        assert runtime_program(target.emulator).is_file()
    for instrument in target.instruments:
        assert instrument_program(instrument).is_file()
    if like := target.approximation:
        assert compiler_program(like.compiler).is_file()
        assert runtime_program(like.profiler).is_file()


def test_the_name_is_the_file_s_unless_it_says_another(write: Write) -> None:
    assert load_target(write("board.toml", GOOD)).name == "board"
    assert load_target(write("board.toml", 'name = "other"\n' + GOOD)).name == "other"
    assert load_target(str(write("board.toml", GOOD))).precisions == ("fp32",)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (GOOD + "boart = 1", "unknown field `boart`", "Did you mean 'board'?"),
        (GOOD + "zzzzz = 1", "unknown field `zzzzz`", "Known: approximation, "),
        (GOOD + 'opset = "18"', r"Expected `int`, got `str` - at `\$.opset`", "place named"),
        (
            GOOD + "precisions = [1]",
            r"Expected `str`, got `int` - at `\$.precisions",
            "place named",
        ),
        (GOOD + "precisions = []", "precisions is empty", 'For example precisions = ["fp32"'),
        (GOOD + 'source = "guessed"', "Invalid enum value 'guessed'", "place named"),
        (GOOD.replace('"local"', '"pigeon"'), "transport 'pigeon' is not known", "Known: local"),
        ('board = "x"', "missing required field `transport`", "place named"),
        (GOOD + 'name = "a@b"', "name is 'a@b', expected one without '@'", 'name = "bench-board"'),
        (GOOD + 'name = "a,b"', "name is 'a,b', expected one without '@'", 'name = "bench-board"'),
        (GOOD + 'name = ""', "name is '', expected one without", 'name = "bench-board"'),
        (
            GOOD + "[[facts]]\nname = 'TOPS'\nvalue = 4\nsource = 'p'\nunits = ''",
            "`units`",
            "'unit'",
        ),
        (GOOD + "[memory_bytes]\nflash = '4 MB'", "Expected `int`, got `str`", "place named"),
        (GOOD + "board = 'again'\n\n", "is not TOML: .*line", "Mend the line named"),
        ("board = ", "is not TOML", "Mend the line named"),
        ("", "missing required field `board`", "place named"),
    ],
)
def test_a_wrong_file_is_named(write: Write, text: str, message: str, hint: str) -> None:
    path = write("board.toml", text)
    with pytest.raises(InputError, match=message) as caught:
        load_target(path)
    assert str(path) in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_file_that_is_none(tmp_path: Path, write: Write) -> None:
    write("board.toml", GOOD)
    with pytest.raises(InputError, match=r"bord\.toml does not exist") as caught:
        load_target(tmp_path / "bord.toml")
    assert caught.value.hint == "Did you mean 'board.toml'?"
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(InputError, match=r"folder\.toml cannot be read: Is a directory") as caught:
        load_target(tmp_path / "folder.toml")
    assert caught.value.hint
    (tmp_path / "bytes.toml").write_bytes(b"board = '\xff'")
    with pytest.raises(InputError, match=r"bytes\.toml is not TOML"):
        load_target(tmp_path / "bytes.toml")


def test_an_unknown_name_has_the_nearest() -> None:
    with pytest.raises(InputError, match="target 'hosst' is not known") as caught:
        load_target("hosst")
    assert caught.value.hint == "Did you mean 'host'?"
    with pytest.raises(InputError, match="no target is named") as caught:
        load_targets(" , ")
    assert "host" in caught.value.hint
    assert [t.name for t in load_targets("host, host-openvino,host")] == ["host", "host-openvino"]
    for find, what in (
        (compiler_program, "compiler 'orrt' is not known: no compilers/orrt.py"),
        (runtime_program, "runtime profiler 'orrt' is not known: no profilers/runtime/orrt.py"),
    ):
        with pytest.raises(InputError, match=what) as caught:
            find("orrt")
        assert caught.value.hint == "Did you mean 'ort'?"
    with pytest.raises(InputError, match="instrument 'rappl' is not known"):
        instrument_program("rappl")


def test_a_user_s_own_come_first(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("first/targets/host.toml", GOOD)
    write("second/targets/host.toml", GOOD)
    write("second/targets/mine.toml", GOOD)
    write("second/compilers/mine.py", "")
    folders = [tmp_path / "first", tmp_path / "absent", tmp_path / "second"]
    monkeypatch.setenv("EDGEDEPLOY_PATH", os.pathsep.join(["", *map(str, folders)]))
    assert share_folders("targets") == [
        tmp_path / "first" / "targets",
        tmp_path / "second" / "targets",
        ROOT / "targets",
    ]
    found = target_files()
    assert found["host"] == tmp_path / "first" / "targets" / "host.toml"
    assert found["mine"] == tmp_path / "second" / "targets" / "mine.toml"
    assert load_target("host").board == "a board"
    assert compiler_program("mine") == tmp_path / "second" / "compilers" / "mine.py"
    assert compiler_program("ort") == ROOT / "compilers" / "ort.py"
    assert shared_files("nowhere", ".toml") == {}


def test_toml_into_any_record(write: Write) -> None:
    path = write("a.toml", "x = 1")
    assert read_toml(path, "workload") == {"x": 1}
    with pytest.raises(InputError, match="here: Object contains unknown field `x`"):
        decode({"x": 1}, Target, "here")
    with pytest.raises(InputError, match="here: Expected `str`, got `int`") as caught:
        decode({"x": 1}, dict[str, str], "here")
    assert "place named" in caught.value.hint


def test_the_local_device(tmp_path: Path, write: Write) -> None:
    target = load_target(write("board.toml", GOOD))
    device = open_device(target)
    assert isinstance(device, LocalDevice)
    assert (device.name, device.transport) == ("localhost", "local")
    assert device.put(tmp_path / "model") == str(tmp_path / "model")
    assert device.identity() == LocalDevice().identity()
    assert len(device.identity().split()) >= 2
    program = write("vendor.py", "def probe(): return {'tools': {}}")
    with device.worker(program, timeout_s=5) as worker:
        assert worker.call("probe") == {"tools": {}}
        assert (worker.name, worker.timeout_s) == ("vendor", 5)
    with pytest.raises(InputError, match="transport 'pigeon' is not known"):
        open_device(Target(name="x", board="b", transport="pigeon", compiler="c", profiler="p"))
