"""A transport in memory: calls and streams that keep what a handler did with them."""

import asyncio
import math

from serving.api.call import Call, Metadata, Receiver, Routes, Stream, Streaming, Unary
from serving.status import Code, StatusError


class MemoryCall(Call):
    """A unary call."""

    def __init__(self, method: str, deadline: float = math.inf, metadata: Metadata = ()) -> None:
        super().__init__(method, metadata, deadline, "memory")
        self.answer: bytes | StatusError | None = None
        self._answered = asyncio.Event()

    def reply(self, message: bytes) -> None:
        self._finish(message)

    def fail(self, error: StatusError) -> None:
        self._finish(error)

    def _finish(self, answer: bytes | StatusError) -> None:
        assert self.answer is None, "a call is finished once"
        self.answer = answer
        self._answered.set()

    @property
    def error(self) -> StatusError:
        """The error that it was finished with."""
        assert isinstance(self.answer, StatusError)
        return self.answer

    async def message(self) -> bytes:
        """The reply; raises the error."""
        await self._answered.wait()
        if isinstance(self.answer, StatusError):
            raise self.answer
        assert self.answer is not None
        return self.answer

    def cancel(self) -> None:
        """What a transport does when the client is gone."""
        if self.answer is None and self.on_cancel is not None:
            self.on_cancel()


class MemoryStream(Stream):
    """A streaming call."""

    def __init__(self, method: str, deadline: float = math.inf) -> None:
        super().__init__(method, (), deadline, "memory")
        self.receiver: Receiver
        self.sent: list[bytes] = []
        self.reading = True
        self.pauses = 0
        self.finished = False
        self.error: StatusError | None = None
        self._sent = asyncio.Event()

    def send(self, message: bytes) -> None:
        assert not self.finished, "nothing is sent on a finished stream"
        self.sent.append(message)
        self._sent.set()

    def finish(self, error: StatusError | None = None) -> None:
        assert not self.finished, "a stream is finished once"
        self.finished, self.error = True, error

    def pause_reading(self) -> None:
        self.reading = False
        self.pauses += 1

    def resume_reading(self) -> None:
        self.reading = True

    async def until(self, messages: int) -> None:
        """Turn the loop until that many messages were sent."""
        async with asyncio.timeout(10):
            while len(self.sent) < messages:
                self._sent.clear()
                await self._sent.wait()

    def cancel(self) -> None:
        """What a transport does when the client is gone, and after every stream."""
        if self.on_cancel is not None:
            self.on_cancel()

    @property
    def code(self) -> Code | None:
        """How it ended, if it did."""
        if not self.finished:
            return None
        return Code.OK if self.error is None else self.error.code


def call(routes: Routes, method: str, message: bytes, deadline: float = math.inf) -> MemoryCall:
    """Make a unary call."""
    route = routes[method]
    assert isinstance(route, Unary)
    made = MemoryCall(method, deadline)
    route.handle(made, message)
    return made


def stream(routes: Routes, method: str, deadline: float = math.inf) -> MemoryStream:
    """Open a stream."""
    route = routes[method]
    assert isinstance(route, Streaming)
    opened = MemoryStream(method, deadline)
    opened.receiver = route.open(opened)
    return opened
