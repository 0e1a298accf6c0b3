"""HTTP and JSON: the typed predictions and the Open Inference Protocol v2, as an ASGI application."""
