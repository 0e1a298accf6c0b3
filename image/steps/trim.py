"""Removes from a virtual environment what only those need who build, test or extend its packages.

python trim.py VENV
"""

import shutil
import sys
from pathlib import Path

# Patterns below site-packages. Nothing here is imported or opened by a server: `make image-check` runs one without it.
UNUSED = (
    "**/__pycache__",
    "**/tests",
    "**/*.pyi",
    "**/*.pyx",
    "**/*.pxd",
    "**/*.a",
    "**/*.h",
    "numpy/distutils",
    "numpy/f2py",
    "nvidia/**/include",
    "onnx/backend/test",
    "onnxruntime/capi/libonnxruntime.so*",  # for programs in C: the Python module has the runtime inside
    "onnxruntime/capi/libonnxruntime_providers_tensorrt.so",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "uvloop/*.c",
)
KEPT = ("python", "python3")
"""Of bin: the rest are scripts that begin with a path, and activation for shells."""


def main(venv: Path) -> int:
    """Trim `venv`; returns the bytes that went."""
    (packages,) = venv.glob("lib/python3*/site-packages")
    unused = [path for pattern in UNUSED for path in packages.glob(pattern)]
    unused += [path for path in (venv / "bin").iterdir() if path.name.rstrip("0123456789.") not in KEPT]
    return sum(remove(path) for path in unused)


def remove(path: Path) -> int:
    """Remove a file or a folder; returns its bytes. One that went with its parent counts for nothing."""
    if path.is_symlink() or path.is_file():
        size = path.lstat().st_size
        path.unlink()
        return size
    size = sum(each.lstat().st_size for each in path.rglob("*") if not each.is_dir())
    shutil.rmtree(path, ignore_errors=True)
    return size


if __name__ == "__main__":
    print(f"{main(Path(sys.argv[1])) / 1e6:.1f} MB removed")
