"""An emulator's stand-in: takes the sockets as QEMU does, refuses what it refuses, misbehaves.

The machine (-M) says how: `good`, `silent`, `dies` (once it is up), `hangs_up`. On the serial line
`?` is answered by the address and SHA-256 of what was loaded.
"""

import hashlib
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

ONE_VALUE = {
    *("-M", "-cpu", "-display", "-monitor", "-parallel", "-nic", "-icount", "-kernel"),
    *("-device", "-chardev", "-serial", "-gdb"),
}
MACHINES = ("good", "silent", "dies", "hangs_up")


def refuse(text: str) -> None:
    sys.stderr.write(f"qemu-system-fake: {text}\n")
    sys.exit(1)


def fields(text: str) -> dict[str, str]:
    """Options as QEMU splits them: a doubled comma is one, and separates nothing."""
    whole = text.replace(",,", "\0")
    pairs = [word.partition("=") for word in whole.split(",")]
    return {key: value.replace("\0", ",") for key, _, value in pairs}


def main() -> None:
    words = sys.argv[1:]
    if words == ["--version"]:
        sys.stdout.write("QEMU emulator version 0.0 (fake)\nand more\n")
        return
    given: dict[str, list[str]] = {}
    while words:
        name = words.pop(0)
        if name not in ONE_VALUE:
            refuse(f"{name}: invalid option")
        given.setdefault(name, []).append(words.pop(0))
    machine = given["-M"][0]
    if machine not in MACHINES:
        refuse(f"unsupported machine type\nqemu-system-fake: -M {machine}: not this one")
    if given["-icount"] != ["shift=0,sleep=off"] or not Path(given["-kernel"][0]).is_file():
        refuse("counts or kernel")
    loader = fields(given["-device"][0])
    if not Path(loader["file"]).is_file() or loader["force-raw"] != "on":
        refuse(f"Cannot load specified image {loader['file']}")
    line, probe = (fields(text) for text in given["-chardev"])
    if (line["id"], line["wait"], probe["id"], probe["wait"]) != ("line", "on", "probe", "off"):
        refuse("chardev")
    if given["-serial"] != ["chardev:line"] or given["-gdb"] != ["chardev:probe"]:
        refuse("nobody uses the chardevs")
    for chardev in (line, probe):
        if not os.get_inheritable(int(chardev["fd"])):
            refuse("not a descriptor of mine")
    run(machine, loader, socket.socket(fileno=int(line["fd"])))


def run(machine: str, loader: dict[str, str], listening: socket.socket) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stderr.write("qemu-system-fake: info: QEMU waiting for connection on: tcp\n")
    first, _ = listening.accept()
    digest = hashlib.sha256(Path(loader["file"]).read_bytes()).hexdigest()
    if machine == "hangs_up":
        first.close()
        sys.stderr.write("qemu-system-fake: lost it\n")
        time.sleep(1)
        os._exit(4)
    if machine == "silent":
        first.sendall(b"m-init")
        time.sleep(600)
    first.sendall(b"m-init-done\r\nm-re")
    time.sleep(0.05)
    first.sendall(b"ady\r\n")
    if machine == "dies":
        threading.Timer(0.2, lambda: (sys.stderr.write("fake: CPU lost\n"), os._exit(3))).start()
    client = first
    while True:
        block = client.recv(100)
        if not block:
            client, _ = listening.accept()
        elif block == b"?":
            client.sendall(f"{loader['addr']} {digest}\r\n".encode())


main()
