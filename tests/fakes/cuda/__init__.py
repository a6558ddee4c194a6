"""Stand-in for cuda-python: the calls of CUDA's runtime that profilers/runtime/trt.py makes.

`cuda.bindings.runtime` from 12 on, `from cuda import cudart` up to 12; tests say which.
"""

from cuda.standin.layout import layout, version

if layout() != "13":  # 13 is a namespace package without a version of its own
    __version__ = version()
