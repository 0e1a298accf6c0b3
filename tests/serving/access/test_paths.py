"""The gate before paths: what each needs, what is said to who may not, and that its place is given back."""

from typing import Any

import msgspec
import pytest
from starlette.routing import Route, Router

from serving.access import rights
from serving.access.gate import Gate
from serving.access.limits import Allowance, Clients
from serving.access.paths import Elsewhere, GuardedPath
from serving.access.tokens import MANAGE, PREDICT, Tokens, entry, make, read
from tests.serving.access.test_limits import Clock

HOST = "192.0.2.1"


class Path:
    """A path behind a gate, and what came of a request."""

    def __init__(self, path: str, tokens: Tokens | None = None, allowance: Allowance | None = None) -> None:
        self.clients = None if allowance is None else Clients(allowance, Clock())
        self.reached = 0
        self.fault: Exception | None = None
        self.during = -1
        gate = Gate(None if tokens is None else lambda: tokens, self.clients, lambda route, error: None)
        scopes = rights.needed(path)
        assert scopes is not None
        self.guarded = GuardedPath(path, scopes, self._answer, gate)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached += 1
        if self.clients is not None:
            self.during = self.clients.client(HOST).in_flight
        if self.fault is not None:
            raise self.fault
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(
        self,
        model: str | None = None,
        *,
        body: int = 0,
        application: Any = None,
        path: str = "/",
        method: str = "POST",
        **fields: str,
    ) -> Any:
        """The status and the fields of the answer, and how much of the body was read."""
        sent: list[Any] = []
        unread = [b"x" * 1000] * (body // 1000)

        async def receive() -> Any:
            part = unread.pop() if unread else b""
            return {"type": "http.request", "body": part, "more_body": bool(unread)}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(name.encode(), value.encode()) for name, value in fields.items()]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [*headers, (b"content-length", b"%d" % body)],
            "client": (HOST, 5),
            "path_params": {} if model is None else {"model": model},
        }
        await (application or self.guarded)(scope, receive, send)
        return sent[0]["status"], dict(sent[0]["headers"]), sent


@pytest.fixture
def secrets() -> dict[str, str]:
    return {name: make() for name in ("reader", "manager", "choosy")}


@pytest.fixture
def tokens(secrets: dict[str, str], tmp_path: Any) -> Tokens:
    file = tmp_path / "tokens.toml"
    file.write_text(
        entry(secrets["reader"], "reader", [PREDICT])
        + entry(secrets["manager"], "manager", [MANAGE])
        + entry(secrets["choosy"], "choosy", [PREDICT], ["house_price"])
    )
    return read(str(file))


LOAD = "/v2/repository/models/{model}/load"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "model", "who", "status"),
    [
        ("/v1/sentiment", None, "nobody", 401),
        ("/v1/sentiment", None, "reader", 200),
        ("/v1/sentiment", None, "manager", 403),
        ("/v1/sentiment", None, "choosy", 403),
        ("/v1/house-price", None, "choosy", 200),
        ("/v2/models/{model}/infer", "house_price", "choosy", 200),
        ("/v2/models/{model}/infer", "sentiment", "choosy", 403),
        ("/v2/models/{model}/versions/{version}", "sentiment", "choosy", 403),
        ("/v2/models/stats", None, "choosy", 403),
        ("/v2/models/stats", None, "reader", 200),
        ("/v2/repository/index", None, "choosy", 403),
        ("/v2/repository/index", None, "manager", 200),
        ("/v2", None, "choosy", 200),
        ("/openapi.json", None, "nobody", 401),
        (LOAD, "sentiment", "reader", 403),
        (LOAD, "sentiment", "manager", 200),
    ],
)
async def test_who_may_ask_what(
    tokens: Tokens, secrets: dict[str, str], path: str, model: str | None, who: str, status: int
) -> None:
    guarded = Path(path, tokens)
    fields = {"authorization": f"Bearer {secrets[who]}"} if who in secrets else {}
    found, head, sent = await guarded.ask(model, **fields)
    assert found == status
    assert guarded.reached == (status == 200)
    assert (b"www-authenticate" in head) is (status in (401, 403))
    if status != 200:
        assert msgspec.json.decode(sent[1]["body"])["error"]


@pytest.mark.asyncio
async def test_a_place_is_given_back_whatever_happens() -> None:
    path = Path("/v1/sentiment", allowance=Allowance(requests=1))
    assert path.clients is not None
    for fault in (None, RuntimeError()):
        path.fault = fault
        if fault is None:
            assert (await path.ask())[0] == 200
        else:
            with pytest.raises(RuntimeError):
                await path.ask()
        assert path.during == 1
        assert path.clients.client(HOST).in_flight == 0
    path.clients.client(HOST).take(0.0)
    status, head, _ = await path.ask()
    assert (status, head[b"retry-after"]) == (429, b"1")
    assert path.clients.client(HOST).in_flight == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(("body", "closes"), [(0, False), (60_000, False), (2_000_000, True)])
async def test_a_small_body_is_passed_over_and_a_large_one_ends_the_connection(
    tokens: Tokens, body: int, closes: bool
) -> None:
    status, head, sent = await Path("/v1/sentiment", tokens).ask(body=body)
    assert status == 401
    assert (head.get(b"connection") == b"close") is closes
    assert not sent[-1].get("more_body", False)


@pytest.mark.asyncio
async def test_what_is_done_elsewhere_says_so() -> None:
    for method in ("POST", "GET"):
        routed = Router([Route(LOAD, Elsewhere())])  # as the API has it
        status, _, sent = await Path(LOAD).ask(application=routed, path="/v2/repository/models/x/load", method=method)
        assert status == 403
        assert "management address" in msgspec.json.decode(sent[1]["body"])["error"]
