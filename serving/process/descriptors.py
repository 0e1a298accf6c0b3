"""File descriptors: every connection takes one, and systems start processes with few."""

import logging
import resource

log = logging.getLogger(__name__)

MOST = 1 << 20
"""Of what is asked for where the system sets no bound."""


def raise_limit() -> None:
    """Have as many as may be had: the soft limit up to the hard one (getrlimit(2)). Child processes inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        log.warning("file descriptors can't be raised", extra={"limit": soft, "wanted": wanted, "reason": str(error)})
    else:
        log.info("file descriptors", extra={"limit": wanted, "before": soft})
