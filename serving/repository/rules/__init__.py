"""What a graph must keep to before ONNX Runtime sees it, judged from its bytes alone."""
