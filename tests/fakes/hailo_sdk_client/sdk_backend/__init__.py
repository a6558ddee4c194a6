"""Model scripts, quantization and files."""
