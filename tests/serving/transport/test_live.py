"""Certificates that change while connections live: new handshakes take the new ones, on every transport."""

import asyncio
import contextlib
import logging
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
import uvloop

from serving.api.call import Unary
from serving.transport import live
from serving.transport.certificate import not_after
from serving.transport.grpcio import GrpcioTransport
from serving.transport.http.transport import HttpTransport
from serving.transport.interface import Transport
from serving.transport.live import LiveTls
from serving.transport.native.limits import Limits
from serving.transport.native.transport import NativeTransport
from serving.transport.tls import Tls
from tests.serving.certificates import Certificates, Identity, identity

PATIENCE = 30.0

KINDS: dict[str, Callable[[LiveTls], Transport]] = {
    "grpcio": lambda tls: GrpcioTransport(1 << 20, tls),
    "native": lambda tls: NativeTransport(Limits(), tls),
}


class Files:
    """Where a server's files lie, and what it makes of them."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self.folder = folder
        self.put(certificates.server, certificates.client_ca)
        self.told: list[tuple[str, bool]] = []
        self.expiries: list[float] = []
        files = (str(folder / name) for name in ("tls.crt", "tls.key", "ca.crt"))
        self.tls = LiveTls(Tls(*files), lambda kind, *, loaded: self.told.append((kind, loaded)), self.expiries.append)

    def put(self, server: Identity | None = None, client_ca: str | None = None) -> None:
        if server is not None:
            shutil.copy(server.certificate, self.folder / "tls.crt")
            shutil.copy(server.key, self.folder / "tls.key")
        if client_ca is not None:
            shutil.copy(client_ca, self.folder / "ca.crt")

    def reload(self) -> None:
        self.tls.reloaded.look()
        self.tls.reloaded.look()


@pytest.fixture
def files(tmp_path: Path, certificates: Certificates) -> Files:
    return Files(tmp_path, certificates)


@asynccontextmanager
async def serving(kind: str, files: Files) -> AsyncIterator[int]:
    transport = KINDS[kind](files.tls)
    port = transport.bind("127.0.0.1:0")
    await transport.start({"/t/Who": Unary(lambda call, _: call.reply(getattr(call.peer, "identity", "").encode()))})
    try:
        async with asyncio.timeout(PATIENCE):
            yield port
    finally:
        await transport.stop(0)


def channel(port: int, ca: str, client: Identity) -> Any:
    trust = grpc.ssl_channel_credentials(
        Path(ca).read_bytes(), Path(client.key).read_bytes(), Path(client.certificate).read_bytes()
    )
    # Channels of one process share connections where they are alike: not these.
    return grpc.aio.secure_channel(
        f"localhost:{port}", trust, [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    )


async def who(port: int, ca: str, client: Identity) -> str | None:
    """Who the server says that is; None where it is not let in, or does not trust the server."""
    async with channel(port, ca, client) as made:
        with contextlib.suppress(grpc.aio.AioRpcError):
            answer: bytes = await made.unary_unary("/t/Who")(b"", timeout=PATIENCE)
            return answer.decode()
    return None


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", KINDS)
async def test_new_handshakes_take_the_new_files_and_connections_live_on(
    kind: str, files: Files, certificates: Certificates, tmp_path: Path
) -> None:
    new = trustme.CA()
    new.cert_pem.write_to_path(str(tmp_path / "new-ca.pem"))
    new_ca, renewed = str(tmp_path / "new-ca.pem"), identity(tmp_path, "renewed", new)
    old = (certificates.ca, certificates.client)
    async with serving(kind, files) as port, channel(port, *old) as before:
        ask = before.unary_unary("/t/Who")
        assert await ask(b"") == b"localhost"
        assert await who(port, new_ca, certificates.client) is None

        files.put(renewed)
        files.reload()
        assert await who(port, new_ca, certificates.client) == "localhost"
        assert await who(port, *old) is None
        assert await ask(b"") == b"localhost", "the connection lives on"

        files.put(None, certificates.other_ca)
        files.reload()
        assert await who(port, new_ca, certificates.client) is None, "their CA was taken away"
        assert await who(port, new_ca, certificates.stranger) == "localhost"
        assert await ask(b"") == b"localhost"
        assert files.told == [("tls", True)] * 2


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", KINDS)
async def test_files_that_can_not_be_used_change_nothing(
    kind: str, files: Files, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    good = (certificates.ca, certificates.client)
    async with serving(kind, files) as port:
        for name, text in (("tls.crt", "junk"), ("tls.key", "junk"), ("ca.crt", "")):
            before = (files.folder / name).read_text()
            (files.folder / name).write_text(text)
            files.reload()
            assert await who(port, *good) == "localhost"
            (files.folder / name).write_text(before)
            files.reload()
        shutil.copy(certificates.client.key, files.folder / "tls.key")
        files.reload()
        assert await who(port, *good) == "localhost"
    assert files.told == [("tls", False), ("tls", True)] * 3 + [("tls", False)]
    refused = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(refused) == 4
    assert "not the key of" in refused[-1].__dict__["reason"]


@pytest.mark.asyncio
async def test_http_takes_them_too(files: Files, certificates: Certificates, tmp_path: Path) -> None:
    transport = HttpTransport(files.tls)
    port = transport.bind("127.0.0.1:0")

    async def empty(scope: Any, receive: Any, send: Any) -> None:
        body = getattr(scope["client"][0], "identity", "").encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    await transport.start(empty)
    own = certificates.client

    async def ask(ca: str) -> bytes | None:
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(own.certificate, own.key)
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = await reader.readuntil(b"\r\n\r\n")
            answer += await reader.read(9)
            writer.transport.abort()
            return answer
        return None

    new = trustme.CA()
    new.cert_pem.write_to_path(str(tmp_path / "new-ca.pem"))
    async with asyncio.timeout(PATIENCE):
        answer = await ask(certificates.ca)
        assert answer is not None
        assert answer.endswith(b"\r\n\r\nlocalhost")
        files.put(identity(tmp_path, "renewed", new))
        files.reload()
        assert await ask(certificates.ca) is None
        assert await ask(str(tmp_path / "new-ca.pem")) is not None
    await transport.stop(0)


# Expiry.


def issued(folder: Path, ca: trustme.CA, name: str, until: datetime) -> Identity:
    made = ca.issue_cert("localhost", "127.0.0.1", not_before=until - timedelta(days=365), not_after=until)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(made.cert_chain_pems[0].bytes())
    made.private_key_pem.write_to_path(str(key))
    return Identity(str(certificate), str(key))


@pytest.mark.parametrize("until", [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2051, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize("kind", trustme.KeyType)
def test_when_a_certificate_expires_is_read(tmp_path: Path, until: datetime, kind: trustme.KeyType) -> None:
    made = trustme.CA(key_type=kind).issue_cert(
        "a.example", not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=until
    )
    pem = b"".join(each.bytes() for each in made.cert_chain_pems)
    assert not_after(pem) == until.timestamp()
    assert not_after(b"Bag Attributes\n" + pem + b"-----BEGIN") == until.timestamp()


@pytest.mark.parametrize("what", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_never_expires(what: bytes) -> None:
    with pytest.raises(ValueError, match="no time of expiry"):
        not_after(what)


@pytest.mark.parametrize(
    ("left", "level", "words"),
    [
        (timedelta(days=-1), "ERROR", "the server's certificate has expired: clients refuse it"),
        (timedelta(days=3), "WARNING", "the server's certificate expires soon"),
        (timedelta(days=30), None, None),
    ],
)
def test_a_certificate_that_has_expired_or_soon_will_is_spoken_of(
    files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture, left: timedelta, level: str | None, words: str
) -> None:
    caplog.set_level(logging.WARNING)
    until = (datetime.now(UTC) + left).replace(microsecond=0)
    files.put(issued(tmp_path, trustme.CA(), "aged", until))
    files.reload()
    assert files.expiries[-1] == until.timestamp()
    assert [(record.levelname, record.message) for record in caplog.records] == [(level, words)] * (level is not None)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", KINDS)
async def test_an_expired_certificate_is_refused_the_servers_and_the_clients(
    kind: str, files: Files, certificates: Certificates, tmp_path: Path
) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    ca, client_ca = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "aged-ca.pem"))
    client_ca.cert_pem.write_to_path(str(tmp_path / "aged-client-ca.pem"))
    aged = issued(tmp_path, client_ca, "aged-client", past)
    fresh = identity(tmp_path, "fresh-client", client_ca)
    files.put(None, str(tmp_path / "aged-client-ca.pem"))
    files.reload()
    async with serving(kind, files) as port:
        assert await who(port, certificates.ca, aged) is None
        assert await who(port, certificates.ca, fresh) == "localhost"
        files.put(issued(tmp_path, ca, "aged-server", past))
        files.reload()
        assert await who(port, str(tmp_path / "aged-ca.pem"), fresh) is None


# Handshakes.


def test_only_so_many_handshakes_are_under_way_and_their_every_end_makes_room(
    files: Files, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_HANDSHAKES", 3)

    async def main() -> None:
        errors: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        context = files.tls.context()
        under_way = context._handshakes  # type: ignore[attr-defined]
        monkeypatch.setattr(files.tls, "context", lambda: context)
        transport = NativeTransport(Limits(), files.tls)
        port = transport.bind("127.0.0.1:0")
        await transport.start({"/t/Who": Unary(lambda call, _: call.reply(b""))})

        async def count(wanted: int) -> None:
            while len(under_way) != wanted:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)

        async with asyncio.timeout(PATIENCE):
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            await count(3)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b"", "closed unheard"
            writer.close()
            for end in ("close", "abort", "junk"):
                _, writer = silent.pop()
                if end == "close":
                    writer.close()
                elif end == "abort":
                    writer.transport.abort()
                else:
                    writer.write(b"GET / HTTP/1.1\r\n\r\n")
                await count(len(silent))
                if end == "junk":
                    writer.close()
            assert await who(port, certificates.ca, certificates.client) == ""
            await count(0)
        await transport.stop(0)
        assert not errors

    uvloop.run(main())


def test_a_handshake_that_nobody_ends_is_not_counted_for_ever(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MAX_HANDSHAKES", 1)
    context = files.tls.context()
    held = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    with pytest.raises(ConnectionAbortedError):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    now = time.monotonic()
    monkeypatch.setattr(live.time, "monotonic", lambda: now + live.HANDSHAKE_SECONDS + 1)
    assert context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True) is not held


# Connections.


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", KINDS)
async def test_only_so_many_connections_are_taken(kind: str) -> None:
    transport: Transport
    if kind == "native":
        transport = NativeTransport(Limits(max_connections=2))
    else:
        transport = GrpcioTransport(1 << 20, max_connections=2)
    port = transport.bind("127.0.0.1:0")
    await transport.start({"/t/Echo": Unary(lambda call, message: call.reply(message))})
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        for _ in range(2):
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options))
            assert await channel.unary_unary("/t/Echo")(b"in") == b"in"
        third = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await third.unary_unary("/t/Echo")(b"out", timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await channel.unary_unary("/t/Echo")(b"still in") == b"still in"
        await channel.close()
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                assert await third.unary_unary("/t/Echo")(b"in now", timeout=5) == b"in now"
                break
    await transport.stop(0)
