"""Which cuda-python this is: modules, versions and what it needs of a driver."""

import os

LAYOUTS = {"13": "13.0.3+standin", "12": "12.9.4+standin", "11": "11.8.7+standin"}
RUNTIMES = {"13": 13000, "12": 12090, "11": 11080}


def layout():
    """The major of cuda-python that `CUDA_STANDIN_LAYOUT` asks for, 13 without it."""
    found = os.environ.get("CUDA_STANDIN_LAYOUT") or "13"
    if found not in LAYOUTS:
        message = f"CUDA_STANDIN_LAYOUT is {found!r}; known: {sorted(LAYOUTS)}"
        raise ImportError(message)
    return found


def version():
    return LAYOUTS[layout()]


def runtime():
    """The version of CUDA's runtime in it, as CUDA numbers them."""
    return RUNTIMES[layout()]
