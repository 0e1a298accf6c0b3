"""`python -m tests.chaos.faulty serve …`: the real server, but for sessions that fail or hang when a file says so.

The file is named by the environment and holds a word: `fail` has every run raise, as after an error of the device
that stays, and `lost` has no new session help; `hang` has runs sleep where nothing can end them. Without it all is
well.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from serving.engine import device
from serving.engine.session import Session
from serving.repository import verify

ENVIRONMENT = "TESTS_CHAOS_FILE"
LOST = "lost"
"""As `fail`, and no session of the process will ever run again."""


def _word() -> str:
    try:
        return Path(os.environ[ENVIRONMENT]).read_text()
    except OSError:
        return ""


class FaultySession(Session):
    """A session, with a fault where ONNX Runtime's would be."""

    def run(self, outputs: list[str], feed: Any, options: Any = None) -> Any:
        word = _word()
        if word in ("fail", LOST) and "features" in feed:
            raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")
        if word == "hang":
            time.sleep(1000)
        return super().run(outputs, feed, options)


if __name__ in ("__main__", "__mp_main__"):  # a server, or a worker of one: never who only wants the names
    verify.Session = FaultySession  # type: ignore[misc]
    device.problem = lambda _: device.Problem("CUDA failure 700") if _word() == LOST else None

if __name__ == "__main__":
    from serving.__main__ import main

    sys.exit(main())
