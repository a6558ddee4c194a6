"""CUDA's runtime, as cuda.bindings gives it."""

from cuda.standin import api, codes

for _module in (api, codes):
    globals().update({name: getattr(_module, name) for name in _module.__all__})
