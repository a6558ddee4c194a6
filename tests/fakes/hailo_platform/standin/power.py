"""The made-up power sensor of a chip: windows of samples, as the firmware takes them."""

import math
import time
from types import SimpleNamespace

from hailo_platform.standin.chip import operate
from hailo_platform.standin.status import fail

PERIODS_US = (140, 204, 332, 588, 1100, 2116, 4156, 8244)
FACTORS = (1, 4, 16, 64, 128, 256, 512, 1024)
SUPPLY_V = 3.3
SHUNT_OHM = 0.01
# the made-up samples lie this far around the state's power
SPREAD = 0.02
# chips keep their windows between the objects that stand for them
_windows = {}
NOTHING = {"since": None, "delay_s": 0.0, "taken": 0, "lost": 0}


def single(chip, rail, quantity):
    """One reading: W, mV or mA by its quantity."""
    operate(chip, 9)
    measurable(chip, rail, quantity)
    return value(chip, quantity)


def choose(chip, buffer, rail, quantity):
    """Say what a buffer of the firmware is to hold."""
    operate(chip, 10)
    measurable(chip, rail, quantity)
    window = _windows.setdefault(chip.id, SimpleNamespace(**NOTHING, buffers={}))
    window.buffers[buffer] = quantity


def start(chip, factor, period_us):
    """Begin to sample; refused where nothing was chosen, or sampling already runs."""
    operate(chip, 12)
    window = _windows.get(chip.id)
    if window is None or not window.buffers or window.since is not None:
        refuse("start_power_measurement")
    # the firmware looks at the sensor this often, in whole milliseconds
    window.delay_s = max(1, int(period_us / 1000 * factor * 2 * 1.2)) / 1000
    window.since = time.monotonic()


def result(chip, buffer, should_clear):
    """What was sampled since the start or the last clear; nothing once stopped."""
    operate(chip, 11)
    sensor(chip)
    window = _windows.get(chip.id)
    if window is None or buffer not in window.buffers or window.since is None:
        return data(0.0, 0.0, 0)
    now = time.monotonic()
    taken = math.floor((now - window.since) / window.delay_s)
    lost = math.floor((window.taken + taken) * chip.power_samples_lost) - window.lost
    if should_clear:  # the firmware's own timer goes on
        window.since += taken * window.delay_s
        window.taken += taken
        window.lost += lost
    return data(value(chip, window.buffers[buffer]), window.delay_s * 1000, taken - lost)


def window_of(chip, buffer, seconds):
    """What a window of so many seconds holds, however long it took here."""
    window = _windows[chip.id]
    count = math.floor(seconds / window.delay_s)
    return data(value(chip, window.buffers[buffer]), window.delay_s * 1000, count)


def stop(chip):
    """End sampling; what was sampled and chosen is gone."""
    operate(chip, 13)
    sensor(chip)
    _windows.pop(chip.id, None)


def data(average, delay_ms, count):
    """The firmware's answer: zeros where it took no sample."""
    spread = SPREAD if count > 1 else 0.0
    shown = average if count else 0.0
    return SimpleNamespace(
        average_value=shown,
        average_time_value_milliseconds=delay_ms if count else 0.0,
        min_value=shown * (1 - spread),
        max_value=shown * (1 + spread),
        total_number_of_samples=count,
    )


def value(chip, quantity):
    """The state's power, or what would follow from it on a 3.3 V supply."""
    current_a = chip.power_w / SUPPLY_V
    return {
        "AUTO": chip.power_w,
        "POWER": chip.power_w,
        "CURRENT": current_a * 1000,
        "BUS_VOLTAGE": SUPPLY_V * 1000,
        "SHUNT_VOLTAGE": current_a * SHUNT_OHM * 1000,
    }[quantity]


def measurable(chip, rail, quantity):
    """Modules have one sensor, evaluation boards one a rail and their sum as power only."""
    sensor(chip)
    own = "AUTO" if chip.evaluation_board else "OVERCURRENT_PROTECTION"
    modules_own = rail == "OVERCURRENT_PROTECTION"
    if rail not in ("AUTO", own) and (modules_own or not chip.evaluation_board):
        refuse(f"power measurement of {rail}")
    if chip.evaluation_board and rail == "AUTO" and quantity not in ("AUTO", "POWER"):
        refuse(f"power measurement of {quantity} over all rails")


def sensor(chip):
    """Refuse where the board has no sensor."""
    if not (chip.power_sensor or chip.evaluation_board):
        refuse("power measurement: this board has no sensor")


def refuse(what):
    """The firmware says no, and the library passes it on."""
    fail("HAILO_FW_CONTROL_FAILURE", f"Failed in fw_control: {what}")
