"""python serve.py PROGRAM: answer calls of one program's functions, in that program's environment.

Standard library only, Python 3.8 and later; this file and its neighbours are sent to other hosts.
Requests come as JSON lines on a private copy of stdin, events and answers leave as JSON lines on a
private copy of stdout: what the program or its vendor's library prints goes to stderr and does no
harm, and what it starts finds nothing to read. When stdin closes, the one who asked is gone, and
this process ends whatever it is doing, with all that it started.
"""

from __future__ import annotations

import errno
import faulthandler
import glob
import hashlib
import importlib.util
import io
import json
import os
import platform
import queue
import signal
import sys
import threading
import time
import traceback
from typing import IO, TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

if TYPE_CHECKING:
    from types import ModuleType

Emit = Callable[[Dict[str, Any]], None]
KINDS = {"Missing": "missing", "Unsupported": "unsupported", "BadInput": "input"}
# How long a program may take to leave once nobody asks any more.
LAST_S = 10.0


def load_module(path: str, name: str) -> ModuleType:
    """The module in the file `path`, imported without putting its folder on sys.path."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("%s is not a Python file" % path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def failure(err: BaseException) -> Dict[str, Any]:
    """How an exception crosses the boundary: the class's name says what kind of failure it is."""
    kind = next((KINDS[c.__name__] for c in type(err).__mro__ if c.__name__ in KINDS), "failed")
    if isinstance(err, ImportError) and err.name:
        kind = "missing"
    if isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        kind = "storage"
    own = getattr(err, "kind", None)
    ours = isinstance(own, str) and own in ("failed", "missing", "unsupported", "input")
    if ours:
        kind = str(own)
    # who raises an error of ours has said it all; anything else is explained by where it arose
    trace = str(getattr(err, "log", "")) if ours else traceback.format_exc()
    return {
        "type": type(err).__name__,
        "kind": kind,
        "message": str(getattr(err, "message", "") or err) or type(err).__name__,
        "hint": str(getattr(err, "hint", "")),
        "traceback": trace,
    }


def peak_memory_bytes() -> Optional[int]:
    """The largest resident size of this process so far, where the system tells."""
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def facts() -> Dict[str, Any]:
    """What goes with every answer."""
    return {"python": platform.python_version(), "peak_memory_bytes": peak_memory_bytes()}


def sha256(program: ModuleType, emit: Emit, path: str) -> Dict[str, Any]:
    """The hash and size of a file as this host reads it; a folder's is over its sorted files."""
    digest, size = hashlib.sha256(), 0
    names = [path]
    if os.path.isdir(path):
        names = sorted(os.path.join(at, f) for at, _, files in os.walk(path) for f in files)
    for name in names:
        if name != path:
            relative = os.path.relpath(name, path).replace(os.sep, "/")
            digest.update(relative.encode() + b"\0" + str(os.path.getsize(name)).encode() + b"\0")
        with open(name, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
                size += len(block)
    return {"sha256": digest.hexdigest(), "size_bytes": size}


def artifact_sha256(
    program: ModuleType, emit: Emit, path: str, options: Dict[str, Any]
) -> Dict[str, Any]:
    """The hash of an artifact as its device reads it: a program tells where that is not here."""
    own = getattr(program, "artifact_sha256", None)
    if own is not None:
        return own(path=path, options=options)  # type: ignore[no-any-return]
    return sha256(program, emit, path)


def import_only(program: ModuleType, emit: Emit, modules: "list[str]") -> Dict[str, Any]:
    """Import what a later call will need, while nobody waits."""
    for name in modules:
        importlib.import_module(name)
    return {}


BUILT_IN: Dict[str, Callable[..., Dict[str, Any]]] = {
    "serve.sha256": sha256,
    "serve.artifact_sha256": artifact_sha256,
    "serve.import_only": import_only,
}


def resolve(program: ModuleType, name: str, emit: Emit) -> Callable[..., Any]:
    """The function a request names: the program's own, or one of this folder's with its module."""
    if name in BUILT_IN:
        return lambda **arguments: BUILT_IN[name](program, emit, **arguments)
    module_name, _, function = name.rpartition(".")
    if not module_name:
        found = getattr(program, function, None)
        if found is None:
            raise AttributeError("%s has no function %s" % (program.__file__, function))
        return found  # type: ignore[no-any-return]
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), module_name + ".py")
    alias = "edgedeploy_inproc_" + module_name
    module = sys.modules.get(alias) or load_module(path, alias)
    return lambda **arguments: getattr(module, function)(program, emit, **arguments)


def private_ends() -> Tuple[IO[str], IO[str]]:
    """Requests and answers on descriptors of their own; 0 reads nothing, 1 and 2 are the log."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a crash would swallow what is not written out
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    return requests, answers


def first_to_go() -> None:
    """Where memory runs out, the system is to end this process, not the one who asked (Linux)."""
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            if int(file.read()) < 500:
                file.write("500")
    except OSError:  # no such system, or not allowed: nothing is lost
        return


def descendants(pid: int) -> List[int]:
    """Processes started below `pid`, where Linux lists them; all of /proc would be slow to read."""
    found: List[int] = []
    for path in glob.glob("/proc/%d/task/*/children" % pid):
        try:
            with open(path, encoding="ascii") as file:
                children = file.read().split()
        except OSError:  # it ended meanwhile
            continue
        for child in children:
            found += [int(child), *descendants(int(child))]
    return found


def kill_tree(pid: int) -> None:
    """End what `pid` started, in its group or out of it, and the group where it leads one."""
    ends = [(os.kill, child) for child in descendants(pid)]
    if pid != os.getpid() or os.getpgrp() == pid:
        ends.append((os.killpg, pid))
    for end, each in ends:
        try:
            end(each, signal.SIGKILL)
        except OSError:  # it ended meanwhile
            continue


def main() -> None:
    """Serve until stdin closes."""
    asked, private = private_ends()
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        del sys.path[0]  # this folder: nothing here may shadow a vendor's module
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asked decides, by closing stdin
    faulthandler.enable()
    first_to_go()
    lock = threading.Lock()

    def write(text: str) -> None:
        with lock:
            private.write(text + "\n")
            private.flush()

    def emit(event: Dict[str, Any]) -> None:
        write(json.dumps(event))

    requests: "queue.Queue[Optional[str]]" = queue.Queue()
    busy = threading.Event()

    def read() -> None:
        for line in asked:
            busy.set()
            requests.put(line)
        if not busy.is_set():
            requests.put(None)
            time.sleep(LAST_S)
        kill_tree(os.getpid())
        os._exit(3)

    threading.Thread(target=read, daemon=True).start()
    program: Optional[ModuleType] = None
    while True:
        line = requests.get()
        if line is None:
            break
        try:
            request = json.loads(line)
            if program is None:
                program = load_module(sys.argv[1], "edgedeploy_program")
            function = resolve(program, request["call"], emit)
            answer = function(**request.get("arguments", {}))
            text = json.dumps({"answer": answer, **facts()})
        except (Exception, SystemExit) as err:
            text = json.dumps({"error": failure(err), **facts()})
        busy.clear()
        write(text)
    close = getattr(program, "close", None)
    if close is not None:
        close()


if __name__ == "__main__":
    main()
