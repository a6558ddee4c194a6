"""A program with every fault a program can have, served for tests, and a look at what is left."""

import sys
import time
from pathlib import Path
from typing import Any

import psutil

from edgedeploy.worker import SERVE, Worker

PROGRAM = """
import ctypes, errno, os, signal, subprocess, sys, threading, time

class Missing(Exception): pass
class Unsupported(Exception): pass
class BadInput(Exception): pass
class VerySpecial(Unsupported): pass

class Hinted(Missing):
    hint = "plug it in"

class Odd(Exception):
    kind = 7

def probe():
    return {"tools": {"vendor": "1.2"}}

def missing(): raise Missing("no vendor SDK")
def hinted(): raise Hinted("no board")
def unsupported(): raise VerySpecial("operator Foo is not known")
def bad_input(): raise BadInput("the option is wrong")
def other(): raise KeyError("weights")
def odd(): raise Odd("odd")
def full(): raise OSError(errno.ENOSPC, "No space left on device", "/x/y")
def absent_module(): import a_vendor_sdk_that_is_nowhere
def leaves(): sys.exit("out of licence")
def leaves_quietly(): sys.exit(0)

def prints():
    print("to stdout, no end of line", end="")
    sys.stdout.buffer.write(b"\\xff\\xfe\\x00 bytes \\n")
    print("\\udc80 half a character")
    print("{\\"answer\\": {}}")
    os.write(1, b"straight to 1\\n")
    os.write(2, b"straight to 2\\n")
    subprocess.run(["sh", "-c", "echo from a child; echo and on 2 >&2"])
    return {"printed": True}

def reads():
    try:
        input()
    except EOFError:
        child = subprocess.run(["cat"], stdout=subprocess.PIPE)
        return {"read": None, "child": child.stdout.decode()}

def garbage(text):
    for descriptor in (3, 4):
        try:
            os.write(descriptor, text.encode())
        except OSError:
            continue
    time.sleep(30)

def abort():
    print("last words")
    os.abort()

def segfault(): ctypes.string_at(0)
def killed(number): os.kill(os.getpid(), number)
def exits(): os._exit(7)

def hangs(path=None):
    print("about to hang")
    if path:
        near = subprocess.Popen(["sleep", "60"])
        far = subprocess.Popen(["sleep", "60"], start_new_session=True)
        with open(path + ".part", "w") as file:
            file.write("%d %d %d" % (os.getpid(), near.pid, far.pid))
        os.rename(path + ".part", path)
    time.sleep(60)

def spins(path):
    with open(path + ".part", "w") as file:
        file.write("%d" % os.getpid())
    os.rename(path + ".part", path)
    while True: pass

def dies_with_a_fork_left():
    if os.fork() == 0:
        time.sleep(60)
    os._exit(5)

def children_then_answer(path):
    child = subprocess.Popen(["sleep", "60"])
    return {"child": child.pid}

def eats(size):
    kept = []
    while True:
        kept.append(bytearray(b"x") * (8 << 20))
        if len(kept) * (8 << 20) > size: time.sleep(60)

def eats_in_a_child(size):
    code = "import time; kept = bytearray(b'x') * %d; time.sleep(60)" % size
    subprocess.run([sys.executable, "-c", code])

def chatters():
    while True:
        os.write(2, b"chatter " * (1 << 17))

def large(size): return {"text": "x" * size}
def not_a_dict(): return None
def not_json(): return {"value": object()}
def pid(): return {"pid": os.getpid()}
def sleeps(seconds):
    start = time.monotonic()
    time.sleep(seconds)
    return {"start": start, "end": time.monotonic()}
def score(): return {"adj": int(open("/proc/self/oom_score_adj").read())}

def close():
    with open(__file__ + ".closed", "w") as file:
        file.write("closed")
"""


def served(program: Path, **options: Any) -> Worker:
    return Worker(program.stem, [sys.executable, str(SERVE), str(program)], **options)


def gone(pid: int, within_s: float = 10.0) -> bool:
    """Whether a process ends (or is only not yet reaped) within that time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def appears(path: Path, within_s: float = 20.0) -> str:
    deadline = time.monotonic() + within_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)
    return path.read_text()
