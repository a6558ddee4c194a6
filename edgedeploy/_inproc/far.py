"""The far end of a session: sent over ssh into a Python there, it keeps files or serves a program.

Standard library only, Python 3.8 and later; this one file parses on 3.5, to tell an older Python
so. Its neighbours named far_* are sent along. What it says itself are JSON lines behind CONTROL,
so that neither a login script's greeting nor half a line of a program is taken for them.
"""

import hashlib
import json
import os
import platform
import signal
import socket
import sys
from typing import Any, Dict, Iterator

CONTROL = b"\x18"
# A line of this alone: end what is being served, at once.
END = b"\x04"
OLDEST = (3, 8)
BLOCK = 1 << 18
MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")


class Gone(Exception):
    """The one who asked is not there any more."""


def say(message: Dict[str, Any]) -> None:
    """A line of our own, whatever was left unfinished before it."""
    write(b"\n" + CONTROL + json.dumps(message).encode() + b"\n")


def write(data: bytes) -> None:
    """All of `data` to the one who asked; `Gone` where nobody reads."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(1, view) :]
        except OSError:
            raise Gone from None


def check_python() -> None:
    """Say so and leave where this Python is older than what comes next can be run with."""
    if sys.version_info < OLDEST:
        say({"old": platform.python_version()})
        sys.exit(0)


def read_text(*paths: str) -> str:
    """The stripped text of the first of these small files there is, else nothing."""
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read().strip()
        except OSError:
            continue
    return ""


def user_name(uid: int) -> str:
    """The name of a user, or its number."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def hello() -> Dict[str, Any]:
    """What this host is; `boot` changes with each start of it, `machine_id` never."""
    known = read_text(*MACHINE_IDS)
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "host": socket.gethostname(),
        # as machine-id(5) asks for: not the id itself
        "machine_id": hashlib.sha256(b"edgedeploy " + known.encode()).hexdigest() if known else "",
        "boot": read_text("/proc/sys/kernel/random/boot_id"),
        "user": user_name(os.getuid()),
        "home": os.path.expanduser("~"),
        "pid": os.getpid(),
    }


class Source:
    """What the one who asked sends; blank lines say no more than that it is there.

    `silence_s` without any progress ends this process: the kernel does it, wherever we stand.
    """

    def __init__(self) -> None:
        self.rest = bytearray()
        self.silence_s = 0.0

    def alive(self) -> None:
        """There was progress."""
        signal.setitimer(signal.ITIMER_REAL, self.silence_s)

    def take(self) -> None:
        block = os.read(0, BLOCK)
        if not block:
            raise Gone
        self.alive()
        self.rest += block

    def line(self) -> bytes:
        """The next line that is not blank, without its end."""
        while True:
            end = self.rest.find(b"\n")
            if end < 0:
                self.take()
                continue
            found = bytes(self.rest[:end])
            del self.rest[: end + 1]
            if found == END:
                raise Gone
            if found:
                return found

    def chunks(self) -> "Iterator[bytes]":
        """Counted bytes, as they come: a line with their number before each lot, 0 at the end."""
        while True:
            left = int(self.line())
            if left == 0:
                return
            while left:
                if not self.rest:
                    self.take()
                block = bytes(self.rest[:left])
                del self.rest[: len(block)]
                left -= len(block)
                yield block


def main() -> None:
    """Say who we are, take the one order, and do that until the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    say({"hello": hello()})
    source = Source()
    source.silence_s = 60.0
    source.alive()
    code = 0
    try:
        order = json.loads(source.line().decode())
        source.silence_s = order["silence_s"]
        source.alive()
        if order["role"] == "serve":
            from edgedeploy._inproc.far_serve import serve

            code = serve(order, source)
        elif order["role"] == "keep":
            from edgedeploy._inproc.far_keep import keep

            keep(order, source)
    except Gone:
        code = 3
    except OSError as err:  # the folder cannot be written to
        say({"failed": "%s: %s" % (err.filename or "", err.strerror or err)})
    # whatever still runs in a thread has nobody to work for
    sys.stderr.flush()
    os._exit(code)
