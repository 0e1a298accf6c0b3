"""Memory that a burst took is given back to the system.

The C library keeps what is freed, for later: after a burst of large messages that can be gigabytes which
nobody uses. Trimming takes milliseconds, so it is done on a thread, and only where it may bring something.
"""

import asyncio
import contextlib
import ctypes
import resource
from pathlib import Path

INTERVAL_SECONDS = 10.0
SETTLE_SECONDS = 1.0
"""In which a model that is gone has let go of what it had."""
SLACK_BYTES = 64 * 1024 * 1024
"""Growth of the resident memory that is not worth a trim."""

_STATM = Path("/proc/self/statm")


_M_ARENA_MAX = -8
"""Of mallopt(3)."""


def share_one_heap() -> None:
    """Have all threads allocate from one heap, which is best called before there are any.

    The C library gives each thread a heap of its own, and whatever a thread that loads models leaves there is of no use
    to the others. Here threads hardly allocate at the same time: the interpreter has one of them run at once.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


async def give_back(changed: asyncio.Event) -> None:
    """Trim every now and then, and whenever models `changed`, for as long as the server lives."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return  # another C library, with ways of its own
    await asyncio.to_thread(trim, 0)  # what it took to verify the models is not needed again
    floor = _resident()
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTERVAL_SECONDS):
                await changed.wait()
                await asyncio.sleep(SETTLE_SECONDS)
        if changed.is_set() or _resident() > floor + SLACK_BYTES:
            changed.clear()
            await asyncio.to_thread(trim, 0)
            floor = _resident()
        floor = min(floor, _resident())


def _resident() -> int:
    """Bytes (proc(5): the second figure of statm, in pages)."""
    return int(_STATM.read_bytes().split()[1]) * resource.getpagesize()
