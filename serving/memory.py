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
