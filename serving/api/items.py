"""A stream whose items are exchanges of their own, each answered as soon as it is ready."""

from collections.abc import Callable
from typing import Any

from serving.api.call import Receiver, Stream, shutting_down
from serving.api.exchange import Backend, Exchange, Form

MAX_IN_FLIGHT = 1024
"""Unanswered items of one stream beyond which no more of it is read."""


class ItemStream(Receiver):
    """The server's side; who derives from it reads the items, and writes their answers."""

    def __init__(self, backend: Backend, stream: Stream, method: str) -> None:
        self.backend = backend
        self.stream = stream
        self._method = method
        self._open: set[Exchange] = set()
        self._half_closed = False
        self._draining = False
        stream.on_cancel = self.cancel

    def begin(self, form: Form, send: Callable[[Any], None], start: Callable[[Exchange], None]) -> None:
        """Make the exchange of an item, and `start` it; `send` takes its answer."""

        def answer(result: Any) -> None:
            self._open.discard(exchange)
            send(result)
            if len(self._open) == MAX_IN_FLIGHT - 1:
                self.stream.resume_reading()
            self._maybe_finish()

        exchange = self.backend.exchange(form, self._method, self.stream, answer)
        if exchange.refused(self.stream.deadline, draining=self._draining):
            return
        self._open.add(exchange)
        if len(self._open) == MAX_IN_FLIGHT:
            self.stream.pause_reading()
        start(exchange)

    def half_closed(self) -> None:
        """No more items: the stream ends with its last answer."""
        self._half_closed = True
        self._maybe_finish()

    def draining(self) -> None:
        """No more items either, though the client may have meant to send some: it is told so."""
        self._draining = True
        self._maybe_finish()

    def cancel(self) -> None:
        """Nobody waits for the answers any more."""
        for exchange in self._open:
            exchange.cancel()
        self._open.clear()

    def _maybe_finish(self) -> None:
        if self._open:
            return
        if self._half_closed:
            self.stream.finish()
        elif self._draining:
            self.stream.finish(shutting_down())
