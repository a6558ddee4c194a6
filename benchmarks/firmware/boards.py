"""The two emulated boards: build a program of this folder for one, run it, give its lines."""

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIRMWARE = HERE.parent.parent / "firmware"
KERNELS = ("conv.c", *sorted(path.name for path in (FIRMWARE / "engine").glob("kernels_*.c")))


@dataclass(frozen=True)
class Board:
    """One port of the firmware and the emulator's command for it."""

    port: str
    compiler: str
    size: str
    emulator: tuple[str, ...]


BOARDS = {
    "lx106": Board(
        "qemu-xtensa",
        "xtensa-lx106-elf-gcc",
        "xtensa-lx106-elf-size",
        ("qemu-system-xtensa", "-M", "lx60-nommu", "-cpu", "lx106"),
    ),
    "rv32imac": Board(
        "qemu-riscv",
        "riscv64-unknown-elf-gcc",
        "riscv64-unknown-elf-size",
        ("qemu-system-riscv32", "-M", "virt", "-cpu", "rv32", "-m", "256M", "-bios", "none"),
    ),
}


def missing(board: Board) -> str | None:
    """The first program that building or running for `board` lacks."""
    programs = ("make", board.compiler, board.emulator[0])
    return next((program for program in programs if shutil.which(program) is None), None)


def build(board: Board, program: str, folder: Path) -> Path:
    """The program `program`.c of this folder with the kernels and the port, as an ELF file."""
    ours = [f"engine/{name}" for name in KERNELS] + ["core/print.c", "core/crc32.c"]
    ours += [f"../benchmarks/firmware/{name}.c" for name in (program, "layers", "plain")]
    port = sorted((FIRMWARE / "ports" / board.port).glob("*.c"))
    port += sorted((FIRMWARE / "ports" / "bare").glob("*.c"))
    sources = [*ours, *(str(path.relative_to(FIRMWARE)) for path in port)]
    command = ["make", "-C", str(FIRMWARE), f"PORT={board.port}", f"BUILD={folder}"]
    done = subprocess.run(
        [*command, f"SOURCES={' '.join(sources)}"], check=False, capture_output=True, text=True
    )
    if done.returncode:
        message = f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}"
        raise RuntimeError(message)
    return folder / "firmware.elf"


def kernel_bytes(board: Board, folder: Path) -> int:
    """Code and constants of the kernels alone, from their object files in `folder`."""
    objects = [str(folder / f"engine-{name.removesuffix('.c')}.o") for name in KERNELS]
    done = subprocess.run([board.size, *objects], check=True, capture_output=True, text=True)
    return sum(int(line.split()[0]) for line in done.stdout.splitlines()[1:])


def run(board: Board, elf: Path, timeout_s: float) -> list[str]:
    """What the program printed before its line `end`; an instruction takes one counted step."""
    command = [
        *board.emulator,
        *("-display", "none", "-monitor", "none", "-serial", "stdio"),
        *("-icount", "shift=0,sleep=off", "-kernel", str(elf)),
    ]
    lines: list[str] = []
    deadline = time.monotonic() + timeout_s
    with subprocess.Popen(
        ["timeout", str(timeout_s), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.strip() == "end":
                    return lines
                lines.append(line.strip())
        finally:
            process.terminate()
    reason = "time ran out" if time.monotonic() >= deadline else f"code {process.returncode}"
    message = f"{board.emulator[0]} ended early ({reason}); it printed {lines[-3:]}"
    raise RuntimeError(message)
