"""python supervise.py COMMAND...: run a command that ends when our stdin closes.

Standard library only. Whoever started this may end in any way: its end of the pipe closes, and the
command is killed. Where this process is killed itself, Linux ends the command. Descriptors that
this process was given are handed down.
"""

import ctypes
import os
import select
import signal
import sys
from pathlib import Path
from typing import NoReturn

PR_SET_PDEATHSIG = 1
# How often to see whether whoever started this is still there: a fork of it may hold the pipe.
LOOK_S = 1.0
NOT_STARTED = 127


def main() -> int:
    """Serve one command; its exit code, 128 + N where signal N ended it."""
    own, owner = os.getpid(), os.getppid()
    numbers = [int(path.name) for path in Path("/dev/fd").iterdir()]
    handed_down = [number for number in numbers if inheritable(number)]
    # a child's end, or a signal to us, shows as a byte in this pipe
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    told: list[int] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda number, _: told.append(number))
    # Ctrl-C is for the one who asked, who decides by closing stdin
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    library = ctypes.CDLL(None)
    child = os.fork()
    if child == 0:
        become(sys.argv[1:], own, library)
    for number in handed_down:
        os.close(number)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        ready, _, _ = select.select([0, woken], [], [], LOOK_S)
        if woken in ready:
            os.read(woken, 4096)
        if told or os.getppid() != owner or (0 in ready and not os.read(0, 4096)):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            if os.getpgrp() == own:  # and what the command started, with us
                os.killpg(own, signal.SIGKILL)
            return 1


def inheritable(number: int) -> bool:
    """Whether a descriptor is one of those to hand down."""
    try:
        return number > 2 and os.get_inheritable(number)
    except OSError:  # the one that listed the others
        return False


def become(command: list[str], parent: int, library: ctypes.CDLL) -> NoReturn:
    """The command instead of this process, to be ended with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if sys.platform == "linux":
        library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(NOT_STARTED)


if __name__ == "__main__":
    sys.exit(main())
