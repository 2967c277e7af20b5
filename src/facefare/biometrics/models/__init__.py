"""The networks: where they come from (`install`), and how their files become ONNX."""
