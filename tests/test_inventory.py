"""Devices on other hosts: the variable, the inventory file, and what is wrong in either."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgedeploy.errors import InputError
from edgedeploy.inventory import (
    Entry,
    base_name,
    check_host,
    host_of,
    host_variable,
    inventory_paths,
    lacks_host,
    read_inventory,
)
from edgedeploy.show import target_table
from edgedeploy.target import every_target, load_target, load_targets

Write = Callable[..., Path]

BOARD = """
board = "a board"
transport = "{}"
compiler = "ort"
profiler = "ort"
"""
TWO = """
[[device]]
name = "bench-1"
host = "me@bench1"
target = "far"

[[device]]
name = "bench-2"
host = "bench2"
target = "far"
python = "~/venv/bin/python3"
folder = "/var/tmp/edgedeploy"
lock = "module 0"
"""
ONE = TWO.partition("\n\n")[0] + "\n"


@pytest.fixture(autouse=True)
def own_places(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets of four transports, an empty folder to stand in, and empty settings."""
    for name, transport in (
        ("far", "ssh"),
        ("near", "local"),
        ("board", "serial"),
        ("made-up", "qemu"),
    ):
        emulated = 'source = "emulated"\n' if transport == "qemu" else ""
        options = "[device_options.serial]\nchip = 'x'\n" if transport == "serial" else ""
        write(f"own/targets/{name}.toml", BOARD.format(transport) + emulated + options)
    write("own/targets/set-up.toml", BOARD.format("ssh") + '[device_options.ssh]\npython = "py"\n')
    (tmp_path / "stand").mkdir()
    monkeypatch.chdir(tmp_path / "stand")
    monkeypatch.delenv("EDGEDEPLOY_DEVICES", raising=False)
    monkeypatch.setenv("EDGEDEPLOY_PATH", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))


@pytest.fixture
def inventory(write: Write) -> Callable[[str], Path]:
    """Write the inventory of this folder."""
    return lambda text: write("stand/devices.toml", text)


def test_the_file_is_the_one_named_else_the_one_here_else_the_user_s(
    write: Write, inventory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_inventory().entries == ()
    looked = inventory_paths()
    assert looked[0] == Path("devices.toml")
    assert looked[1].parts[-2:] == ("edgedeploy", "devices.toml")
    looked[1].parent.mkdir(parents=True)
    for place, name in (("user-s", looked[1]), ("folder-s", looked[0])):
        name.write_text(ONE.replace("bench-1", place))
        assert [entry.name for entry in read_inventory().entries] == [place]
        assert read_inventory().path == str(name)
    monkeypatch.setenv("EDGEDEPLOY_DEVICES", str(write("else/named.toml", TWO)))
    assert [entry.name for entry in read_inventory().entries] == ["bench-1", "bench-2"]
    monkeypatch.setenv("EDGEDEPLOY_DEVICES", os.devnull)
    assert read_inventory().entries == ()
    monkeypatch.setenv("EDGEDEPLOY_DEVICES", "else/nimed.toml")
    with pytest.raises(InputError, match=r"devices file else/nimed\.toml does not exist"):
        read_inventory()


def test_a_device_says_what_its_host_needs(inventory: Callable[[str], Path]) -> None:
    inventory(TWO)
    first, second = read_inventory().entries
    assert first == Entry(name="bench-1", host="me@bench1", target="far")
    assert first.options() == {"host": "me@bench1"}
    assert second.options() == {
        "host": "bench2",
        "python": "~/venv/bin/python3",
        "folder": "/var/tmp/edgedeploy",
        "lock": "module 0",
    }


def test_the_one_device_of_a_target_is_taken(inventory: Callable[[str], Path]) -> None:
    inventory(ONE)
    (target,) = load_targets("far")
    assert (target.name, target.transport) == ("far", "ssh")
    assert target.device_options == {"ssh": {"host": "me@bench1"}}
    assert host_of(target) == "me@bench1"
    # the file of a target is what it was, and what is not in the inventory stays here
    assert load_target("far").device_options == {}
    assert load_targets("near") == [load_target("near")]


def test_the_variable_wins_over_the_file(
    inventory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory(TWO)
    assert host_variable("rpi5-hailo8") == "EDGEDEPLOY_HOST_RPI5_HAILO8"
    monkeypatch.setenv("EDGEDEPLOY_HOST_FAR", "you@other")
    (target,) = load_targets("far")
    assert (target.name, host_of(target)) == ("far", "you@other")
    # but not over a device asked for by its name
    (target,) = load_targets("far@bench-2")
    assert (target.name, host_of(target)) == ("far@bench-2", "bench2")
    monkeypatch.setenv("EDGEDEPLOY_HOST_NEAR", " ::1 ")
    (target,) = load_targets("near")
    assert (target.transport, host_of(target)) == ("ssh", "::1")
    # what the target's own file says of any host of its kind stays
    monkeypatch.setenv("EDGEDEPLOY_HOST_SET_UP", "x")
    (target,) = load_targets("set-up")
    assert target.device_options == {"ssh": {"python": "py", "host": "x"}}


def test_several_devices_of_one_target_are_told_apart(inventory: Callable[[str], Path]) -> None:
    inventory(TWO)
    found = load_targets("far@bench-1, far@bench-2,bench-2")
    assert [(t.name, host_of(t)) for t in found] == [
        ("far@bench-1", "me@bench1"),
        ("far@bench-2", "bench2"),
    ]
    assert {base_name(t.name) for t in found} == {"far"}
    assert [t.name for t in load_targets("near,bench-1")] == ["near", "far@bench-1"]
    (path,) = load_targets(f"{os.environ['EDGEDEPLOY_PATH']}/targets/far.toml@bench-1")
    assert (path.name, host_of(path)) == ("far@bench-1", "me@bench1")


def test_here_is_this_host(
    inventory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory(ONE)
    monkeypatch.setenv("EDGEDEPLOY_HOST_NEAR", "x")
    found = load_targets("near@here,near,far@here,board@here")
    assert [(t.name, t.transport, host_of(t)) for t in found] == [
        ("near@here", "local", ""),
        ("near", "ssh", "x"),
        ("far@here", "local", ""),
        ("board@here", "serial", ""),
    ]


def test_a_target_s_own_name_comes_before_a_device_s(inventory: Callable[[str], Path]) -> None:
    inventory(ONE.replace("bench-1", "near"))
    assert [t.name for t in load_targets("near,near@here")] == ["near", "near@here"]
    assert host_of(load_targets("far@near")[0]) == "me@bench1"


def test_a_target_without_a_host_says_how_to_name_one(inventory: Callable[[str], Path]) -> None:
    (target,) = load_targets("far")
    assert (target.transport, host_of(target)) == ("ssh", "")
    assert lacks_host(target) == (
        "Set EDGEDEPLOY_HOST_FAR=user@host, or name a device of it in devices.toml"
        " (docs/devices.md)."
    )
    assert lacks_host(load_targets("near")[0]) == ""
    inventory(ONE)
    assert lacks_host(load_targets("far")[0]) == ""


def test_the_serial_port_of_a_board_there(
    inventory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory(ONE.replace('"far"', '"board"') + 'port = "/dev/ttyACM3"\n')
    (target,) = load_targets("board")
    assert target.transport == "ssh"
    assert target.device_options == {
        "serial": {"chip": "x"},
        "ssh": {"host": "me@bench1", "port": "/dev/ttyACM3"},
    }
    near, named = load_targets("near,bench-1", port="/dev/ttyUSB1")
    assert named.device_options["ssh"]["port"] == "/dev/ttyUSB1"
    assert near == load_target("near")
    (here,) = load_targets("board@here", port="/dev/ttyUSB1")
    assert here.device_options == {"serial": {"chip": "x", "port": "/dev/ttyUSB1"}}
    monkeypatch.setenv("EDGEDEPLOY_HOST_BOARD", "other")
    monkeypatch.setenv("EDGEDEPLOY_PORT_BOARD", "/dev/ttyUSB2")
    assert load_targets("board")[0].device_options["ssh"] == {
        "host": "other",
        "port": "/dev/ttyUSB2",
    }
    with pytest.raises(InputError, match=r"2 of the targets have one: \['board@here', 'board@ben"):
        load_targets("board@here,bench-1", port="x")
    with pytest.raises(InputError, match="0 of the targets have one"):
        load_targets("far,near", port="x")


def test_every_target_where_it_is(
    inventory: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory(TWO)
    monkeypatch.setenv("EDGEDEPLOY_HOST_NEAR", "x")
    found = {target.name: host_of(target) for target in every_target()}
    own = ("near", "far@bench-1", "far@bench-2", "board", "made-up", "set-up")
    assert {name: found[name] for name in own} == {
        "near": "x",
        "far@bench-1": "me@bench1",
        "far@bench-2": "bench2",
        "board": "",
        "made-up": "",
        "set-up": "",
    }
    assert "far" not in found
    assert found["host"] == ""


def test_the_table_says_where(
    inventory: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    inventory(TWO)
    monkeypatch.setenv("COLUMNS", "200")
    target_table(every_target())
    lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines()]
    where = {cells[0].strip(): cells[-1].strip() for cells in lines if cells}
    assert where["far@bench-1"] == "ssh me@bench1"
    assert (where["near"], where["board"], where["made-up"]) == ("local", "serial", "qemu")
    assert where["set-up"] == "ssh (no host named)"


DEVICE = '[[device]]\nname = "a"\nhost = "b"\ntarget = "far"\n'


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("device = 1", "device is no list of tables", "[[device]]"),
        ("device = [1]", "device is no list of tables", "[[device]]"),
        ("[device]\nname = 'a'", "device is no list of tables", "[[device]]"),
        ("[[devise]]", "unknown field `devise`", "Did you mean 'device'?"),
        ("[[device]", "is not TOML", "Mend the line named"),
        (DEVICE + "hots = 1", "device 'a': .*unknown field `hots`", "Did you mean 'host'?"),
        (DEVICE + "zzzzzz = 1", "device 'a': .*unknown field `zzzzzz`", "Known: folder, host, "),
        (DEVICE + "port = 1", r"device 'a': Expected `str`, got `int` - at `\$.port`", "place"),
        ('[[device]]\nhost = "b"', "device 1: .*missing required field `name`", "place named"),
        (DEVICE.replace('host = "b"\n', ""), "device 'a': .*missing .*`host`", "place named"),
        (DEVICE.replace('"far"', '"fra"'), "'a': target 'fra' is not known", "Did you mean 'far'?"),
        (DEVICE + DEVICE, "two devices are named 'a'", "another"),
        (DEVICE.replace('"a"', '"here"'), "name is 'here'", '"here" is taken'),
        (DEVICE.replace('"a"', '"a@b"'), "name is 'a@b', expected letters", "bench-1"),
        (DEVICE.replace('"a"', '"a,b"'), "name is 'a,b', expected letters", "bench-1"),
        (DEVICE.replace('"a"', '"a.toml"'), r"name is 'a\.toml', expected letters", "bench-1"),
        (DEVICE.replace('"a"', '""'), "device 1: name is '', expected letters", "bench-1"),
        (DEVICE.replace('"b"', '"-oProxyCommand=x"'), "'a': host is '-oProxy", "~/.ssh/config"),
        (DEVICE + 'python = "python3; x"', "'a': python is 'python3; x'", "~/venv/bin/python"),
        (DEVICE + 'python = "-c"', "'a': python is '-c'", "~/venv/bin/python"),
        (DEVICE + 'port = "/dev/tty\\n"', r"'a': port is '/dev/tty\\n'", "leave port out"),
        (DEVICE + 'lock = " "', "'a': lock is ' '", "leave lock out"),
        (DEVICE + 'folder = "-rf"', "'a': folder is '-rf'", "leave folder out"),
    ],
)
def test_a_wrong_inventory_is_named(
    inventory: Callable[[str], Path], text: str, message: str, hint: str
) -> None:
    inventory(text)
    with pytest.raises(InputError, match=message) as caught:
        load_targets("near")
    assert "devices.toml" in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("devices", "named", "message", "hint"),
    [
        (
            TWO,
            "far",
            "2 devices are of target 'far': bench-1, bench-2",
            "Name one: --target far@bench-1; or several: --target far@bench-1,far@bench-2.",
        ),
        (
            TWO.replace('"far"', '"near"'),
            "near",
            "2 devices are of",
            " This computer is near@here.",
        ),
        (TWO, "far@bench-3", "device 'bench-3' is not in devices.toml", "Did you mean 'bench-"),
        (TWO, "far@x", "device 'x' is not in devices.toml", "Known: bench-1, bench-2."),
        (TWO, "near@bench-1", "of target 'far', not 'near'", "--target far@bench-1."),
        (TWO, "bench-11", "target 'bench-11' is not known", "Did you mean 'bench-1'?"),
        (TWO, "fur@bench-1", "target 'fur' is not known", "Did you mean 'far'?"),
        (TWO, "far@", "target 'far@' has nothing on one side", "Write NAME@DEVICE, or NAME@here."),
        (TWO, "@bench-1", "target '@bench-1' has nothing on one side", "NAME@DEVICE"),
        ("", "far@bench-1", "device 'bench-1' is not in devices.toml", "None are known."),
        (
            ONE.replace('"far"', '"made-up"'),
            "made-up",
            "'qemu', an emulator of this host, and device 'bench-1' puts it on another",
            "it runs here",
        ),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(
    inventory: Callable[[str], Path], devices: str, named: str, message: str, hint: str
) -> None:
    inventory(devices)
    with pytest.raises(InputError) as caught:
        load_targets(named)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_device_and_no_inventory() -> None:
    with pytest.raises(InputError, match=r"no inventory \(looked at devices\.toml and /") as caught:
        load_targets("far@bench-1")
    assert caught.value.hint == "docs/devices.md shows the form of one."


def test_a_variable_that_moves_an_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDEPLOY_HOST_MADE_UP", "x")
    with pytest.raises(InputError, match="and EDGEDEPLOY_HOST_MADE_UP puts it on another"):
        load_targets("made-up")
    assert load_targets("made-up@here")[0].transport == "qemu"


@pytest.mark.parametrize(
    "host",
    [
        "pi",
        "user@pi",
        "user.name+x@pi5.local",
        "user@realm@pi",
        "192.168.1.7",
        "::1",
        "[fe80::1%eth0]",
        "ssh://user@pi:2222",
        "ssh://[::1]:2222",
        "pi_5-lab",
    ],
)
def test_hosts(host: str) -> None:
    assert check_host(host, "here") == host


@pytest.mark.parametrize(
    "host",
    [
        "",
        "-oProxyCommand=touch it-ran",
        "user@-oProxyCommand=x",
        "ssh://-oProxyCommand=x",
        "-l@pi",
        "two words",
        "pi\n",
        "pi;true",
        "pi`true`",
        "$(true)",
        "pi'",
        'pi"',
        "pi|x",
        "pi/x",
        "http://pi",
        "pï",
        "pi\0",
    ],
)
def test_what_is_no_host(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="expected user@host") as caught:
        check_host(host, "EDGEDEPLOY_HOST_FAR")
    assert caught.value.message.startswith("EDGEDEPLOY_HOST_FAR: host is ")
    if host.strip() == host and host and "\0" not in host:
        monkeypatch.setenv("EDGEDEPLOY_HOST_FAR", host)
        with pytest.raises(InputError, match="EDGEDEPLOY_HOST_FAR: host is "):
            load_targets("far")
