"""The log of Hailo's SDK: its lines read for what was really done, and kept while it is printed."""

import subprocess
import sys
from pathlib import Path

import hailo_networks as nets
import pytest
from hailo_networks import dfc_log

NO_GPU = (
    "[warning] Reducing optimization level to 0 (the accuracy won't be optimized and compression"
    " won't be used) because there's no available GPU"
)
FEW = (
    "[warning] Reducing optimization level to 0 (the accuracy won't be optimized and compression"
    " won't be used) because there's less data than the recommended amount (1024), and there's no"
    " available GPU"
)
ZERO = (
    "[warning] Running model optimization with zero level of optimization is not recommended for"
    " production use and might lead to suboptimal accuracy results"
)
COMPRESSION = (
    "Reducing compression level to 0 because requested optimization level equal or less than 1"
)
ASKED = {"optimization_level": 2, "compression_level": 0}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (NO_GPU, "there's no available GPU"),
        (
            FEW,
            "there's less data than the recommended amount (1024), and there's no available GPU",
        ),
        ("\x1b[33m" + NO_GPU + "\x1b[0m", "there's no available GPU"),
    ],
)
def test_a_level_that_was_taken_back_is_told_with_the_reason(line: str, why: str) -> None:
    found = dfc_log.optimization(f"{line}\n{ZERO}\n", ASKED, 1024)
    assert found["optimization_level"] == 0
    assert found["downgrades"] == [f"optimization level 2 asked for, 0 done: {why}"]
    assert found["warnings"] == [ZERO.removeprefix("[warning] ")]


def test_a_default_below_the_level_expected_is_told() -> None:
    found = dfc_log.optimization("[info] Using default optimization level of 1\n", ASKED, 1024)
    assert found["optimization_level"] == 1
    assert found["downgrades"] == ["optimization level 2 asked for, 1 done"]


def test_a_compression_that_was_taken_back_is_told_where_it_was_asked_for() -> None:
    asked = {"optimization_level": 1, "compression_level": 1}
    found = dfc_log.optimization(COMPRESSION, asked, 1024)
    assert found["compression_level"] == 0
    assert found["downgrades"] == [
        "compression level 1 asked for, 0 done: requested optimization level equal or less than 1"
    ]
    none = dfc_log.optimization(COMPRESSION, ASKED, 1024)
    assert none["downgrades"] == []


@pytest.mark.parametrize(
    ("level", "skipped", "told"),
    [
        (1, "Bias Correction", ["optimization level 1 asked for, Bias Correction skipped"]),
        (2, "Bias Correction", []),
        (2, "Finetune encoding", []),
        (
            2,
            "Quantization-Aware Fine-Tuning",
            ["optimization level 2 asked for, Quantization-Aware Fine-Tuning skipped"],
        ),
        (3, "Adaround", ["optimization level 3 asked for, Adaround skipped"]),
        (0, "Adaround", []),
    ],
)
def test_an_algorithm_of_the_level_that_was_skipped_is_told(
    level: int, skipped: str, told: list[str]
) -> None:
    asked = {"optimization_level": level, "compression_level": 0}
    found = dfc_log.optimization(f"[info] {skipped} skipped\n", asked, 64)
    assert found["downgrades"] == told
    assert found["skipped"] == [skipped]


def test_steps_entries_and_the_default_level_are_read() -> None:
    text = "\n".join(
        [
            "[info] Using default optimization level of 2",
            "[info] Using dataset with 64 entries for calibration",
            "Calibration:  50%|█████     | 32/64\rCalibration: 100%|██████████| 64/64",
            "[info] Model Optimization Algorithm Statistics Collector is done"
            " (completion time is 00:01:16.59)",
            "[info] Mixed Precision is done (completion time is 01:00:00.60)",
            "[info] Using dataset with 4000 entries for finetune",
            "[error] Failed to produce compiled graph",
        ]
    )
    found = dfc_log.optimization(text, ASKED, 1024)
    assert found["steps"] == [
        {"name": "Statistics Collector", "time_s": 76.59},
        {"name": "Mixed Precision", "time_s": 3600.6},
    ]
    assert found["calibset_size"] == 64
    assert found["downgrades"] == ["1024 calibration samples asked for, 64 used"]
    assert found["warnings"] == ["Failed to produce compiled graph"]
    assert dfc_log.warned(text) == []


PRINTS = """
import ctypes, logging, os, pathlib, subprocess, sys
sys.path.append(sys.argv[1])
import dfc_log
logging.basicConfig(stream=sys.stderr, format="[%(levelname)s] %(message)s")
print("before", flush=True)
capture = dfc_log.Capture(pathlib.Path(sys.argv[2]))
with capture:
    print("by print")
    logging.warning("by logging")
    os.write(1, b"by the system\\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"by C")
    libc.fflush(None)
    subprocess.run(["sh", "-c", "echo by another process >&2"], check=True)
    held = capture.text()
print("after", flush=True)
assert "by print" in held and "after" not in held
if sys.argv[3] == "die":
    with dfc_log.Capture(pathlib.Path(sys.argv[2])):
        print("last words", flush=True)
        import time; time.sleep(1)
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("end", ["leave", "die"])
def test_all_that_is_printed_is_kept_and_still_reaches_the_log(tmp_path: Path, end: str) -> None:
    path = tmp_path / "log.txt"
    folder = str(nets.PROGRAM.with_suffix(""))
    done = subprocess.run(
        [sys.executable, "-c", PRINTS, folder, str(path), end],
        capture_output=True,
        text=True,
        check=False,
    )
    said = ["by print", "[WARNING] by logging", "by the system", "by C", "by another process"]
    kept = path.read_text(encoding="utf-8").splitlines()
    assert sorted(kept) == sorted([*said, *(["last words"] if end == "die" else [])])
    assert done.stdout.splitlines() == ["before", "after"]
    assert sorted(done.stderr.splitlines()) == sorted(kept)
    assert done.returncode == (-9 if end == "die" else 0)
