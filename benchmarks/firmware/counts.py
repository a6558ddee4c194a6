"""Instructions for one int8 product on the two emulated boards, plain loops and our kernels.

Emulated: exact counts of executed instructions, and no time. Bit-exact or it fails. Limits, with
weights that lie as trained ones do: 5.5 and 8 on lx106, 4.5 and 7 on rv32imac.

    python benchmarks/firmware/counts.py [--output FILE] [--board lx106|rv32imac]
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from boards import BOARDS, build, kernel_bytes, missing, run

LIMITS = {
    ("lx106", "conv"): 5.5,
    ("lx106", "net"): 8.0,
    ("rv32imac", "conv"): 4.5,
    ("rv32imac", "net"): 7.0,
}


@dataclass(frozen=True)
class Count:
    """One line of the program: a network or a part of it."""

    net: str
    weights: str
    part: str
    macs: int
    plain: int
    kernels: int
    packed_bytes: int
    scratch_bytes: int
    different: int
    crc: int

    @classmethod
    def of(cls, line: str) -> "Count":
        """From `count NET WEIGHTS PART` and seven numbers."""
        words = line.split()
        return cls(words[1], words[2], words[3], *(int(word) for word in words[4:]))


def argument(name: str, default: str) -> str:
    """`--name value` of this program's command line."""
    option = f"--{name}"
    return sys.argv[sys.argv.index(option) + 1] if option in sys.argv else default


def measured(name: str, folder: Path) -> tuple[int, list[Count]]:
    """Bytes of kernel code and all counts of one board."""
    board = BOARDS[name]
    elf = build(board, "bench", folder)
    lines = run(board, elf, 300)
    counts = [Count.of(line) for line in lines if line.startswith("count ")]
    return kernel_bytes(board, folder), counts


def row(board: str, code_bytes: int, count: Count) -> dict[str, object]:
    """One line of the output."""
    return {
        "benchmark": "firmware_counts",
        "source": "emulated",
        "board": board,
        "net": count.net,
        "weights": count.weights,
        "part": count.part,
        "macs": count.macs,
        "instructions_plain": count.plain,
        "instructions": count.kernels,
        "per_mac_plain": round(count.plain / count.macs, 2) if count.macs else None,
        "per_mac": round(count.kernels / count.macs, 2) if count.macs else None,
        "limit_per_mac": LIMITS[(board, count.net)] if count.part == "all" else None,
        "packed_bytes": count.packed_bytes,
        "scratch_bytes": count.scratch_bytes,
        "kernel_code_bytes": code_bytes,
        "crc32": f"{count.crc:08x}",
        "bit_exact": count.different == 0,
    }


def wrong(counts: dict[str, list[Count]]) -> list[str]:
    """What is not as it must be: each a sentence."""
    found = []
    for board, of_board in counts.items():
        for count in of_board:
            name = f"{board} {count.net} {count.weights} {count.part}"
            limit = LIMITS[(board, count.net)]
            if count.different:
                found.append(f"{name}: {count.different} outputs differ from the plain loops'")
            if count.part == "all" and count.kernels > limit * count.macs:
                found.append(f"{name}: over {limit} instructions for a product")
    crcs = [[count.crc for count in of_board] for of_board in counts.values()]
    if any(one != crcs[0] for one in crcs):
        found.append("the boards' outputs are not the same")
    return found


def main() -> None:
    """Print a JSON line for each board, network and part; fail where a limit is missed."""
    only = argument("board", "")
    output = argument("output", "")
    rows: list[dict[str, object]] = []
    counts: dict[str, list[Count]] = {}
    for name, board in BOARDS.items():
        absent = missing(board)
        if absent is not None:
            sys.exit(f"{absent} is not here: make toolchain")
        if only in ("", name):
            with tempfile.TemporaryDirectory() as folder:
                code_bytes, counts[name] = measured(name, Path(folder))
            rows += [row(name, code_bytes, count) for count in counts[name]]
    text = "".join(json.dumps(one) + "\n" for one in rows)
    sys.stdout.write(text)
    if output:
        Path(output).write_text(text, encoding="utf-8")
    found = wrong(counts)
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
