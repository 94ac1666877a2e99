"""Workstation: backbone and relation head -> ONNX and OpenVINO graphs, INT8, in a model pack."""
