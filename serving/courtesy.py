"""How work that can wait keeps out of the way of answers: threads that give up the interpreter soon, and step back."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

SWITCH_SECONDS = 0.0005
"""After which a thread lets the event loop go on, instead of Python's 5 ms, which is seen in the latency of every
request meanwhile."""

NICE = 10
"""A thread that loads models while others answer has a tenth of the weight of theirs (sched(7))."""

LAST_NICE = 19
"""As much as one can step back."""

_lock = threading.Lock()
_working = 0
_usual = sys.getswitchinterval()


def step_back(nice: int = NICE) -> None:
    """Let the calling thread's work wait for that of others, from now on: there is no way back without privileges."""
    with contextlib.suppress(OSError, AttributeError):  # it is a courtesy
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


@contextlib.contextmanager
def gently() -> Iterator[None]:
    """Work on the calling thread that others hardly notice; any number of threads may do so at once."""
    global _working, _usual
    with _lock:
        if _working == 0:
            _usual = sys.getswitchinterval()
            sys.setswitchinterval(min(_usual, SWITCH_SECONDS))
        _working += 1
    try:
        yield
    finally:
        with _lock:
            _working -= 1
            if _working == 0:
                sys.setswitchinterval(_usual)
