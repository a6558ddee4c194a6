"""Deploy models to edge hardware and measure latency, power, memory and accuracy in one report."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedeploy.api import deploy, load_report
    from edgedeploy.comparison import compare
    from edgedeploy.errors import EdgeDeployError
    from edgedeploy.records import Plan, Report
    from edgedeploy.target import load_target
    from edgedeploy.workload import Workload, load_workload

__version__ = "0.1.0"
__all__ = [
    "EdgeDeployError",
    "Plan",
    "Report",
    "Workload",
    "compare",
    "deploy",
    "load_report",
    "load_target",
    "load_workload",
]

_HOMES = {
    "EdgeDeployError": "errors",
    "Plan": "records",
    "Report": "records",
    "Workload": "workload",
    "compare": "comparison",
    "deploy": "api",
    "load_report": "api",
    "load_target": "target",
    "load_workload": "workload",
}


def __getattr__(name: str) -> object:
    """Public names are imported when asked for: `edgedeploy --help` must not wait for numpy."""
    if name not in _HOMES:
        msg = f"module 'edgedeploy' has no attribute {name!r}"
        raise AttributeError(msg)
    import importlib

    return getattr(importlib.import_module(f"edgedeploy.{_HOMES[name]}"), name)
