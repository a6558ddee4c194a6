"""Deploy models to edge hardware and measure latency, power, memory and accuracy in one report."""

__version__ = "0.1.0"
