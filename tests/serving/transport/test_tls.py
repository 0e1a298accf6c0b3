"""TLS on both transports: real clients and their certificates, and peers that never get as far as HTTP/2."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme

from serving.api.call import Call, Unary
from serving.transport.grpcio import GrpcioTransport
from serving.transport.interface import Transport
from serving.transport.native.frames import PREFACE, settings
from serving.transport.native.limits import Limits
from serving.transport.native.transport import NativeTransport
from serving.transport.tls import ALPN, Tls, TlsError
from tests.serving.certificates import Certificates, Identity, identity, live

PATIENCE = 30.0
HELLO = PREFACE + settings({})
LARGE = bytes(range(256)) * 40_000
"""Ten megabytes: more than any buffer on the way."""

Make = Callable[[Tls, float], Transport]
MESSAGE = 2 * len(LARGE)
KINDS: dict[str, Make] = {
    "grpcio": lambda tls, seconds: GrpcioTransport(MESSAGE, live(tls), handshake_timeout=seconds),
    "native": lambda tls, seconds: NativeTransport(Limits(MESSAGE, handshake_timeout=seconds), live(tls)),
}


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Make:
    """Every test with it is run on each transport."""
    return KINDS[request.param]


class Rig:
    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.port = transport.bind("127.0.0.1:0")
        self.calls: asyncio.Queue[Call] = asyncio.Queue()

    def hold(self, call: Call, message: bytes) -> None:
        self.calls.put_nowait(call)

    async def refuses(self, hello: bytes, context: ssl.SSLContext | None) -> bytes:
        """Connect, say so, and give what comes until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        heard = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            writer.write(hello)
            heard = await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
        return heard


@asynccontextmanager
async def serving(make: Make, tls: Tls, handshake_timeout: float = PATIENCE) -> AsyncIterator[Rig]:
    rig = Rig(make(tls, handshake_timeout))
    await rig.transport.start({"/t/Echo": Unary(lambda call, message: call.reply(message)), "/t/Hold": Unary(rig.hold)})
    try:
        async with asyncio.timeout(PATIENCE):
            yield rig
    finally:
        await rig.transport.stop(0)


def tls_of(certificates: Certificates, client_ca: str = "") -> Tls:
    return Tls(certificates.server.certificate, certificates.server.key, client_ca)


def credentials(ca: str, client: Identity | None = None) -> grpc.ChannelCredentials:
    key, certificate = (Path(client.key), Path(client.certificate)) if client else (None, None)
    return grpc.ssl_channel_credentials(
        Path(ca).read_bytes(), key and key.read_bytes(), certificate and certificate.read_bytes()
    )


async def ask(rig: Rig, trust: grpc.ChannelCredentials | None, message: bytes = b"hello") -> bytes:
    options = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
    target = f"localhost:{rig.port}"
    channel = (
        grpc.aio.insecure_channel(target, options) if trust is None else grpc.aio.secure_channel(target, trust, options)
    )
    async with channel:
        answer: bytes = await channel.unary_unary("/t/Echo")(message, timeout=PATIENCE)
        return answer


async def is_refused(rig: Rig, trust: grpc.ChannelCredentials | None) -> bool:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(rig, trust)
    return bool(caught.value.code() is grpc.StatusCode.UNAVAILABLE)


def client_context(certificates: Certificates, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificates.ca)
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


# Clients that get through, and those that do not.


@pytest.mark.asyncio
async def test_a_client_that_trusts_the_server_is_answered(make: Make, certificates: Certificates) -> None:
    async with serving(make, tls_of(certificates)) as rig:
        assert await ask(rig, credentials(certificates.ca)) == b"hello"
        assert await ask(rig, credentials(certificates.ca, certificates.client)) == b"hello", "asked for or not"
        assert await ask(rig, credentials(certificates.ca), LARGE) == LARGE


@pytest.mark.asyncio
async def test_a_synchronous_client_is_answered_too(make: Make, certificates: Certificates) -> None:
    async with serving(make, tls_of(certificates)) as rig:

        def ask() -> bytes:
            with grpc.secure_channel(f"localhost:{rig.port}", credentials(certificates.ca)) as channel:
                answer: bytes = channel.unary_unary("/t/Echo")(b"hello", timeout=PATIENCE)
                return answer

        assert await asyncio.to_thread(ask) == b"hello"


@pytest.mark.asyncio
async def test_a_client_that_does_not_trust_the_server_goes(make: Make, certificates: Certificates) -> None:
    async with serving(make, tls_of(certificates)) as rig:
        assert await is_refused(rig, credentials(certificates.other_ca))
        assert await ask(rig, credentials(certificates.ca)) == b"hello"


@pytest.mark.asyncio
async def test_clients_must_show_a_certificate_where_one_is_asked_for(make: Make, certificates: Certificates) -> None:
    async with serving(make, tls_of(certificates, certificates.client_ca)) as rig:
        assert await ask(rig, credentials(certificates.ca, certificates.client)) == b"hello"
        assert await is_refused(rig, credentials(certificates.ca))
        assert await is_refused(rig, credentials(certificates.ca, certificates.stranger))
        assert await is_refused(rig, None)


@pytest.mark.asyncio
async def test_many_connections_and_calls(make: Make, certificates: Certificates) -> None:
    async with serving(make, tls_of(certificates)) as rig:
        trust = credentials(certificates.ca)
        bodies = [b"%d" % n for n in range(50)]
        assert await asyncio.gather(*(ask(rig, trust, body) for body in bodies)) == bodies


@pytest.mark.asyncio
async def test_what_is_in_flight_is_answered_before_the_end(make: Make, certificates: Certificates) -> None:
    async with (
        serving(make, tls_of(certificates)) as rig,
        grpc.aio.secure_channel(f"localhost:{rig.port}", credentials(certificates.ca)) as channel,
    ):
        call = channel.unary_unary("/t/Hold")(b"")
        held = await rig.calls.get()
        stop = asyncio.create_task(rig.transport.stop(PATIENCE))
        while True:  # until the port takes no connection
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            except ConnectionRefusedError:
                break
            except ConnectionResetError:
                continue
            writer.close()
        assert not stop.done()
        held.reply(b"in time")
        assert await call == b"in time"
        await stop


# Peers that never speak HTTP/2.


@pytest.mark.asyncio
@pytest.mark.parametrize("protocols", [(), ("http/1.1",), ("http/1.1", "spdy/3"), ("h2c",)])
async def test_who_does_not_agree_on_h2_is_closed(
    make: Make, certificates: Certificates, protocols: tuple[str, ...]
) -> None:
    """RFC 9113, section 3.2."""
    async with serving(make, tls_of(certificates)) as rig:
        for hello in (HELLO, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            assert await rig.refuses(hello, client_context(certificates, *protocols)) == b""


@pytest.mark.asyncio
async def test_who_offers_h2_among_others_gets_it(make: Make, certificates: Certificates) -> None:
    async with serving(make, tls_of(certificates)) as rig:
        context = client_context(certificates, "http/1.1", "h2")
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        writer.write(HELLO)
        assert (await reader.readexactly(9))[3] == 4, "SETTINGS"
        writer.transport.abort()


@pytest.mark.asyncio
@pytest.mark.parametrize("hello", [HELLO, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(1000)])
async def test_what_is_no_tls_is_closed(make: Make, certificates: Certificates, hello: bytes) -> None:
    async with serving(make, tls_of(certificates)) as rig:
        heard = await rig.refuses(hello, None)
        assert heard[:1] in (b"", b"\x15"), "nothing, or an alert"
        assert await ask(rig, credentials(certificates.ca)) == b"hello"
        assert await is_refused(rig, None)


@pytest.mark.asyncio
@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_a_handshake_that_never_ends_is_cut(make: Make, certificates: Certificates, hello: bytes) -> None:
    async with serving(make, tls_of(certificates), handshake_timeout=0.05) as rig:
        assert await rig.refuses(hello, None) == b""


@pytest.mark.asyncio
async def test_a_handshake_under_way_does_not_hold_up_the_end(make: Make, certificates: Certificates) -> None:
    rig = Rig(make(tls_of(certificates), 1000))
    await rig.transport.start({})
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    async with asyncio.timeout(PATIENCE):
        await rig.transport.stop(1000)
    writer.close()


# What TLS may be.


@pytest.mark.asyncio
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_good_versions_are_spoken_with_good_ciphers(
    make: Make, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    async with serving(make, tls_of(certificates)) as rig:
        context = client_context(certificates, "h2")
        context.minimum_version = context.maximum_version = version
        _, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=context)
        name, spoken, _ = writer.get_extra_info("cipher")
        assert "GCM" in name or "CHACHA20" in name
        assert writer.get_extra_info("ssl_object").version() == spoken.replace("/", "") or spoken == "TLSv1.3"
        assert writer.get_extra_info("compression") is None
        writer.transport.abort()


@pytest.mark.asyncio
@pytest.mark.parametrize("ciphers", ["ECDHE+AES:!AESGCM", "RSA+AESGCM", "DHE+AESGCM"])
async def test_ciphers_that_http2_prohibits_are_refused(
    make: Make, certificates: Certificates, tmp_path: Path, ciphers: str
) -> None:
    """RFC 9113, section 9.2.2 and Appendix A, where a certificate would allow them."""
    ca = trustme.CA()
    server = identity(tmp_path, "rsa", ca, trustme.KeyType.RSA)
    async with serving(make, Tls(server.certificate, server.key)) as rig:
        context = ssl.create_default_context()
        ca.configure_trust(context)
        context.set_alpn_protocols(["h2"])
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", rig.port, ssl=context)


def test_every_cipher_on_offer_has_ephemeral_keys_and_is_aead(certificates: Certificates) -> None:
    context = tls_of(certificates).context((ALPN,))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    for cipher in context.get_ciphers():
        assert cipher["aead"], cipher["name"]
        assert cipher["protocol"] == "TLSv1.3" or cipher["kea"] == "kx-ecdhe", cipher["name"]


# Files.


def problem(certificate: str, key: str, client_ca: str = "") -> str:
    tls = Tls(certificate, key, client_ca)
    with pytest.raises(TlsError) as caught:
        live(tls)
    return str(caught.value)


def test_files_that_can_not_be_used_are_named_with_their_setting(certificates: Certificates, tmp_path: Path) -> None:
    server, missing, junk = certificates.server, str(tmp_path / "missing"), tmp_path / "junk"
    junk.write_text("junk")
    words: dict[str, Any] = {
        f"tls_certificate={missing!r}: No such file or directory": (missing, server.key),
        f"tls_key={missing!r}: No such file or directory": (server.certificate, missing),
        f"tls_client_ca={missing!r}: No such file or directory": (server.certificate, server.key, missing),
        f"tls_certificate={str(tmp_path)!r}: Is a directory": (str(tmp_path), server.key),
        f"tls_certificate={str(junk)!r}: no certificate in PEM": (str(junk), server.key),
        f"tls_key={str(junk)!r}: not a private key in PEM": (server.certificate, str(junk)),
        f"tls_key={server.certificate!r}: not a private key in PEM": (server.certificate, server.certificate),
        f"tls_client_ca={str(junk)!r}: no certificate in PEM": (server.certificate, server.key, str(junk)),
    }
    for message, files in words.items():
        assert problem(*files) == message


@pytest.mark.parametrize("kind", trustme.KeyType)
def test_a_key_must_be_that_of_its_certificate(
    certificates: Certificates, tmp_path: Path, kind: trustme.KeyType
) -> None:
    other = identity(tmp_path, "other", trustme.CA(), kind)
    certificate = certificates.server.certificate
    assert problem(certificate, other.key) == f"tls_key={other.key!r}: not the key of {certificate}"


def test_an_encrypted_key_is_refused_and_nobody_asked_for_its_password(
    certificates: Certificates, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_pem_private_key(Path(certificates.server.key).read_bytes(), None)
    file = tmp_path / "key"
    file.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret")))
    assert problem(certificates.server.certificate, str(file)) == (
        f"tls_key={str(file)!r}: encrypted; it must be readable without a password"
    )
