"""The Open Inference Protocol v2 with Triton's extensions: a core that knows no transport, and its gRPC form."""
