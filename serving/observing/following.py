"""Follows requests from their arrival to their answer, RPCs, the items of streams and HTTP requests alike: for the
request log and for traces. Where neither is wanted, nothing of this is on a request's way.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Protocol

from serving import request_id
from serving.api import watched
from serving.api.call import ANY, Call, Metadata, Receiver, Routes, Stream, Streaming, Unary
from serving.api.exchange import Asker, Backend, Exchange, Form
from serving.api.peer import located
from serving.api.rest.endpoint import FOLLOWER
from serving.api.watched import WatchedCall, WatchedStream, gone
from serving.engine.batcher import Batch, Execution, Observer
from serving.engine.request import Request
from serving.status import Code, StatusError
from serving.telemetry.metrics import UNKNOWN

_ID: Final = request_id.HEADER.encode()

CLIENT_GONE: Final = 499
"""As which an HTTP request is told of whose client left before the answer; what others call it, too."""


@dataclass(slots=True)
class Ran:
    """A batch in which rows of a request were."""

    batch: int
    """Its number in this process."""
    rows: int
    requests: int
    reason: str
    execution: Execution


@dataclass(slots=True)
class Story:
    """What a prediction went through; times are seconds on the monotonic clock."""

    model: str
    version: str
    started: float
    rows: int | None = None
    """None where it was refused before they were counted."""
    queued: bool = False
    pulled: float | None = None
    """When its first rows left the queue."""
    ran: list[Ran] = field(default_factory=list)
    error: StatusError | None = None
    ended: float = 0.0
    """Of an item, when it was about to be answered."""


@dataclass(slots=True)
class Followed:
    """One RPC or HTTP request."""

    name: str
    """The method's full name, or the path with its variable parts in braces: a word of the server's own."""
    asked: str
    """What the client called it."""
    verb: str
    """HTTP's method; empty for an RPC."""
    peer: str
    request_id: str
    started: float
    streamed: bool = False
    scheme: str = ""
    """HTTP's: http or https."""
    story: Story | None = None
    """Of the one prediction that it is, where it is one."""
    code: str = ""
    """How it ended: a gRPC status, or HTTP's."""
    failed: bool = False
    error: StatusError | None = None
    over_at: float = 0.0
    trace: Any = None
    """Where it is traced: the tracer's own."""
    following: "Following | None" = None

    def ids(self) -> dict[str, str]:
        """Under what the log speaks of it."""
        ids = {"request_id": self.request_id}
        return ids if self.trace is None else {**ids, **self.trace.ids()}

    def answering(self, story: Story) -> None:
        """A prediction is about to be answered: not after, as what it is part of may end with it."""
        if not self.streamed:
            self.story = story
        elif self.following is not None:
            self.following.item(self, story)

    def over(self, error: StatusError | None) -> None:
        """The RPC has ended."""
        code = Code.OK if error is None else error.code
        self.ended(code.name, error, failed=error is not None)

    def ended(self, code: str, error: StatusError | None, *, failed: bool) -> None:
        """It has ended."""
        self.code, self.error, self.failed, self.over_at = code, error, failed, time.monotonic()
        following, self.following = self.following, None
        if following is not None:
            following.end(self)


class Follower(Protocol):
    """Who wants to know."""

    def wants(self, metadata: Metadata) -> bool:
        """Whether a request that came is to be followed; an HTTP request's metadata are the fields of its head."""

    def begin(self, followed: Followed, metadata: Metadata) -> None:
        """One that somebody wants begins."""

    def item(self, followed: Followed, story: Story) -> None:
        """An item of a stream was answered."""

    def end(self, followed: Followed) -> None:
        """A request has ended."""


class Following:
    """Puts itself between what carries requests and what answers them."""

    def __init__(self, followers: list[Follower], soon: Callable[..., object]) -> None:
        """`soon` calls back when what there is to do now is done: answers go out before anybody is told of them."""
        self._followers = followers
        self._soon = soon

    def item(self, followed: Followed, story: Story) -> None:
        """Tell of an item."""
        story.ended = time.monotonic()
        for follower in self._followers:
            self._soon(follower.item, followed, story)

    def end(self, followed: Followed) -> None:
        """Tell of a request."""
        for follower in self._followers:
            self._soon(follower.end, followed)

    def _begin(self, followed: Followed, metadata: Metadata, wanting: list[Follower]) -> Followed:
        followed.following = self
        for follower in wanting:
            follower.begin(followed, metadata)
        return followed

    # RPCs.

    def routes(self, routes: Routes) -> Routes:
        """The same routes, followed."""
        return {method: self._route(method, route) for method, route in routes.items()}

    def _route(self, method: str, route: Unary | Streaming) -> Unary | Streaming:
        name = "" if method == ANY else method
        if isinstance(route, Unary):
            return Unary(partial(self._handle, name, route))
        return Streaming(partial(self._open, name, route))

    def _handle(self, name: str, route: Unary, call: Call, message: bytes) -> None:
        followed = self._rpc(name, call, streamed=False)
        if followed is None:
            route.handle(call, message)
        else:
            watched.handle(route, _FollowedCall(call, followed), message)

    def _open(self, name: str, route: Streaming, stream: Stream) -> Receiver:
        followed = self._rpc(name, stream, streamed=True)
        if followed is None:
            return route.open(stream)
        return watched.opened(route, _FollowedStream(stream, followed))

    def _rpc(self, name: str, call: Call | Stream, *, streamed: bool) -> Followed | None:
        wanting = [follower for follower in self._followers if follower.wants(call.metadata)]
        if not wanting:
            return None
        followed = Followed(name, call.method, "", call.peer, call.request_id, time.monotonic(), streamed)
        return self._begin(followed, call.metadata, wanting)

    # HTTP.

    def path(self, path: str, application: Any) -> Any:
        """An ASGI application, followed."""
        return _FollowedPath(self, path, application)

    def http(self, path: str, scope: Any) -> Followed | None:
        """An HTTP request begins, if anybody wants it."""
        metadata = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        wanting = [follower for follower in self._followers if follower.wants(metadata)]
        if not wanting:
            return None
        number = request_id.accepted(dict(metadata).get(request_id.HEADER)) or request_id.made()
        # Whatever answers must find the same.
        scope["headers"] = [*(pair for pair in scope["headers"] if pair[0] != _ID), (_ID, number.encode())]
        peer = located(*(scope.get("client") or ("", 0)))
        followed = Followed(
            path, scope["path"], scope["method"], peer, number, time.monotonic(), scheme=scope.get("scheme", "")
        )
        scope.setdefault("state", {})[FOLLOWER] = followed
        return self._begin(followed, metadata, wanting)

    # Predictions.

    def exchange(self, backend: Backend, form: Form, method: str, asker: Asker, answer: Callable[[Any], None]) -> Any:
        """Makes exchanges in the place of `backend`."""
        kind = Exchange if asker.follower is None else _FollowedExchange
        return kind(backend, form, method, asker, answer)


class _FollowedPath:
    """An ASGI application of which is told how it answers."""

    def __init__(self, following: Following, path: str, application: Any) -> None:
        self._following = following
        self._path = path
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        followed = self._following.http(self._path, scope)
        if followed is None:
            await self._application(scope, receive, send)
            return
        status = CLIENT_GONE

        async def noted(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._application(scope, receive, noted)
        finally:
            error = None if followed.story is None else followed.story.error
            followed.ended(str(status), error, failed=status >= HTTPStatus.BAD_REQUEST)


class _FollowedCall(WatchedCall):
    """A unary call."""

    __slots__ = ()

    def __init__(self, call: Call, followed: Followed) -> None:
        super().__init__(call, followed.over)
        self.follower = followed


class _FollowedStream(WatchedStream):
    """A streaming call."""

    __slots__ = ()

    def __init__(self, stream: Stream, followed: Followed) -> None:
        super().__init__(stream, followed.over)
        self.follower = followed


class _FollowedRequest(Request):
    """What a followed exchange submits: it remembers when it was pulled, and the batches that it was in."""

    __slots__ = ("pulled", "ran")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.pulled: float | None = None
        self.ran: list[Ran] = []


class Witness(Observer):
    """Tells a batcher's own observer everything, and followed requests what becomes of them."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._batches = 0

    def pulled(self, request: Request, waited: float) -> None:
        self._observer.pulled(request, waited)
        if isinstance(request, _FollowedRequest):
            request.pulled = request.arrival + waited

    def ran(self, batch: Batch, execution: Execution) -> None:
        self._observer.ran(batch, execution)
        self._batches += 1
        ran = None
        for request, _, _ in batch.pieces:
            if isinstance(request, _FollowedRequest):
                if ran is None:
                    ran = Ran(self._batches, batch.rows, len(batch.pieces), batch.reason, execution)
                request.ran.append(ran)


class _FollowedExchange(Exchange):
    """One prediction."""

    __slots__ = ()

    submission = _FollowedRequest

    def finish(self, result: Any) -> None:
        self._asker.follower.answering(self._story(result if isinstance(result, StatusError) else None))
        super().finish(result)

    def cancel(self) -> None:
        if self._submitted is not None and not self._submitted.finished:
            self._asker.follower.answering(self._story(gone()))
        super().cancel()

    def _story(self, error: StatusError | None) -> Story:
        version = self._version
        story = Story(self._form.model, UNKNOWN if version is None else version.label, self.started, error=error)
        submitted = self._submitted
        if isinstance(submitted, _FollowedRequest):
            story.rows, story.queued = submitted.rows, True
            story.pulled, story.ran = submitted.pulled, submitted.ran
        return story
