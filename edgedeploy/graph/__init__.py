"""What is done to an exported graph: one file a check or rewrite, each on `onnx.ModelProto`."""
