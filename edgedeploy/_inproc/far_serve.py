"""Serve a program to the one who asked over a link that may break, and end it when it does.

Standard library only, Python 3.8 and later; sent along with far.py.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from edgedeploy._inproc.far import BLOCK, CONTROL, END, Gone, say
from edgedeploy._inproc.far_session import Session, adopt, reap, sweep

if TYPE_CHECKING:
    from edgedeploy._inproc.far import Source

# A program may take this long to leave once nobody asks: serve.py grants it a little less.
LAST_S = 11.0
# What is not yet taken by the other end; a program that says more waits.
MOST = 4 << 20


def serve(order: Dict[str, Any], source: Source) -> int:
    """Run serve.py for a program until it ends or nobody asks any more."""
    root = os.path.expanduser(order["folder"])
    sweep(root)
    session = Session(root, order["token"])
    signal.setitimer(signal.ITIMER_REAL, 0)
    session.guard()
    adopt()
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    ending: List[int] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: ending.append(number))
    child = subprocess.Popen(
        [sys.executable, order["serve"], order["program"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=session.work,
        env=session.environment(),
        start_new_session=True,
        bufsize=0,
    )
    try:
        say({"started": child.pid})
        relay = Relay(child, source, order["beat_s"])
        while not ending and relay.step(told):
            continue
        code = 3 if ending else 0
    except Gone:
        code = 3
    finally:
        session.end_all()
        child.returncode = 0  # reaped by us
        session.close()
    return code


class Relay:
    """Lines to a program and bytes from it, neither end ever waited for."""

    def __init__(self, child: "subprocess.Popen[bytes]", source: Source, beat_s: float) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self.child = child
        self.given, self.said = child.stdin.fileno(), child.stdout.fileno()
        self.source = source
        self.beat_s = beat_s
        self.to_child, self.to_near = bytearray(), bytearray()
        self.asked_open = self.given_open = self.said_open = True
        self.status: Optional[int] = None
        self.finished = False
        self.line_begins = True
        now = time.monotonic()
        self.heard, self.spoke = now, now
        self.last: Optional[float] = None
        for number in (0, 1, self.given, self.said):
            os.set_blocking(number, False)
        self._requests()

    def step(self, told: int) -> bool:
        """One round; false when all is said. `Gone` when nobody asks any more."""
        poll = select.poll()
        poll.register(told, select.POLLIN)
        if self.asked_open and len(self.to_child) < MOST:
            poll.register(0, select.POLLIN)
        if self.said_open and len(self.to_near) < MOST:
            poll.register(self.said, select.POLLIN)
        if self.given_open and self.to_child:
            poll.register(self.given, select.POLLOUT)
        if self.to_near:
            poll.register(1, select.POLLOUT)
        ready = dict(poll.poll(1000 * self.beat_s))
        now = time.monotonic()
        if told in ready:
            os.read(told, 4096)
        self.status = reap().get(self.child.pid, self.status)
        if 0 in ready:
            self._hear(now)
        if self.given in ready:
            self._give()
        if self.said in ready or self.status is not None:
            self._take()
        if self.status is not None and not self.finished and not self._more():
            self._finish(self.status)
        if 1 in ready:
            self._send(now)
        self._keep_time(now)
        return bool(self.to_near) or not self.finished

    def _hear(self, now: float) -> None:
        block = read(0)
        if block is None:
            return
        self.heard = now
        if not block:
            self.asked_open = False
            self.last = now + LAST_S
            self._close_given()
            return
        self.source.rest += block
        self._requests()

    def _requests(self) -> None:
        """Hand whole lines down; blank ones said only that somebody is there."""
        while (end := self.source.rest.find(b"\n")) >= 0:
            line = bytes(self.source.rest[:end])
            del self.source.rest[: end + 1]
            if line == END:
                raise Gone
            if line:
                self.to_child += line + b"\n"
        self._give()

    def _give(self) -> None:
        try:
            while self.to_child:
                del self.to_child[: os.write(self.given, self.to_child[:BLOCK])]
        except BlockingIOError:
            return
        except OSError:  # it ended: its status tells how
            self.to_child.clear()
        self._close_given()

    def _close_given(self) -> None:
        if self.given_open and not self.asked_open and not self.to_child:
            self.given_open = False
            assert self.child.stdin is not None
            self.child.stdin.close()

    def _take(self) -> None:
        block = read(self.said) if self.said_open and len(self.to_near) < MOST else None
        if block:
            self.to_near += block
            self.line_begins = block.endswith(b"\n")
        elif block is not None:
            self.said_open = False

    def _more(self) -> bool:
        """Whether a program that ended left something to be read: what it forked may hold on."""
        return self.said_open and bool(select.select([self.said], [], [], 0)[0])

    def _finish(self, status: int) -> None:
        how = {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {}
        ended = how or {"code": os.WEXITSTATUS(status)}
        self.to_near += CONTROL + json.dumps({"ended": ended}).encode() + b"\n"
        self.finished = True

    def _send(self, now: float) -> None:
        try:
            del self.to_near[: os.write(1, self.to_near[:BLOCK])]
        except BlockingIOError:
            return
        except OSError:
            raise Gone from None
        self.spoke = now

    def _keep_time(self, now: float) -> None:
        if self.last is not None and now > self.last:
            raise Gone
        if self.asked_open and now - self.heard > self.source.silence_s:
            raise Gone
        if self.line_begins and not self.to_near and now - self.spoke > self.beat_s:
            self.to_near += b"\n"


def read(number: int) -> Optional[bytes]:
    """What can be read now: None for nothing yet, no bytes for the end."""
    try:
        return os.read(number, BLOCK)
    except BlockingIOError:
        return None
    except OSError:
        return b""
