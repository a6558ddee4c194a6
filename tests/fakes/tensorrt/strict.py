"""What all objects of the bindings have in common: nothing can be read or set that is not there."""

from __future__ import annotations

from typing import Any

from tensorrt import log


def of(name: str) -> str:
    """A class's name as the bindings' messages write it."""
    return f"tensorrt.tensorrt.{name}"


class Bound:
    """Attributes of both majors are defined in a class; `only` lists those of one major."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            msg = f"'{of(type(self).__name__)}' object has no attribute '{name}'"
            raise AttributeError(msg)
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        msg = f"'{of(type(self).__name__)}' object has no attribute '{name}'"
        raise AttributeError(msg)


def arguments(call: str, *pairs: tuple[Any, Any]) -> None:
    """Refuse arguments that are not of these types, as pybind11 does."""
    for value, kind in pairs:
        number = kind is int and hasattr(value, "__index__") and not hasattr(value, "name")
        if not number and not (isinstance(value, kind) and type(value) is not bool):
            msg = (
                f"{call}(): incompatible function arguments. The following argument types are"
                f" supported:\n    1. {of(kind.__name__)}\n\nInvoked with: {value!r}"
            )
            raise TypeError(msg)


def need_driver(logger: Any, gpu: Any) -> None:
    """End a constructor as it ends on a machine without an NVIDIA driver."""
    if not isinstance(logger, log.ILogger):
        arguments("__init__", (logger, log.ILogger))
    if gpu is not None:
        return
    log.emit(logger, "WARNING", "Unable to determine GPU memory usage")
    text = (
        "CUDA initialization failure with error: 35. Please check your CUDA installation: "
        " http://docs.nvidia.com/cuda/cuda-installation-guide-linux/index.html"
    )
    log.emit(logger, "WARNING", text)
    msg = "pybind11::init(): factory function returned nullptr"
    raise TypeError(msg)
