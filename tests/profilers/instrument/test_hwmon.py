"""Sensors from made trees of /sys/class/hwmon: units, which channel is total, what is left out."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Files = dict[str, str | int]
Tree = Callable[[Files], Path]


def chip(number: int, name: str, files: Files) -> Files:
    folder = f"class/hwmon/hwmon{number}"
    return {f"{folder}/name": name, **{f"{folder}/{k}": v for k, v in files.items()}}


def rail(number: int, label: str, voltage_mv: int, current_ma: int) -> Files:
    return {
        f"in{number}_label": label,
        f"in{number}_enable": 1,
        f"in{number}_input": voltage_mv,
        f"curr{number}_input": current_ma,
    }


# What the driver shows beside its three rails: shunt voltages, their sum, the sum of the currents.
SHUNTS: Files = {
    "in4_input": 5,
    "in5_input": 1,
    "in6_input": 2,
    "in7_label": "sum of shunt voltages",
    "in7_input": 8,
    "curr4_input": 1700,
}
ORIN_NANO = chip(
    1,
    "ina3221",
    {
        **rail(1, "VDD_IN", 5024, 1234),
        **rail(2, "VDD_CPU_GPU_CV", 5016, 333),
        **rail(3, "VDD_SOC", 5008, 201),
        **SHUNTS,
        "update_interval": 10,
    },
) | chip(0, "cpu_thermal", {"temp1_input": 47093})
AGX_ORIN = chip(
    3,
    "ina3221",
    {
        **rail(1, "VDD_GPU_SOC", 19064, 168),
        **rail(2, "VDD_CPU_CV", 19064, 42),
        **rail(3, "VIN_SYS_5V0", 5024, 500),
        **SHUNTS,
    },
) | chip(
    4,
    "ina3221",
    {
        **rail(1, "NC", 0, 0),
        **rail(2, "VDDQ_VDD2_1V8AO", 19064, 21),
        **rail(3, "NC", 0, 0),
        **SHUNTS,
    },
)
INA238: Files = {"in0_input": 3, "in1_input": 19912, "curr1_input": 2105, "temp1_input": 41875}


@pytest.fixture
def hwmon(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("hwmon")


def opened(hwmon: ModuleType, root: Path, **options: Any) -> tuple[dict[str, Any], list[str]]:
    answer = hwmon.open({"sysfs": str(root), **options})
    return {c["name"]: c for c in answer["channels"]}, answer["notes"]


def totals(channels: dict[str, Any]) -> list[str]:
    return [name for name, c in channels.items() if c["total"]]


def readings(hwmon: ModuleType, channels: dict[str, Any]) -> dict[str, float | None]:
    return dict(zip(channels, hwmon.read(), strict=True))


def test_orin_nano_rails_are_volts_times_amperes(hwmon: ModuleType, tree: Tree) -> None:
    channels, notes = opened(hwmon, tree(ORIN_NANO))
    assert notes == []
    assert channels["ina3221.VDD_IN"] == {
        "name": "ina3221.VDD_IN",
        "quantity": "power",
        "unit": "W",
        "scope": "rail VDD_IN",
        "counter_range": None,
        "period_s": 0.01,
        "total": True,
    }
    assert channels["cpu_thermal.temp1"] == {
        "name": "cpu_thermal.temp1",
        "quantity": "temperature",
        "unit": "°C",
        "scope": "cpu_thermal temp1",
        "counter_range": None,
        "period_s": None,
        "total": False,
    }
    assert totals(channels) == ["ina3221.VDD_IN"]
    # 5024 mV x 1234 mA, and neither the shunts' voltages nor the sum of the currents.
    assert readings(hwmon, channels) == {
        "cpu_thermal.temp1": 47.093,
        "ina3221.VDD_IN": 6.199616,
        "ina3221.VDD_CPU_GPU_CV": 1.670328,
        "ina3221.VDD_SOC": 1.006608,
    }


def test_agx_orin_has_no_total_and_says_so(hwmon: ModuleType, tree: Tree) -> None:
    channels, notes = opened(hwmon, tree(AGX_ORIN))
    assert list(channels) == [
        "ina3221.VDD_GPU_SOC",
        "ina3221.VDD_CPU_CV",
        "ina3221.VIN_SYS_5V0",
        "ina3221.VDDQ_VDD2_1V8AO",
    ]
    assert totals(channels) == []
    assert notes == [
        "no total: no sensor is known to stand for the whole device among ina3221.VDD_GPU_SOC,"
        " ina3221.VDD_CPU_CV, ina3221.VIN_SYS_5V0, ina3221.VDDQ_VDD2_1V8AO; if some do, name them"
        " in the option total (VIN_SYS_5V0 feeds VDDQ_VDD2_1V8AO: not both)"
    ]


def test_total_may_be_named_by_label_or_channel(hwmon: ModuleType, tree: Tree) -> None:
    wanted = ["VDD_GPU_SOC", "VDD_CPU_CV", "ina3221.VIN_SYS_5V0"]
    channels, notes = opened(hwmon, tree(AGX_ORIN), total=wanted)
    assert totals(channels) == list(channels)[:3]
    assert notes == []
    assert sum(hwmon.read()[:3]) == pytest.approx(19.064 * (0.168 + 0.042) + 5.024 * 0.5)


def test_rail_and_what_it_feeds_are_not_both_total(hwmon: ModuleType, tree: Tree) -> None:
    with pytest.raises(hwmon.BadInput, match="VIN_SYS_5V0 feeds VDDQ_VDD2_1V8AO") as caught:
        opened(hwmon, tree(AGX_ORIN), total=["VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"])
    assert caught.value.hint == "Name only one of the two."


def test_total_replaces_the_known_rail(hwmon: ModuleType, tree: Tree) -> None:
    channels, _ = opened(hwmon, tree(ORIN_NANO), total=["VDD_SOC"])
    assert totals(channels) == ["ina3221.VDD_SOC"]


def test_total_that_no_sensor_is_called(hwmon: ModuleType, tree: Tree) -> None:
    with pytest.raises(hwmon.BadInput, match="'VDD_INN'") as caught:
        opened(hwmon, tree(ORIN_NANO), total=["VDD_INN"])
    assert "ina3221.VDD_IN, ina3221.VDD_CPU_GPU_CV, ina3221.VDD_SOC" in caught.value.hint


def test_total_that_cannot_be_read_is_no_total(hwmon: ModuleType, tree: Tree) -> None:
    root = tree({**AGX_ORIN, "class/hwmon/hwmon3/in2_enable": 0})
    channels, notes = opened(hwmon, root, total=["VDD_GPU_SOC", "VDD_CPU_CV"])
    assert totals(channels) == []
    assert notes == [
        "ina3221 VDD_CPU_CV left out: switched off",
        "no total: VDD_CPU_CV, which the option total names, cannot be read",
    ]


def test_rail_that_errs_is_left_out(hwmon: ModuleType, tree: Tree) -> None:
    # On AGX Orin the third input of the second monitor may answer with an error.
    root = tree(AGX_ORIN | chip(4, "ina3221", rail(3, "VDD_X", 1, 1)))
    (root / "class/hwmon/hwmon4/in3_input").unlink()
    (root / "class/hwmon/hwmon4/in3_input").mkdir()
    channels, notes = opened(hwmon, root)
    assert "ina3221.VDD_X" not in channels
    assert notes[0] == "ina3221 VDD_X left out: Is a directory"


def test_known_rail_that_is_switched_off_is_no_total(hwmon: ModuleType, tree: Tree) -> None:
    root = tree({**ORIN_NANO, "class/hwmon/hwmon1/in1_enable": 0})
    channels, notes = opened(hwmon, root)
    assert list(channels) == ["cpu_thermal.temp1", "ina3221.VDD_CPU_GPU_CV", "ina3221.VDD_SOC"]
    assert totals(channels) == []
    assert notes[0] == "ina3221 VDD_IN left out: switched off"
    assert notes[1].startswith("no total: no sensor is known")


def test_thor_ina238_is_in_microwatts(hwmon: ModuleType, tree: Tree) -> None:
    root = tree(
        chip(2, "ina238", {**INA238, "label": "VIN", "power1_input": 41914760})
        | chip(1, "ina3221", {**rail(1, "VDD_GPU", 19912, 503), **SHUNTS})
    )
    channels, notes = opened(hwmon, root)
    assert notes == []
    assert totals(channels) == ["ina238.VIN"]
    assert channels["ina238.VIN"]["scope"] == "rail VIN"
    assert readings(hwmon, channels) == {
        "ina3221.VDD_GPU": 10.015736,
        "ina238.VIN": 41.91476,
        "ina238.temp1": 41.875,
    }


def test_ina238_without_a_label_is_total_only_by_option(hwmon: ModuleType, tree: Tree) -> None:
    root = tree(chip(0, "ina238", {**INA238, "power1_input": 41914760}))
    channels, notes = opened(hwmon, root)
    assert totals(channels) == []
    assert "ina238.power1" in notes[0]
    channels, notes = opened(hwmon, root, total=["ina238.power1"])
    assert totals(channels) == ["ina238.power1"]
    assert notes == []


def test_counter_wins_over_power_of_the_same_rail(hwmon: ModuleType, tree: Tree) -> None:
    root = tree(
        chip(0, "ina228", {"label": "VIN", "power1_input": 41914760, "energy1_input": 900000001})
    )
    channels, _ = opened(hwmon, root)
    assert {n: (c["quantity"], c["total"]) for n, c in channels.items()} == {
        "ina228.hwmon0.VIN.power1": ("power", False),
        "ina228.hwmon0.VIN.energy1": ("energy", True),
    }
    assert hwmon.read() == [41.91476, 900.000001]
    channels, _ = opened(hwmon, root, total=["VIN"])
    assert totals(channels) == ["ina228.hwmon0.VIN.energy1"]


def test_ina226_on_i2c(hwmon: ModuleType, tree: Tree) -> None:
    root = tree(
        chip(
            0,
            "ina226",
            {
                "in0_input": 2,
                "in1_input": 12012,
                "curr1_input": 250,
                "power1_input": 3000000,
                "shunt_resistor": 2000,
                "update_interval": 2,
            },
        )
    )
    channels, _ = opened(hwmon, root)
    assert list(channels) == ["ina226.power1"]
    assert channels["ina226.power1"]["period_s"] == 0.002
    # The chip's own product, not bus voltage times current a second time.
    assert hwmon.read() == [3.0]


def test_two_of_a_kind_are_told_apart_by_address(hwmon: ModuleType, tree: Tree) -> None:
    root = tree(
        chip(0, "ina226", {"power1_input": 1_000_000})
        | chip(1, "ina226", {"power1_input": 2_000_000})
    )
    for number, address in ((0, "1-0040"), (1, "1-0044")):
        device = root / "devices" / address
        device.mkdir(parents=True)
        (root / f"class/hwmon/hwmon{number}/device").symlink_to(device)
    channels, _ = opened(hwmon, root, total=["ina226.1-0044.power1"])
    assert totals(channels) == ["ina226.1-0044.power1"]
    assert readings(hwmon, channels) == {"ina226.1-0040.power1": 1.0, "ina226.1-0044.power1": 2.0}


def test_rail_called_total_on_two_chips_is_none(hwmon: ModuleType, tree: Tree) -> None:
    files: Files = {"label": "VIN", "power1_input": 1}
    channels, notes = opened(hwmon, tree(chip(0, "ina238", files) | chip(1, "ina238", files)))
    assert totals(channels) == []
    assert notes[0].startswith("no total: no sensor is known")


def test_average_says_so_with_its_interval(hwmon: ModuleType, tree: Tree) -> None:
    files: Files = {"power1_average": 315_000_000, "power1_average_interval": 1000}
    channels, _ = opened(hwmon, tree(chip(0, "power_meter", files)))
    meter = channels["power_meter.power1"]
    assert (meter["scope"], meter["period_s"]) == ("power_meter power1, average", 1.0)
    assert hwmon.read() == [315.0]


def test_instant_power_wins_over_the_average(hwmon: ModuleType, tree: Tree) -> None:
    files: Files = {"power1_average": 5, "power1_input": 7_000_000, "power1_label": "PPT"}
    channels, _ = opened(hwmon, tree(chip(0, "amdgpu", files)))
    assert channels["amdgpu.PPT"]["scope"] == "amdgpu PPT"
    assert hwmon.read() == [7.0]


def test_amd_energy_sockets_are_packages(hwmon: ModuleType, tree: Tree) -> None:
    files: Files = {
        "energy1_label": "Ecore000",
        "energy1_input": 1,
        "energy65_label": "Esocket0",
        "energy65_input": 123456789,
        "energy66_label": "Esocket1",
        "energy66_input": 2_000_000,
    }
    channels, notes = opened(hwmon, tree(chip(0, "amd_energy", files)))
    assert [(c["scope"], c["quantity"], c["total"]) for c in channels.values()] == [
        ("package-0", "energy", True),
        ("package-1", "energy", True),
    ]
    assert notes == []
    assert hwmon.read() == [123.456789, 2.0]


def test_zenpower_package_is_total_and_its_core_is_not(hwmon: ModuleType, tree: Tree) -> None:
    files: Files = {
        "power1_label": "RAPL_P_Package",
        "power1_input": 51_000_000,
        "power2_label": "RAPL_P_Core",
        "power2_input": 30_000_000,
    }
    channels, _ = opened(hwmon, tree(chip(0, "zenpower", files)))
    assert totals(channels) == ["zenpower.RAPL_P_Package"]
    assert channels["zenpower.RAPL_P_Package"]["scope"] == "package-0"
    assert channels["zenpower.RAPL_P_Core"]["scope"] == "zenpower RAPL_P_Core"


def test_one_package_of_two_is_no_total(hwmon: ModuleType, tree: Tree) -> None:
    files: Files = {
        "energy1_label": "Esocket0",
        "energy1_input": 1,
        "energy2_label": "Esocket1",
        "energy2_input": "",
    }
    channels, notes = opened(hwmon, tree(chip(0, "amd_energy", files)))
    assert totals(channels) == []
    assert notes[0].startswith("amd_energy Esocket1 left out: ")


def test_temperatures_alone_open_and_say_why_power_is_null(hwmon: ModuleType, tree: Tree) -> None:
    files: Files = {
        "temp1_label": "Package id 0",
        "temp1_input": 52000,
        "temp2_label": "Core 0",
        "temp2_input": 49000,
    }
    nvme: Files = {"temp1_input": 38850}
    channels, notes = opened(hwmon, tree(chip(0, "coretemp", files) | chip(1, "nvme", nvme)))
    # A core's own temperature wakes the core, and a disk's is no part of an inference.
    assert list(channels) == ["coretemp.Package id 0"]
    assert hwmon.read() == [52.0]
    assert notes == ["no total: no sensor of power or energy can be read here"]


def test_devices_chooses_the_chips(hwmon: ModuleType, tree: Tree) -> None:
    root = tree(ORIN_NANO | chip(2, "nvme", {"temp1_input": 38850}))
    channels, _ = opened(hwmon, root, devices=["nvme"])
    assert readings(hwmon, channels) == {"nvme.temp1": 38.85}
    with pytest.raises(hwmon.BadInput, match="no hwmon device 'ina219'") as caught:
        opened(hwmon, root, devices=["ina219"])
    assert caught.value.hint == "Found: cpu_thermal, ina3221, nvme."


def test_sensor_that_fails_midway_is_null_and_comes_back(hwmon: ModuleType, tree: Tree) -> None:
    root = tree(ORIN_NANO)
    channels, _ = opened(hwmon, root)
    current = root / "class/hwmon/hwmon1/curr1_input"
    current.unlink()
    assert readings(hwmon, channels)["ina3221.VDD_IN"] is None
    assert readings(hwmon, channels)["ina3221.VDD_SOC"] == 1.006608
    current.write_text("1000\n")
    assert readings(hwmon, channels)["ina3221.VDD_IN"] == 5.024


def test_features_are_in_numeric_order(hwmon: ModuleType, tree: Tree) -> None:
    files: Files = {f"temp{n}_input": n * 1000 for n in (10, 2, 1)}
    opened(hwmon, tree(chip(0, "board", files)))
    assert hwmon.read() == [1.0, 2.0, 10.0]


def test_no_sensor_at_all(hwmon: ModuleType, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree({"class/hwmon/README": ""})
    monkeypatch.setattr(hwmon, "SYSFS", str(root))
    with pytest.raises(hwmon.Missing, match="no hwmon device"):
        hwmon.probe()
    root = tree(chip(0, "fan", {"fan1_input": 900}))
    with pytest.raises(hwmon.Missing, match="no power, energy or temperature of fan"):
        hwmon.probe()
    tree(chip(1, "thermal", {"temp1_input": 900}))
    monkeypatch.setattr(hwmon.platform, "release", lambda: "5.15.0-tegra")
    assert hwmon.probe() == {"tools": {"linux": "5.15.0-tegra"}}


@pytest.mark.parametrize("options", [{"totals": []}, {"total": "VDD_IN"}, {"devices": "ina3221"}])
def test_wrong_options_are_refused(hwmon: ModuleType, tree: Tree, options: dict[str, Any]) -> None:
    with pytest.raises(hwmon.BadInput, match=next(iter(options))) as caught:
        opened(hwmon, tree(ORIN_NANO), **options)
    assert caught.value.hint
