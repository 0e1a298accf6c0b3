"""Triton's own server, as PyPI's nvidia-pytriton bundles it, run bare: its C++ front and its Python backend.

That build has no ONNX Runtime backend, so ONNX Runtime runs in `model.py`, which the sentiment model needs anyway: its
text is normalised before the graph.

Tried on one core, one against the other by turns (CPU time of a request, house price at 64 in flight, 50 µs as it is):
batches of 32 or 128 rows make no difference; two instances cost 56 µs, and are slower with every load; a delay of
0.5 ms brings nothing at 64, and makes 900 of 2,100 requests a second of one caller; 128 preallocated gRPC requests in
place of 8 make no difference.
"""

import argparse
import os
import site
import sys
import sysconfig
from pathlib import Path

import pytriton

_CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: {rows}
input [ {{ name: "{taken}", data_type: {taken_type}, dims: [ {taken_width} ] }} ]
output [ {{ name: "{given}", data_type: {given_type}, dims: [ 1 ] }} ]
instance_group [ {{ count: 1, kind: KIND_CPU }} ]
dynamic_batching {{ max_queue_delay_microseconds: 0 }}
parameters {{ key: "models", value: {{ string_value: "{models}" }} }}
"""
_MODELS = (
    ("house_price", "features", "TYPE_FP32", 13, "price", "TYPE_FP32"),
    ("sentiment", "text", "TYPE_STRING", 1, "label", "TYPE_STRING"),
)
_ROWS = 64


def main() -> None:
    """Lay out a model repository in this folder, and become the server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--models", type=Path, required=True)
    options = parser.parse_args()
    for name, taken, taken_type, taken_width, given, given_type in _MODELS:
        folder = Path("repository") / name
        (folder / "1").mkdir(parents=True)
        fields = {"taken": taken, "taken_type": taken_type, "taken_width": taken_width}
        fields |= {"given": given, "given_type": given_type, "models": options.models, "rows": _ROWS}
        (folder / "config.pbtxt").write_text(_CONFIG.format(name=name, **fields))
        (folder / "1" / "model.py").symlink_to(Path(__file__).with_name("model.py"))
        # The backend's interpreter takes no notice of PYTHONPATH, and finds the packages through PATH.
        (folder / "1" / "predictor.py").symlink_to(Path(__file__).parents[1] / "predictor.py")
    server = Path(pytriton.__file__).parent / "tritonserver"
    packages = Path(site.getsitepackages()[0])
    # The backend looks for the stub of this Python, which is not in the same folder, beside its library.
    backend = Path("backends") / "python"
    backend.mkdir(parents=True)
    stub = server / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    for file in (*(server / "backends" / "python").iterdir(), *stub.iterdir()):
        (backend / file.name).symlink_to(file)
    libraries = (packages / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR"))
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    arguments = [
        *("--model-repository", str(Path("repository").absolute()), "--model-control-mode", "none"),
        *("--backend-directory", str(Path("backends").absolute()), "--exit-timeout-secs", "5"),
        *("--grpc-address", "127.0.0.1", "--grpc-port", str(options.port)),
        *("--allow-http", "false", "--allow-metrics", "false", "--allow-gpu-metrics", "false"),
    ]
    binary = server / "bin" / "tritonserver"
    os.execve(binary, [str(binary), *arguments], environment)


if __name__ == "__main__":
    main()
