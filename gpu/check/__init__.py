"""Proves that serving on a GPU is correct and verified, and how fast beside the CPU: `python -m gpu.check`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - nothing has been installed that would have said so
    sys.exit("gpu-check: Triptych needs Python 3.11 or newer")
