"""Moves NVIDIA's libraries out of a virtual environment, so that they can be a layer of their own.

    python split.py VENV FOLDER

They weigh many times what the rest does and change with CUDA only. Laid over one another, the two are as before.
"""

import shutil
import sys
from pathlib import Path


def main(venv: Path, folder: Path) -> None:
    """Move them to the same place below `folder`, which stays empty if there are none."""
    folder.mkdir()
    for libraries in venv.glob("lib/python3*/site-packages/nvidia"):
        target = folder / libraries.relative_to(venv)
        target.parent.mkdir(parents=True)
        shutil.move(libraries, target)  # the environment lies in a layer below, out of which nothing can be renamed


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
