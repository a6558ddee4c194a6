"""The one loop that polls an instrument, on a fixed grid of time, whatever the sensor is.

Standard library only, Python 3.8 and later. Functions are called by serve.py with the instrument's
program. Times are `time.perf_counter_ns` readings of this host.
"""

from __future__ import annotations

import array
import math
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence, Tuple

Emit = Callable[[Dict[str, Any]], None]
clock = time.perf_counter_ns

SHORTEST_PERIOD_S = 0.0005
LONGEST_PERIOD_S = 60.0
# No energy counter of one device is taken to move faster.
BOUND_W = 1000.0
# Over all channels; each is a time and a value, so an answer has twice as many numbers.
MOST_READINGS = 500_000
# How long a reading in progress may take to come back once the end is asked for.
LAST_READ_S = 5.0


class BadInput(ValueError):
    """A period that cannot be polled at; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Instrument(Protocol):
    """What a program under profilers/instrument/ gives."""

    def open(self, options: Dict[str, Any]) -> Dict[str, Any]: ...

    def read(self) -> Sequence[Optional[float]]: ...

    def close(self) -> Optional[Dict[str, Any]]: ...


class Channel:
    """The readings of one channel; `said` is what the program said of it."""

    def __init__(self, said: Dict[str, Any]) -> None:
        self.said = said
        self.t_ns = array.array("q")
        self.values = array.array("d")
        self.nulls = 0

    def keep(self, t_ns: int, value: float) -> None:
        if math.isfinite(value):
            self.t_ns.append(t_ns)
            self.values.append(value)
        else:
            self.nulls += 1

    def thin(self) -> None:
        del self.t_ns[1::2], self.values[1::2]

    def answer(self) -> Dict[str, Any]:
        kept = {"t_ns": self.t_ns.tolist(), "values": self.values.tolist()}
        return {**self.said, **kept, "nulls": self.nulls}


class Poller:
    """One instrument being polled, and what it gave so far."""

    def __init__(
        self, program: Instrument, channels: List[Dict[str, Any]], period_s: float, limit_s: float
    ) -> None:
        self.program = program
        self.channels = [Channel(said) for said in channels]
        self.period_ns = round(period_s * 1e9)
        self.limit_ns = limit_s * 1e9
        self.polls = self.late = self.read_ns = self.longest_read_ns = 0
        self.thinned = 1
        self.errors: List[str] = []
        self.notes: List[str] = []
        self.ending = threading.Event()
        self.abandoned = False
        self.thread = threading.Thread(target=self.run, name="poller", daemon=True)

    def run(self) -> None:
        """Poll until the end is asked for, or the instrument breaks."""
        due = clock()
        while not self.ending.wait(max(0, due - clock()) / 1e9):
            before = clock()
            try:
                readings = self.program.read()
            except (Exception, SystemExit) as err:
                self.give_up("read() raised %s: %s" % (type(err).__name__, err))
                return
            after = clock()
            if self.abandoned:
                return
            self.polls += 1
            self.read_ns += after - before
            self.longest_read_ns = max(self.longest_read_ns, after - before)
            problem = self.keep((before + after) // 2, readings) or self.bound()
            if problem:
                self.give_up(problem)
                return
            due, passed = next_due(due, self.period_ns, clock())
            self.late += passed

    def give_up(self, why: str) -> None:
        self.errors.append("%s; polling ended after %d polls" % (why, self.polls))

    def keep(self, t_ns: int, readings: object) -> Optional[str]:
        """Store one poll; says what is wrong with it. A sensor that gave nothing is left out."""
        if not isinstance(readings, (list, tuple)) or len(readings) != len(self.channels):
            return "read() gave %.80r for %d channels" % (readings, len(self.channels))
        for i, channel in enumerate(self.channels):
            reading = readings[i]
            if reading is None:
                channel.nulls += 1
            elif hasattr(reading, "__float__"):
                channel.keep(t_ns, float(reading))
            else:
                return "read() gave %.80r for channel %s" % (reading, channel.said["name"])
        return None

    def bound(self) -> Optional[str]:
        """Keep every second reading once there are too many. Says why that cannot be."""
        if sum(len(channel.t_ns) for channel in self.channels) <= MOST_READINGS:
            return None
        if 2 * self.period_ns > self.limit_ns:
            return "%d readings, more are not kept, and a counter wraps too soon to poll slower" % (
                MOST_READINGS
            )
        for channel in self.channels:
            channel.thin()
        self.period_ns *= 2
        self.thinned *= 2
        return None

    def answer(self) -> Dict[str, Any]:
        """What `stop` gives."""
        notes = list(self.notes)
        if self.thinned > 1:
            notes.append("over %d readings: 1 poll of %d was kept" % (MOST_READINGS, self.thinned))
        return {
            "channels": [channel.answer() for channel in self.channels],
            "polls": self.polls,
            "late": self.late,
            "period_s": self.period_ns / 1e9,
            "read_mean_s": self.read_ns / self.polls / 1e9 if self.polls else None,
            "read_max_s": self.longest_read_ns / 1e9 if self.polls else None,
            "errors": list(self.errors),
            "notes": notes,
        }


_pollers: Dict[int, Poller] = {}


def start(
    program: Instrument,
    emit: Optional[Emit] = None,
    *,
    options: Dict[str, Any],
    period_s: float,
) -> Dict[str, Any]:
    """Open the instrument and poll it every `period_s`, in a thread, until `stop`.

    Answers what the program's `open` answers, and `poll_period_s`: the period used, shorter than
    the one asked for where a counter would else wrap unseen. Raises `BadInput` for a period that
    cannot be polled at, and whatever `open` raises.
    """
    if id(program) in _pollers:
        msg = "this instrument is being polled already"
        raise RuntimeError(msg)
    if not SHORTEST_PERIOD_S <= period_s <= LONGEST_PERIOD_S:  # NaN too is neither
        msg = "an instrument cannot be polled every %r s" % (period_s,)
        hint = "Choose %g to %g s." % (SHORTEST_PERIOD_S, LONGEST_PERIOD_S)
        raise BadInput(msg, hint=hint)
    opened = program.open(options)
    try:
        channels = opened["channels"]
        names = [channel["name"] for channel in channels]
        if not names or len(set(names)) < len(names):
            msg = "open() gave channels without a name of their own: %s" % (names,)
            raise ValueError(msg)
        limit_s = slowest_period_s(channels)
        if limit_s < SHORTEST_PERIOD_S:
            msg = "a counter of this instrument wraps too often to be polled in time"
            raise BadInput(msg, hint="Use another instrument.")
        poller = Poller(program, channels, min(period_s, limit_s), limit_s)
    except BaseException:
        program.close()
        raise
    _pollers[id(program)] = poller
    poller.thread.start()
    return {**opened, "poll_period_s": poller.period_ns / 1e9}


def stop(program: Instrument, emit: Optional[Emit] = None) -> Dict[str, Any]:
    """End polling, close the instrument, and give everything read.

    `channels` are those of `open`, each with `t_ns` (the middle of each reading), `values` and how
    many `nulls` there were; `polls` made, `late` ones left out because one before took too long,
    `period_s` as it was in the end, seconds a reading took, the `errors` that ended it early, and
    the `notes` that the program's `close` answered.
    """
    poller = _pollers.pop(id(program), None)
    if poller is None:
        msg = "this instrument is not being polled"
        raise RuntimeError(msg)
    poller.ending.set()
    poller.thread.join(LAST_READ_S)
    if poller.thread.is_alive():
        poller.abandoned = True
        poller.give_up("read() has not come back for %g s" % LAST_READ_S)
    else:
        try:
            told = program.close() or {}
            poller.notes += told.get("notes", ())
        except Exception as err:
            poller.errors.append("close() raised %s: %s" % (type(err).__name__, err))
    return poller.answer()


def next_due(due: int, period: int, now: int) -> Tuple[int, int]:
    """The next point of the grid after `now`, and how many points were passed over.

    The grid goes on from `due` in whole periods, whatever a poll took: it does not drift, and what
    is late is not made up for.
    """
    steps = max(1, (now - due) // period + 1)
    return due + steps * period, steps - 1


def slowest_period_s(channels: List[Dict[str, Any]]) -> float:
    """How seldom the channels may be polled: twice as often as half a wrap takes at `BOUND_W`."""
    ranges = [c.get("counter_range") for c in channels if c["quantity"] == "energy"]
    return min((r / BOUND_W / 4 for r in ranges if r is not None), default=math.inf)
