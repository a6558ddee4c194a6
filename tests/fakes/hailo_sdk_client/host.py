"""Whether the package can be installed on this host: wheels exist for few."""

import os
import platform
import sys


def _require():
    named = os.environ.get("HAILO_STANDIN_PYTHON")
    found = named or f"{sys.version_info[0]}.{sys.version_info[1]}"
    if found not in {"3.10", "3.11", "3.12"}:
        msg = f"hailo_dataflow_compiler 3.33.0 has no wheel for Python {found}: 3.10, 3.11, 3.12"
        raise ImportError(msg)
    machine = os.environ.get("HAILO_STANDIN_MACHINE") or platform.machine()
    if machine not in {"x86_64", "AMD64"}:
        msg = f"hailo_dataflow_compiler 3.33.0 has no wheel for {machine}: linux_x86_64 only"
        raise ImportError(msg)


_require()
