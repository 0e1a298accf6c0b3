"""The queue of one model version: earliest deadline first within a priority, counted in rows and bytes."""

import math
from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import count, takewhile

from serving.engine.request import Request
from serving.status import StatusError

Piece = tuple[Request, int, int]
"""A request, and its rows from start to stop that go into one batch."""


class Queue:
    """Requests by (priority, due time, arrival order).

    A sorted list rather than a heap: inserting moves a few kilobytes at the most and is as fast at the
    lengths that the row bound allows, and a position in it says how many requests stand before one.
    Finished requests give back their rows and memory at once; their empty entries go when they are met,
    or when they are the majority.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[tuple[int, float, int], Request]] = []
        self._sequence = count()
        self._empty = 0
        self.rows = 0
        """Rows that wait."""
        self.size = 0
        """Bytes of the requests that wait, whole or in part."""

    def __len__(self) -> int:
        return len(self._entries) - self._empty

    def __iter__(self) -> Iterator[Request]:
        return (request for _, request in self._entries if not request.finished)

    def push(self, request: Request) -> None:
        """Add a request at its place."""
        # The sequence number is unique, so that a comparison never reaches the request itself.
        insort(self._entries, ((request.priority, request.due, next(self._sequence)), request))
        self.rows += request.rows
        self.size += request.size

    def share_ahead(self, priority: int, due: float) -> float:
        """The share of the queue, 0 to 1, that would be served before a new request of this rank."""
        if not self._entries:
            return 0.0
        return bisect_left(self._entries, ((priority, due, math.inf),)) / len(self._entries)

    def head(self) -> Request | None:
        """The request that would leave next."""
        return next(iter(self), None)

    def discard(self, request: Request, error: StatusError | None = None) -> None:
        """Take a request out wherever it stands; its caller is told the error, or nothing where it is gone."""
        if request.waiting:
            self.rows -= request.waiting
            self.size -= request.size
            self._empty += 1
        if error is None:
            request.close()
        else:
            request.finish(error)
        if self._empty * 2 > len(self._entries):
            self._entries = [entry for entry in self._entries if not entry[1].finished]
            self._empty = 0

    def expired(self, now: float) -> list[Request]:
        """Those at the head whose deadline has passed; there may be more behind others of higher priority."""
        return list(takewhile(lambda request: request.deadline <= now, self))

    def take(self, rows: int, now: float) -> tuple[list[Piece], list[Request]]:
        """Take up to `rows` rows in order.

        Returns:
            The pieces for one batch, full unless the queue ran empty; and the expired requests met on
            the way, which are still to be discarded.
        """
        pieces: list[Piece] = []
        expired: list[Request] = []
        passed = 0
        for _, request in self._entries:
            if not rows:
                break
            passed += 1
            if request.finished:
                self._empty -= 1
            elif request.deadline <= now:
                expired.append(request)
                self.rows -= request.waiting
                self.size -= request.size
            else:
                start = request.taken
                stop = min(request.rows, start + rows)
                request.taken = stop
                rows -= stop - start
                self.rows -= stop - start
                pieces.append((request, start, stop))
                if stop == request.rows:
                    self.size -= request.size
                else:
                    passed -= 1
        del self._entries[:passed]
        return pieces, expired
