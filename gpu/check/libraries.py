"""Where the CUDA libraries are: as wheels beside a Python, or where the system's loader looks."""

import ctypes
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

NEEDED: Final = ("libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10")
"""What ONNX Runtime's CUDA provider is linked with, in the order in which they can be loaded (onnxruntime-gpu ≥ 1.27
is built for CUDA 13)."""

WANTED: Final = ("libcudnn.so.9", "libcufft.so.12", "libnvrtc.so.13")
"""What it loads only for some operators."""

PATH: Final = "LD_LIBRARY_PATH"


def found(places: Iterable[str] = sys.path) -> dict[str, str]:
    """Where each library would come from; those that are nowhere are left out."""
    folders = wheel_folders(places)
    where = {}
    for name in (*NEEDED, *WANTED):
        beside = next((folder / name for folder in folders if (folder / name).exists()), None)
        if beside is not None:
            where[name] = str(beside)
        elif _loads(name):
            where[name] = "system"
    return where


def missing(places: Iterable[str] = sys.path) -> list[str]:
    """Those without which no session runs on CUDA, that are nowhere."""
    there = found(places)
    return [name for name in NEEDED if name not in there]


def wheel_folders(places: Iterable[str]) -> list[Path]:
    """Folders of libraries that NVIDIA's wheels have put into these site-packages."""
    return sorted(folder for place in places if place for folder in Path(place).glob("nvidia/*/lib") if folder.is_dir())


def environment(before: Mapping[str, str], places: Iterable[str] = sys.path) -> dict[str, str]:
    """Variables under which the loader finds NVIDIA's wheels, wherever they are.

    ONNX Runtime's own `preload_dlls` looks only beside ONNX Runtime itself: wheels of the system's Python, or those
    that PyTorch brought, stay unseen from a virtual environment.
    """
    folders = [str(folder) for folder in wheel_folders(places)]
    known = [part for part in before.get(PATH, "").split(":") if part]
    path = ":".join(dict.fromkeys([*known, *folders]))
    return {**before, PATH: path} if path else dict(before)


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
