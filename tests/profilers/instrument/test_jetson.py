"""Boards' trees as the documents lay them out: rails, units, totals, clocks, power modes."""

import errno
import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TREES = Path(__file__).parent / "jetson"
EVERY = sorted(path.stem for path in TREES.glob("*.toml"))

NO_EMC = "no memory clock: it is in {}/sys/kernel/debug, which root may read"
CARRIER = "{} is the module's input: what its carrier board takes is not in it"


@pytest.fixture
def jetson(load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, on a machine without nvpmodel."""
    monkeypatch.setenv("PATH", "")
    return load("jetson")


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Lay a board's tree out and give its root; files that fail there fail when read."""
    failing: dict[Path, str] = {}
    read_text = Path.read_text

    def read(path: Path, *args: Any, **kwargs: Any) -> str:
        resolved = path.resolve()
        if resolved in failing:
            code = getattr(errno, failing[resolved])
            raise OSError(code, os.strerror(code), str(path))
        return read_text(path, *args, **kwargs)

    def lay_out(name: str) -> Path:
        said = tomllib.loads(read_text(TREES / f"{name}.toml", encoding="utf-8"))
        for folder, files in said["folder"].items():
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for file, content in files.items():
                (tmp_path / folder / file).write_text(f"{content}\n", encoding="utf-8")
        for link, target in said["links"].items():
            (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / link).symlink_to(target)
            assert (tmp_path / link).exists(), link
        failing.update({(tmp_path / f).resolve(): e for f, e in said.get("failing", {}).items()})
        monkeypatch.setattr(Path, "read_text", read)
        return tmp_path

    return lay_out


def opened(jetson: ModuleType, root: Path, **options: Any) -> tuple[dict[str, Any], list[str]]:
    answer = jetson.open({"root": str(root), **options})
    return {c["name"]: c for c in answer["channels"]}, answer["notes"]


def readings(jetson: ModuleType, channels: dict[str, Any]) -> dict[str, float | None]:
    return dict(zip(channels, jetson.read(), strict=True))


RAILS = {
    # mV times mA
    "orin-nano": {
        "ina3221.VDD_IN": 6.199616,
        "ina3221.VDD_CPU_GPU_CV": 1.670328,
        "ina3221.VDD_SOC": 1.006608,
    },
    "orin-nx": {
        "ina3221.VDD_IN": 7.854368,
        "ina3221.VDD_CPU_GPU_CV": 2.802408,
        "ina3221.VDD_SOC": 1.772208,
    },
    "agx-orin": {
        "ina3221.VDD_GPU_SOC": 3.202752,
        "ina3221.VDD_CPU_CV": 0.800688,
        "ina3221.VIN_SYS_5V0": 2.512,
        "ina3221.VDDQ_VDD2_1V8AO": 0.400344,
    },
    # mW, by the driver
    "nano": {"ina3221.POM_5V_IN": 2.645, "ina3221.POM_5V_GPU": 0.122, "ina3221.POM_5V_CPU": 0.568},
    "xavier-nx": {
        "ina3221.VDD_IN": 4.501,
        "ina3221.VDD_CPU_GPU_CV": 1.094,
        "ina3221.VDD_SOC": 1.054,
    },
    # the INA238's own product, in uW
    "thor": {
        "ina238.VIN": 41.91476,
        "ina3221.VDD_GPU": 10.015736,
        "ina3221.VDD_CPU_SOC_MSS": 8.001408,
        "ina3221.VIN_SYS_5V0": 6.521472,
    },
}
TOTALS = {
    "orin-nano": ["ina3221.VDD_IN"],
    "orin-nx": ["ina3221.VDD_IN"],
    "agx-orin": [],
    "nano": ["ina3221.POM_5V_IN"],
    "xavier-nx": ["ina3221.VDD_IN"],
    "thor": ["ina238.VIN"],
}


@pytest.mark.parametrize("name", EVERY)
def test_rails_units_and_the_total(
    jetson: ModuleType, board: Callable[[str], Path], name: str
) -> None:
    channels, _ = opened(jetson, board(name))
    powers = {n: c for n, c in channels.items() if c["quantity"] == "power"}
    found = readings(jetson, channels)
    assert {n: found[n] for n in powers} == RAILS[name]
    assert [n for n, c in channels.items() if c["total"]] == TOTALS[name]
    assert {c["unit"] for c in powers.values()} == {"W"}
    assert [c["scope"] for c in powers.values()] == [f"rail {n.split('.')[1]}" for n in powers]


CLOCKS = {
    "orin-nano": {
        "gpu_clock": 611.75e6,
        "cpu_clock.policy0": 1344e6,
        "cpu_clock.policy4": 1113.6e6,
    },
    "orin-nx": {"gpu_clock": 1173e6, "cpu_clock.policy0": 1984e6, "cpu_clock.policy4": 1984e6},
    "agx-orin": {
        "gpu_clock": 1300.5e6,
        "emc_clock": 3199e6,
        "cpu_clock.policy0": 2201.6e6,
        "cpu_clock.policy4": 1190.4e6,
        "cpu_clock.policy8": 729.6e6,
    },
    "nano": {"gpu_clock": 921.6e6, "emc_clock": 1600e6, "cpu_clock": 1479e6},
    "xavier-nx": {
        "gpu_clock": 114.75e6,
        "cpu_clock.policy0": 1190.4e6,
        "cpu_clock.policy2": 115.2e6,
        "cpu_clock.policy4": 115.2e6,
    },
    "thor": {"gpu_clock": 1575e6, "cpu_clock": 2601e6},
}
ZONES = {
    "orin-nano": {
        "cpu-thermal": 49.312,
        "gpu-thermal": 48.125,
        "cv0-thermal": None,
        "soc0-thermal": 47.781,
        "tj-thermal": 49.312,
    },
    # JetPack 4 and 5 call them otherwise, and -256 degrees is a unit that is off
    "agx-orin": {
        "CPU-therm": 51.218,
        "GPU-therm": 47.5,
        "CV0-therm": None,
        "SOC0-therm": 48.0,
        "Tboard_tegra": 38.0,
    },
    "nano": {"AO-therm": 42.5, "CPU-therm": 34.0, "GPU-therm": 32.5, "PLL-therm": 31.5},
    # the GPU sleeps at open, and its zone with it
    "thor": {"tj-thermal": 55.125, "cpu-thermal": 53.718, "gpu-thermal": None},
}


@pytest.mark.parametrize("name", EVERY)
def test_clocks_are_in_hertz_and_the_gpus_is_first(
    jetson: ModuleType, board: Callable[[str], Path], name: str
) -> None:
    channels, _ = opened(jetson, board(name))
    found = readings(jetson, channels)
    clocks = {n: found[n] for n, c in channels.items() if c["quantity"] == "clock"}
    assert list(clocks.items()) == list(CLOCKS[name].items())
    assert {channels[n]["unit"] for n in clocks} == {"Hz"}


@pytest.mark.parametrize("name", sorted(ZONES))
def test_temperatures_of_zones_awake_and_asleep(
    jetson: ModuleType, board: Callable[[str], Path], name: str
) -> None:
    channels, _ = opened(jetson, board(name))
    found = readings(jetson, channels)
    zones = {n: found[n] for n, c in channels.items() if c["quantity"] == "temperature"}
    assert zones == ZONES[name]


def test_what_is_told_of_an_orin_nano(jetson: ModuleType, board: Callable[[str], Path]) -> None:
    root = board("orin-nano")
    answer = jetson.open({"root": str(root)})
    assert answer["facts"] == {
        "power_mode": "25W",
        "power_mode_id": 1,
        "gpu_clock_range_hz": [306_000_000, 918_000_000],
        "gpu_governor": "nvhost_podgov",
        "clocks_fixed": False,
    }
    assert answer["notes"] == [
        CARRIER.format("VDD_IN"),
        "power mode 1, 25W (nvpmodel)",
        "clocks move with load; sudo jetson_clocks fixes them; the GPU's from 306 to 918 MHz",
        NO_EMC.format(root),
    ]
    periods = {c["name"]: c["period_s"] for c in answer["channels"]}
    assert periods["ina3221.VDD_IN"] == 0.007
    assert periods["gpu_clock"] == 0.1


def test_clocks_that_jetson_clocks_fixed(jetson: ModuleType, board: Callable[[str], Path]) -> None:
    answer = jetson.open({"root": str(board("orin-nx"))})
    assert answer["facts"]["clocks_fixed"] is True
    assert answer["notes"][1:3] == [
        "power mode 4, 40W (nvpmodel)",
        "clocks are fixed, as by jetson_clocks; the GPU's from 1173 to 1173 MHz",
    ]


def test_agx_orin_has_no_total_and_says_which_rail_is_in_another(
    jetson: ModuleType, board: Callable[[str], Path]
) -> None:
    _, notes = opened(jetson, board("agx-orin"))
    assert notes == [
        "no total: no sensor is known to stand for the whole device among ina3221.VDD_GPU_SOC,"
        " ina3221.VDD_CPU_CV, ina3221.VIN_SYS_5V0, ina3221.VDDQ_VDD2_1V8AO; if some do, name them"
        " in the option total (VIN_SYS_5V0 feeds VDDQ_VDD2_1V8AO: not both)",
        "power mode 0, MAXN (nvpmodel)",
        "clocks move with load; sudo jetson_clocks fixes them; the GPU's from 306 to 1300.5 MHz",
    ]


def test_a_sum_of_rails_is_total_where_the_option_says_so(
    jetson: ModuleType, board: Callable[[str], Path]
) -> None:
    wanted = ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]
    channels, notes = opened(jetson, board("agx-orin"), total=wanted)
    assert [n for n, c in channels.items() if c["total"]] == [f"ina3221.{n}" for n in wanted]
    assert not any(note.startswith("no total") for note in notes)


@pytest.mark.parametrize(
    ("name", "total", "pair"),
    [
        ("agx-orin", ["VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"], ("VIN_SYS_5V0", "VDDQ")),
        ("orin-nano", ["VDD_IN", "VDD_SOC"], ("VDD_IN", "VDD_SOC")),
        ("nano", ["POM_5V_CPU", "POM_5V_IN"], ("POM_5V_IN", "POM_5V_CPU")),
        ("thor", ["VIN", "VDD_GPU"], ("VIN", "VDD_GPU")),
    ],
)
def test_no_rail_is_counted_twice(
    jetson: ModuleType,
    board: Callable[[str], Path],
    name: str,
    total: list[str],
    pair: tuple[str, str],
) -> None:
    with pytest.raises(jetson.BadInput, match=f"twice: {pair[0]} feeds {pair[1]}") as caught:
        opened(jetson, board(name), total=total)
    assert caught.value.hint == "Name only one of the two."


def test_thor_has_its_input_measured_and_no_carrier_beside_it(
    jetson: ModuleType, board: Callable[[str], Path]
) -> None:
    root = board("thor")
    _, notes = opened(jetson, root)
    assert notes == [
        "power mode 1, 120W (nvpmodel)",
        "clocks move with load; sudo jetson_clocks fixes them; the GPU's from 315 to 1575 MHz",
        NO_EMC.format(root),
    ]


def test_a_rail_that_may_not_be_read_is_told_with_the_remedy(
    jetson: ModuleType, board: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = board("nano")
    folder = root / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    read_text = Path.read_text
    denied = {"in_power0_input"}

    def read(path: Path, *args: Any, **kwargs: Any) -> str:
        if path.name in denied:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read)
    channels, notes = opened(jetson, root)
    assert "ina3221.POM_5V_IN" not in channels
    assert notes[0] == (
        "ina3221 POM_5V_IN left out: permission denied (sudo chmod a+r"
        f" {folder / 'in_power0_input'})"
    )
    assert notes[1].startswith("no total: no sensor is known")
    denied |= {"in_power1_input", "in_power2_input"}
    with pytest.raises(
        jetson.Missing, match=r"POM_5V_IN: permission denied \(sudo chmod"
    ) as caught:
        opened(jetson, root)
    assert caught.value.hint == "Run as a user who may read these files."


def test_the_power_mode_is_asked_of_nvpmodel_itself_where_it_is(
    jetson: ModuleType,
    board: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    root = board("xavier-nx")
    program = tmp_path / "bin" / "nvpmodel"
    program.parent.mkdir()
    lines = "print('NV Fan Mode:quiet'); print('NV Power Mode: MODE_10W_DESKTOP'); print(5)"
    program.write_text(f"#!{sys.executable}\n{lines}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    facts = jetson.open({"root": str(root)})["facts"]
    assert (facts["power_mode"], facts["power_mode_id"]) == ("MODE_10W_DESKTOP", 5)
    program.write_text(f"#!{sys.executable}\nraise SystemExit(1)\n")
    facts = jetson.open({"root": str(root)})["facts"]
    assert (facts["power_mode"], facts["power_mode_id"]) == ("MODE_15W_6CORE", 2)


def test_over_current_throttling_is_told_at_the_end(
    jetson: ModuleType, board: Callable[[str], Path]
) -> None:
    root = board("orin-nano")
    opened(jetson, root)
    (root / "sys/class/hwmon/hwmon2/oc3_event_cnt").write_text("29\n")
    assert jetson.close() == {"notes": ["throttled by over-current 12 times (oc3)"]}
    assert jetson.close() == {"notes": []}


def test_a_zone_that_wakes_up_is_read(
    jetson: ModuleType, board: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = board("thor")
    channels, _ = opened(jetson, root)
    assert readings(jetson, channels)["gpu-thermal"] is None
    monkeypatch.undo()
    (root / "sys/class/thermal/thermal_zone2/temp").write_text("58250\n")
    for slow in jetson._boards[0].gauges:
        slow.due = 0.0
    assert readings(jetson, channels)["gpu-thermal"] == 58.25


def test_rails_that_the_device_tree_disables_are_passed_over(
    jetson: ModuleType, tree: Callable[[dict[str, str | int]], Path]
) -> None:
    """As Linux shows the second monitor of AGX Orin: no label, and reading gives an error."""
    folder = "class/hwmon/hwmon4"
    root = tree(
        {
            f"{folder}/name": "ina3221",
            f"{folder}/in1_enable": 0,
            f"{folder}/in1_input": "",
            f"{folder}/curr1_input": "",
            f"{folder}/in2_label": "VDDQ_VDD2_1V8AO",
            f"{folder}/in2_enable": 1,
            f"{folder}/in2_input": 19064,
            f"{folder}/curr2_input": 21,
        }
    )
    channels, notes = opened(jetson, root.parent)
    assert list(channels) == ["ina3221.VDDQ_VDD2_1V8AO"]
    assert not any("left out" in note for note in notes)


def test_another_machine_is_missing_what_a_jetson_has(jetson: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "sys" / "class" / "hwmon").mkdir(parents=True)
    with pytest.raises(jetson.Missing, match="no power monitor of a Jetson") as caught:
        opened(jetson, tmp_path)
    assert "hwmon" in caught.value.hint


@pytest.mark.parametrize("options", [{"total": "VDD_IN"}, {"sysfs": "/sys"}])
def test_options_are_checked(
    jetson: ModuleType, board: Callable[[str], Path], options: dict[str, Any]
) -> None:
    with pytest.raises(jetson.BadInput, match=next(iter(options))) as caught:
        opened(jetson, board("nano"), **options)
    assert caught.value.hint
