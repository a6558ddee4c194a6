"""Stand-in for the Hailo Dataflow Compiler 3.33: the calls our programs make, on ONNX Runtime."""

from hailo_sdk_client import host, log
from hailo_sdk_client.exposed_definitions import InferenceContext, States
from hailo_sdk_client.runner.client_runner import ClientRunner

__version__ = "3.33.0+standin"
__all__ = ["ClientRunner", "InferenceContext", "States", "host"]

if not log.has_gpu():
    log.info("No GPU chosen and no suitable GPU found, falling back to CPU.")
