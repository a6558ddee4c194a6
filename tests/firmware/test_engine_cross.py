"""The engine builds for both kinds of boards, without warnings and without floating point."""

import re
import shutil
import subprocess
from pathlib import Path

import engine_host as host
import pytest

BOARDS = {
    "xtensa-lx106-elf-": ["-mtext-section-literals"],
    "riscv64-unknown-elf-": ["-march=rv32imac", "-mabi=ilp32", "-misa-spec=2.2"],
}
# names of libgcc's routines on float, double and between them and whole numbers
SOFT_FLOAT = re.compile(r"__\w*(sf|df)(\d|[sdt]i|$)|__(float|fix)\w*")
# what a port has to bring where the compiler's library lacks it
WHOLE = {"__muldi3", "__udivsi3", "__umodsi3", "__divsi3", "__modsi3"}
LIBRARY = {"memcpy", "memset", "strlen", "memmove", "memcmp"}
SHIFTS = {"__ashldi3", "__ashrdi3", "__lshrdi3"}


@pytest.mark.parametrize("prefix", BOARDS)
def test_the_engine_needs_no_float_and_no_library(prefix: str, tmp_path: Path) -> None:
    compiler = shutil.which(f"{prefix}gcc")
    if compiler is None:
        pytest.skip(f"{prefix}gcc is not here")
    sources = sorted((host.FIRMWARE / "engine").glob("*.c"))
    command = [compiler, *BOARDS[prefix], "-std=c11", "-Wall", "-Wextra", "-Werror", "-O2"]
    command += ["-ffreestanding", f"-I{host.FIRMWARE}", "-c", *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    needed, made = set(), set()
    for built in tmp_path.glob("*.o"):
        listed = subprocess.run(
            [f"{prefix}nm", str(built)], capture_output=True, text=True, check=True
        )
        for line in listed.stdout.splitlines():
            kind, name = line.split()[-2:]
            (needed if kind == "U" else made).add(name)
    missing = needed - made
    assert not [name for name in missing if SOFT_FLOAT.fullmatch(name)]
    assert missing <= WHOLE | LIBRARY | SHIFTS
