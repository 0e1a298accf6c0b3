"""The request log: a line for every request, or for every one that failed, and never anything of what is in it."""

import logging
from typing import Any

from serving.api.call import Metadata
from serving.observing.following import Followed, Story
from serving.status import SHOWN
from serving.telemetry.metrics import UNKNOWN

log = logging.getLogger(__name__)


class RequestLog:
    """Follows requests into the log."""

    def __init__(self, *, failed_only: bool) -> None:
        self._failed_only = failed_only

    def wants(self, metadata: Metadata) -> bool:
        """All are followed: nobody knows at their beginning which will fail."""
        return True

    def begin(self, followed: Followed, metadata: Metadata) -> None:
        """Nothing is written yet."""

    def item(self, followed: Followed, story: Story) -> None:
        """A line for an item of a stream."""
        code = "OK" if story.error is None else story.error.code.name
        self._write(followed, code, story.ended - story.started, story, failed=story.error is not None, event="item")

    def end(self, followed: Followed) -> None:
        """A line for a request."""
        seconds = followed.over_at - followed.started
        self._write(followed, followed.code, seconds, followed.story, failed=followed.failed, event="request")

    def _write(
        self, followed: Followed, code: str, seconds: float, story: Story | None, *, failed: bool, event: str
    ) -> None:
        if self._failed_only and not failed:
            return
        about: dict[str, Any] = {
            "method": f"{followed.verb} {followed.name or UNKNOWN}".lstrip(),
            "code": code,
            "seconds": round(seconds, 6),
        }
        if not followed.name:  # a method or path of the client's own making
            about["asked"] = followed.asked[:SHOWN]
        if story is not None:
            about |= {"model": story.model, "version": story.version}
            if story.rows is not None:
                about["rows"] = story.rows
        log.info(event, extra={**about, "peer": str(followed.peer), **followed.ids()})
