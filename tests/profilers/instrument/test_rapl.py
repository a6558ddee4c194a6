"""RAPL counters from made trees of /sys/class/powercap: names, units, totals, what is missing."""

import errno
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Load = Callable[[str], ModuleType]
Tree = Callable[[dict[str, str | int]], Path]
POWERCAP = "class/powercap"


def zone(number: str, name: str, energy_uj: int, range_uj: int = 262143328850) -> dict[str, Any]:
    folder = f"{POWERCAP}/intel-rapl:{number}"
    return {
        f"{folder}/name": name,
        f"{folder}/energy_uj": energy_uj,
        f"{folder}/max_energy_range_uj": range_uj,
    }


LAPTOP = {
    f"{POWERCAP}/intel-rapl/enabled": 1,
    **zone("0", "package-0", 123456789012),
    **zone("0:0", "core", 45000001),
    **zone("0:1", "uncore", 7),
    # A second view of package-0: must not be counted again.
    f"{POWERCAP}/intel-rapl-mmio:0/name": "package-0",
    f"{POWERCAP}/intel-rapl-mmio:0/energy_uj": 123456789012,
}
SERVER = {
    **zone("1", "package-1", 2_000_000),
    **zone("1:0", "dram", 20_000, 65712999613),
    **zone("0", "package-0", 1_000_000),
    **zone("0:0", "dram", 10_000, 65712999613),
}


@pytest.fixture
def rapl(load: Load) -> ModuleType:
    return load("rapl")


def opened(rapl: ModuleType, root: Path) -> dict[str, dict[str, Any]]:
    return {c["name"]: c for c in rapl.open({"sysfs": str(root)})["channels"]}


def deny(monkeypatch: pytest.MonkeyPatch, part: str, code: int = errno.EACCES) -> None:
    """Make reading files with `part` in their path fail, as for a user who is not root."""
    read_text = Path.read_text

    def refuse(self: Path, *args: Any, **kwargs: Any) -> str:
        if part in str(self):
            raise OSError(code, "Permission denied" if code == errno.EACCES else "I/O error")
        return read_text(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)


def test_laptop_has_package_core_and_uncore(rapl: ModuleType, tree: Tree) -> None:
    root = tree(LAPTOP)
    assert rapl.open({"sysfs": str(root)}) == {
        "channels": [
            {
                "name": name,
                "quantity": "energy",
                "unit": "J",
                "scope": scope,
                "counter_range": 262143.32885,
                "period_s": 0.001,
                "total": total,
            }
            for name, scope, total in [
                ("package-0", "package-0", True),
                ("package-0.core", "package-0 core", False),
                ("package-0.uncore", "package-0 uncore", False),
            ]
        ],
        "notes": [],
    }
    assert rapl.read() == [123456.789012, 45.000001, 0.000007]


def test_counter_is_read_anew_each_time(rapl: ModuleType, tree: Tree) -> None:
    root = tree(zone("0", "package-0", 5))
    rapl.open({"sysfs": str(root)})
    assert rapl.read() == [0.000005]
    tree({f"{POWERCAP}/intel-rapl:0/energy_uj": 262143328850})
    assert rapl.read() == [262143.32885]


def test_two_packages_are_the_total_and_dram_is_not(rapl: ModuleType, tree: Tree) -> None:
    channels = opened(rapl, tree(SERVER))
    assert {name: c["total"] for name, c in channels.items()} == {
        "package-0": True,
        "package-0.dram": False,
        "package-1": True,
        "package-1.dram": False,
    }
    assert channels["package-1.dram"]["scope"] == "package-1 dram"
    assert channels["package-0.dram"]["counter_range"] == 65712.999613
    assert rapl.read() == [1.0, 0.01, 2.0, 0.02]


def test_zones_are_in_numeric_order(rapl: ModuleType, tree: Tree) -> None:
    files: dict[str, str | int] = {}
    for number in (10, 2, 0):
        files |= zone(str(number), f"package-{number}", number)
    assert list(opened(rapl, tree(files))) == ["package-0", "package-2", "package-10"]


def test_dies_of_a_package_are_total_each(rapl: ModuleType, tree: Tree) -> None:
    files = {**zone("0", "package-0-die-0", 1), **zone("1", "package-0-die-1", 2)}
    channels = opened(rapl, tree(files))
    assert [(n, c["scope"], c["total"]) for n, c in channels.items()] == [
        ("package-0-die-0", "package-0-die-0", True),
        ("package-0-die-1", "package-0-die-1", True),
    ]


def test_psys_holds_the_packages_so_it_is_not_added(rapl: ModuleType, tree: Tree) -> None:
    channels = opened(rapl, tree({**LAPTOP, **zone("1", "psys", 999_000_000)}))
    assert [name for name, c in channels.items() if c["total"]] == ["package-0"]
    assert channels["psys"]["scope"] == "psys"
    assert rapl.read()[-1] == 999.0


def test_psys_alone_is_no_total_and_says_so(rapl: ModuleType, tree: Tree) -> None:
    answer = rapl.open({"sysfs": str(tree(zone("0", "psys", 1)))})
    assert [c["total"] for c in answer["channels"]] == [False]
    assert answer["notes"] == ["no total: no package zone can be read, only parts or the platform"]


def test_permission_denied_names_the_command(
    rapl: ModuleType, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(SERVER)
    deny(monkeypatch, "energy_uj")
    with pytest.raises(rapl.Missing) as caught:
        rapl.open({"sysfs": str(root)})
    assert str(caught.value) == (
        f"no permission to read {root}/class/powercap/intel-rapl:0/energy_uj: since Linux 5.10"
        " only root may read RAPL counters (CVE-2020-8694)"
    )
    assert caught.value.hint == f"sudo chmod -R a+r {root}/class/powercap/intel-rapl*"
    monkeypatch.setattr(rapl, "SYSFS", str(root))
    with pytest.raises(rapl.Missing, match="CVE-2020-8694"):
        rapl.probe()


def test_half_a_machine_is_not_a_total(
    rapl: ModuleType, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(SERVER)
    deny(monkeypatch, "intel-rapl:1/energy_uj", errno.EIO)
    answer = rapl.open({"sysfs": str(root)})
    assert [(c["name"], c["total"]) for c in answer["channels"]] == [
        ("package-0", False),
        ("package-0.dram", False),
        ("package-1.dram", False),
    ]
    assert answer["notes"] == [
        f"{root}/class/powercap/intel-rapl:1/energy_uj: I/O error",
        "no total: a package of this machine cannot be read",
    ]


def test_unreadable_part_leaves_the_total_alone(rapl: ModuleType, tree: Tree) -> None:
    root = tree({**LAPTOP, f"{POWERCAP}/intel-rapl:0:1/energy_uj": "garbage"})
    answer = rapl.open({"sysfs": str(root)})
    assert [(c["name"], c["total"]) for c in answer["channels"]] == [
        ("package-0", True),
        ("package-0.core", False),
    ]
    assert len(answer["notes"]) == 1
    assert "intel-rapl:0:1/energy_uj: not a number of microjoules" in answer["notes"][0]


def test_range_that_is_not_told_is_null(rapl: ModuleType, tree: Tree) -> None:
    root = tree(LAPTOP)
    (root / POWERCAP / "intel-rapl:0/max_energy_range_uj").unlink()
    tree({f"{POWERCAP}/intel-rapl:0:0/max_energy_range_uj": 0})
    channels = opened(rapl, root)
    assert channels["package-0"]["counter_range"] is None
    assert channels["package-0.core"]["counter_range"] is None


def test_zones_hidden_by_a_container(rapl: ModuleType, tmp_path: Path) -> None:
    (tmp_path / POWERCAP / "intel-rapl:0").mkdir(parents=True)
    with pytest.raises(rapl.Missing, match=r"listed but cannot be read .*No such file") as caught:
        rapl.open({"sysfs": str(tmp_path)})
    assert "option sysfs" in caught.value.hint


@pytest.mark.parametrize(
    "case",
    [
        ("aarch64", "", "a processor of kind aarch64 has no RAPL counters", "hwmon"),
        ("x86_64", "flags\t\t: fpu hypervisor sse\n", "this is a virtual machine", "bare machine"),
        ("x86_64", "flags\t\t: fpu sse\n", "the kernel shows no RAPL", "modprobe intel_rapl_msr"),
    ],
)
def test_no_zones_says_why(
    rapl: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, str, str, str],
) -> None:
    machine, cpuinfo, message, hint = case
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(rapl, "CPUINFO", str(tmp_path / "cpuinfo"))
    monkeypatch.setattr(rapl.platform, "machine", lambda: machine)
    with pytest.raises(rapl.Missing, match=message) as caught:
        rapl.open({"sysfs": str(tmp_path)})
    assert hint in caught.value.hint


def test_counter_that_fails_midway_is_null_and_comes_back(rapl: ModuleType, tree: Tree) -> None:
    root = tree(SERVER)
    rapl.open({"sysfs": str(root)})
    energy = root / POWERCAP / "intel-rapl:1/energy_uj"
    energy.write_text("")
    assert rapl.read() == [1.0, 0.01, None, 0.02]
    energy.write_text("2000001\n")
    assert rapl.read() == [1.0, 0.01, 2.000001, 0.02]


def test_close_may_be_called_twice(rapl: ModuleType, tree: Tree) -> None:
    rapl.open({"sysfs": str(tree(SERVER))})
    rapl.close()
    rapl.close()
    assert rapl.read() == []


def test_unknown_option_is_refused(rapl: ModuleType) -> None:
    with pytest.raises(rapl.BadInput, match="no option 'sysf'"):
        rapl.open({"sysf": "/sys"})


def test_probe_gives_the_kernel(
    rapl: ModuleType, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rapl, "SYSFS", str(tree(SERVER)))
    monkeypatch.setattr(rapl.platform, "release", lambda: "6.8.0-test")
    assert rapl.probe() == {"tools": {"linux": "6.8.0-test"}}
