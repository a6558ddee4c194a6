"""The modules of the real package that programs may import from."""
