"""CUDA's runtime, where cuda-python had it until 12."""

import warnings

from cuda.standin import api, codes
from cuda.standin.layout import layout

if layout() == "13":
    message = "cannot import name 'cudart' from 'cuda'"
    raise ImportError(message, name="cuda")
if layout() == "12":
    warnings.warn("The cuda.cudart module is deprecated", FutureWarning, stacklevel=2)

for _module in (api, codes):
    globals().update({name: getattr(_module, name) for name in _module.__all__})
