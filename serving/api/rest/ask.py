"""What an HTTP request is to its handler, whatever carries it: the whole of it, and one answer, now or later.

As with RPCs (`serving.api.call`), a handler never awaits.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from serving import request_id
from serving.api.rest.errors import HttpError, Reply, error_reply
from serving.status import StatusError, invalid

TIMEOUT = b"request-timeout-ms"
"""The field of a request's head that says in how many milliseconds, from its arrival, the answer is wanted."""


class Ask:
    """A request, its body already received."""

    __slots__ = ("_request_id", "_tell", "arrival", "fields", "follower", "on_cancel", "path", "reply")

    def __init__(self, path: Mapping[str, str], fields: Mapping[bytes, bytes], arrival: float) -> None:
        self.path = path
        """What the variable parts of its path are."""
        self.fields = fields
        """Of its head, their names in lower case."""
        self.arrival = arrival
        """Of its head; seconds on the monotonic clock."""
        self.reply: Reply | None = None
        self.on_cancel: Callable[[], None] | None = None
        """Set by a handler; called at most once: when the client is gone before the answer."""
        self._tell: Callable[[], None] | None = None
        self.follower: Any = None
        """Whoever traces or logs this request (`serving.observing.following`), where somebody does."""

    @property
    def request_id(self) -> str:
        """The client's, or one that is made when first asked for."""
        try:
            return self._request_id
        except AttributeError:
            given = self.fields.get(request_id.HEADER.encode())
            self._request_id: str = request_id.accepted(given) or request_id.made()
        return self._request_id

    def ids(self) -> dict[str, str]:
        """Under what the log speaks of this request; the first says it alone."""
        return {"request_id": self.request_id} if self.follower is None else self.follower.ids()

    @property
    def deadline(self) -> float:
        """By when the answer is wanted, seconds on the monotonic clock; infinite where the client doesn't say.

        Raises:
            StatusError: INVALID_ARGUMENT for what is not a positive number.
        """
        wanted = self.fields.get(TIMEOUT)
        if wanted is None:
            return math.inf
        try:
            milliseconds = float(wanted)
        except ValueError:
            milliseconds = math.nan
        if not 0 < milliseconds < math.inf:
            raise invalid("Request-Timeout-Ms: expected a positive number of milliseconds")
        return self.arrival + milliseconds / 1e3

    def end(self, result: bytes | Reply | StatusError | HttpError) -> None:
        """Answer: with JSON, with whatever else, or with an error."""
        if isinstance(result, bytes):
            result = Reply(result)
        elif not isinstance(result, Reply):
            result = error_reply(result, self.request_id)
        self.reply = result
        if self._tell is not None:
            self._tell()

    def when_ended(self, tell: Callable[[], None]) -> None:
        """Call back once the answer is there, or the client gone."""
        self._tell = tell

    def cancel(self) -> None:
        """The client is gone."""
        if self.reply is None:
            if self.on_cancel is not None:
                self.on_cancel()
            if self._tell is not None:
                self._tell()


Handler = Callable[[Ask, bytes], None]
"""Takes a request and its body. It may raise a StatusError or HttpError, or finish the request with one."""
