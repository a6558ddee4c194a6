"""A stand-in for esptool 5: its flash is a file, it refuses what the real one refuses, and fails.

FAKE_BOARD is a folder: `flash.bin` is the flash, `script` holds one word a line, taken by one call
each (`ok` or a fault), `calls` gets the arguments of every call.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

BOARD = Path(os.environ["FAKE_BOARD"])
CHIP = "ESP32-S3"
COMMANDS = {"verify-flash": set(), "write-flash": {"--no-progress"}}
RESETS = {
    "--before": {"default-reset", "usb-reset", "no-reset", "no-reset-no-sync"},
    "--after": {"hard-reset", "soft-reset", "no-reset", "no-reset-stub", "watchdog-reset"},
}
FATAL = {
    "no_boot": f"Failed to connect to {CHIP}: No serial data received.\nFor troubleshooting steps",
    "wrong_mode": f"Failed to connect to {CHIP}: Wrong boot mode detected (0x28)! The chip needs",
    "busy": "Could not open /dev/x, the port is busy or doesn't exist.\n([Errno 11] Could not"
    " exclusively lock port /dev/x: [Errno 11] Resource temporarily unavailable)",
    "permission": "Could not open /dev/x, the port is busy or doesn't exist.\n([Errno 13] could not"
    " open port /dev/x: [Errno 13] Permission denied: '/dev/x')",
    "gone": "Could not open /dev/x, the port is busy or doesn't exist.\n([Errno 2] could not open"
    " port /dev/x: [Errno 2] No such file or directory: '/dev/x')",
    "other_chip": f"This chip is ESP32-C3, not {CHIP}. Wrong chip argument?",
    "noise": "Serial data stream stopped: Possible serial noise or corruption.",
    "md5": "MD5 of file does not match data in flash!",
    "locked": "The 'verify-flash' command is not available in Secure Download Mode.",
    "odd": "Something nobody has seen.",
}


def die(text: str, code: int = 2) -> None:
    sys.stderr.write(f"\nERROR: A fatal error occurred: {text}\n")
    sys.exit(code)


def usage(text: str) -> None:
    sys.stderr.write(f" Usage: esptool [OPTIONS] COMMAND\n╭─ Error ─╮\n│ {text} │\n")
    sys.exit(2)


def parsed(words: list[str]) -> tuple[dict[str, str], str, list[tuple[int, Path]]]:
    options: dict[str, str] = {}
    while words and words[0].startswith("--"):
        name = words.pop(0)
        if name not in {"--chip", "--port", "--baud", *RESETS}:
            usage(f"No such option: {name}")
        options[name] = words.pop(0)
        if options[name] not in RESETS.get(name, {options[name]}):
            usage(f"Invalid value for '{name}': '{options[name]}' is not one of")
    if missing := {"--chip", "--port", "--baud"} - options.keys():
        usage(f"Missing option {missing}")
    if options["--chip"] != "esp32s3":
        usage(f"Invalid value for '--chip' / '-c': '{options['--chip']}' is not one of 'auto'")
    command = words.pop(0)
    if command not in COMMANDS:
        usage(f"No such command '{command}'.")
    while words and words[0].startswith("--"):
        if words.pop(0) not in COMMANDS[command]:
            usage("No such option")
    if not words or len(words) % 2:
        usage("Must be pairs of an address and the binary filename to write there.")
    pairs = []
    for address, name in zip(words[::2], words[1::2], strict=True):
        if not address.startswith("0x"):
            usage(f'Address "{address}" must be a number.')
        pairs.append((int(address, 16), Path(name)))
    return options, command, pairs


def next_fault() -> str:
    script = BOARD / "script"
    lines = script.read_text().split() if script.exists() else []
    script.write_text("\n".join(lines[1:]))
    return lines[0] if lines else "ok"


def main() -> None:
    words = sys.argv[1:]
    with (BOARD / "calls").open("a") as file:
        file.write(json.dumps(words) + "\n")
    options, command, pairs = parsed(words)
    print("esptool v5.6.0")
    print(f"Serial port {options['--port']}:\nConnecting...\nConnected to {CHIP}:", flush=True)
    fault = next_fault()
    if fault == "stall":
        time.sleep(60)
    if fault == "serial":
        sys.stderr.write("\nERROR: A serial exception error occurred: device reports readiness to")
        sys.exit(1)
    if fault in FATAL:
        die(FATAL[fault])
    flash = bytearray((BOARD / "flash.bin").read_bytes())
    for address, name in pairs:
        size = name.stat().st_size
        if address + size > len(flash):
            die(
                f"File '{name}' (length {size}) at offset {address:#010x} will not fit in"
                f" {len(flash)} bytes of flash. Change the flash_size argument or address."
            )
    (write if command == "write-flash" else verify)(flash, pairs, fault)
    if fault == "forgets":
        (BOARD / "flash.bin").write_bytes(b"\xff" * len(flash))


def padded(name: Path) -> bytes:
    data = name.read_bytes()
    return data + b"\xff" * (-len(data) % 4)


def write(flash: bytearray, pairs: list[tuple[int, Path]], fault: str) -> None:
    for address, name in pairs:
        data = padded(name)
        cut = len(data) // 2 if fault == "cut" else len(data)
        flash[address : address + cut] = data[:cut]
        (BOARD / "flash.bin").write_bytes(flash)
        if fault == "cut":
            die("The chip stopped responding.")
        print(f"Wrote {len(data)} bytes at {address:#010x}.\nHash of data verified.")


def verify(flash: bytearray, pairs: list[tuple[int, Path]], fault: str) -> None:
    differs = False
    for address, name in pairs:
        data = padded(name)
        print(f"Verifying {len(data):#x} ({len(data)}) bytes at {address:#010x} in flash against")
        print(f"'{name}'...")
        there = hashlib.md5(flash[address : address + len(data)]).digest()
        if fault == "mute":
            continue
        if there == hashlib.md5(data).digest():
            print("Verification successful (digest matched).")
        else:
            differs = True
            print("Verification failed (digest mismatch).")
    if differs:
        die("Verification failed.")


main()
