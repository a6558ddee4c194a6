"""Log lines as the compiler prints them, and the time a step took."""

import os
import sys
import time
from contextlib import contextmanager


def has_gpu():
    """Whether this machine shall look as if TensorFlow saw a GPU."""
    return os.environ.get("HAILO_STANDIN_GPU", "0") not in {"", "0"}


def info(text):
    print(f"[info] {text}", flush=True)


def warning(text):
    print(f"[warning] {text}", flush=True)


def error(text):
    print(f"[error] {text}", flush=True)


def clock(seconds):
    """Seconds as the compiler writes them: 00:01:02.34."""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes) // 60:02}:{int(minutes) % 60:02}:{rest:05.2f}"


@contextmanager
def step(name):
    """A step of the optimization, announced and timed."""
    info(f"Starting {name}")
    begin = time.perf_counter()
    yield
    took = clock(time.perf_counter() - begin)
    info(f"Model Optimization Algorithm {name} is done (completion time is {took})")


def progress(name, count, seconds):
    """The bar as it stands at its end, on stderr as tqdm writes it."""
    rate = count / max(seconds, 1e-6)
    took = clock(seconds)[3:8]
    bar = "█" * 10
    line = f"{name}: 100%|{bar}| {count}/{count} [{took}<00:00, {rate:.2f}entries/s]"
    print(line, file=sys.stderr, flush=True)
