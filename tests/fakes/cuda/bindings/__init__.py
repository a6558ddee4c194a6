"""The layout of cuda-python since 12.6."""

from cuda.standin.layout import layout, version

if layout() == "11":
    message = "No module named 'cuda.bindings'"
    raise ModuleNotFoundError(message, name="cuda.bindings")
__version__ = version()
