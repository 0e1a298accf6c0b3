"""An HTTP client in memory: it speaks ASGI to the application, as a server would."""

import asyncio
from collections import deque
from typing import Any, NamedTuple

import msgspec

from serving.api.rest.endpoint import ON_DISCONNECT


class Answer(NamedTuple):
    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> str:
        """The message, of an answer that is an error and nothing else."""
        assert self.fields["content-type"] == "application/json"
        assert next(iter(self.json)) == "error"
        assert self.fields["x-request-id"] == self.json["request_id"]
        message: str = self.json["error"]
        return message


class Asked:
    """One request on its way."""

    def __init__(
        self, application: Any, method: str, path: str, parts: list[bytes], fields: dict[str, str], *, ends: bool
    ) -> None:
        self.parts = deque(parts)
        self._ends = ends
        self.taken = 0
        """Parts of the body that were read."""
        self.taken_before_answer = 0
        self.sent: list[dict[str, Any]] = []
        self._gone = asyncio.Event()
        self._state: dict[str, Any] = {}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "root_path": "",
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items()],
            "state": self._state,
        }
        self.task = asyncio.ensure_future(application(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self.parts:
            self.taken += 1
            body = self.parts.popleft()
            return {"type": "http.request", "body": body, "more_body": bool(self.parts) or not self._ends}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if not self.sent:
            self.taken_before_answer = self.taken
        self.sent.append(message)

    def disconnect(self) -> None:
        """What a server does when the client is gone."""
        self._gone.set()
        told = self._state.pop(ON_DISCONNECT, None)
        if told is not None:
            told()

    async def answer(self) -> Answer:
        async with asyncio.timeout(10):
            await self.task
        start, *rest = self.sent
        assert start["type"] == "http.response.start"
        assert all(message["type"] == "http.response.body" for message in rest)
        assert not rest[-1].get("more_body", False)
        fields = {name.decode(): value.decode() for name, value in start["headers"]}
        assert len(fields) == len(start["headers"]), "no field twice"
        body = b"".join(message.get("body", b"") for message in rest)
        assert int(fields["content-length"]) == len(body)
        return Answer(start["status"], fields, body)


class Client:
    """Asks an application."""

    def __init__(self, application: Any) -> None:
        self.application = application

    def begin(
        self, method: str, path: str, body: bytes | list[bytes] | Any = b"", *, ends: bool = True, **fields: str
    ) -> Asked:
        """Send a request: bytes, bytes in parts, or an object as JSON, or no more than the beginning of it.

        `_` in a field's name is `-`.
        """
        if isinstance(body, dict):
            body = msgspec.json.encode(body)
        parts = body if isinstance(body, list) else [body]
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return Asked(self.application, method, path, parts, named, ends=ends)

    async def get(self, path: str, **fields: str) -> Answer:
        return await self.begin("GET", path, **fields).answer()

    async def post(self, path: str, body: bytes | list[bytes] | Any = b"", **fields: str) -> Answer:
        return await self.begin("POST", path, body, **fields).answer()
