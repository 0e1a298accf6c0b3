"""A driver that is played: `libcuda.so.1` compiled from driver.c, for what can be found out without a GPU."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("driver.c")


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that it lies in, for LD_LIBRARY_PATH."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("driver")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libcuda.so.1", SOURCE], check=True)
    return folder


@pytest.fixture
def library(played: Path) -> Any:
    """The same, loaded into this process beside whatever it has."""
    return ctypes.CDLL(str(played / "libcuda.so.1"))
