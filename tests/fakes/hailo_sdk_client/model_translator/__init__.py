"""From an ONNX model to a Hailo network."""
