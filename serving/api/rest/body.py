"""Bodies of requests, read as they come and no further than they may go."""

from http import HTTPStatus
from typing import Any, Final

from serving.api.rest.coding import decoded, too_large
from serving.api.rest.errors import HttpError

BUDGET_BYTES: Final = 256 * 1024 * 1024
"""What all bodies may hold together that are not there as a whole: who sends slowly must not hold them all."""


class GoneError(Exception):
    """The client went away before its request was there."""


class UnreadError(Exception):
    """A body that is refused before its end; `error` says why."""

    def __init__(self, error: HttpError) -> None:
        super().__init__(str(error))
        self.error = error


class Intake:
    """Reads bodies."""

    def __init__(self, max_bytes: int, budget: int = BUDGET_BYTES) -> None:
        self._max_bytes = max_bytes
        self._left = max(budget, max_bytes)

    async def read(self, fields: dict[bytes, bytes], receive: Any) -> bytes:
        """A request's whole body, without its coding.

        Raises:
            UnreadError: there is more of it to come, and it is not wanted.
            HttpError: there is none to come, and it is not wanted.
            GoneError: it won't come.
        """
        length = fields.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._max_bytes:
            raise UnreadError(too_large(self._max_bytes))
        message = await receive()
        if message["type"] != "http.request":
            raise GoneError
        body: bytes = message.get("body", b"")
        if message.get("more_body", False):
            body = await self._rest(body, receive)
        if len(body) > self._max_bytes:
            raise too_large(self._max_bytes)
        coding = fields.get(b"content-encoding")
        return body if coding is None else decoded(body, coding, self._max_bytes)

    async def _rest(self, first: bytes, receive: Any) -> bytes:
        parts, size = [first], len(first)
        self._left -= size
        try:
            while True:
                if size > self._max_bytes:
                    raise UnreadError(too_large(self._max_bytes))
                if self._left < 0:
                    raise UnreadError(
                        HttpError(
                            HTTPStatus.SERVICE_UNAVAILABLE,
                            "too many large requests are on their way at once; try again",
                            ((b"retry-after", b"1"),),
                        )
                    )
                message = await receive()
                if message["type"] != "http.request":
                    raise GoneError
                part: bytes = message.get("body", b"")
                parts.append(part)
                size += len(part)
                self._left -= len(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
        finally:
            self._left += size
