"""From rows to outputs: the queue and batcher of a model version, and the session that they feed."""

import os

# Official builds of ONNX Runtime report usage to their maker unless told not to, before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
