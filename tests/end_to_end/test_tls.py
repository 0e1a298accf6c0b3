"""A server that speaks TLS: started, refused, asked by those that may ask, and stopped."""

import asyncio
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator

import grpc
import pytest

from serving.client import AsyncPredictionClient, PredictionClient, PredictionError, Tls
from tests.end_to_end.server import ServerProcess
from tests.serving.certificates import Certificates, Identity, issue


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def guarded(transport: str, certificates: Certificates) -> Iterator[ServerProcess]:
    """One that asks for certificates."""
    flags = ("--transport", transport, "--tls-client-ca", certificates.client_ca)
    with ServerProcess(*flags, certificates=certificates) as server:
        yield server.wait_ready()


def shown(certificates: Certificates, identity: Identity) -> Tls:
    return Tls(certificates.ca, identity.certificate, identity.key)


def test_who_shows_a_certificate_is_answered(guarded: ServerProcess, certificates: Certificates) -> None:
    with PredictionClient(guarded.address, tls=shown(certificates, certificates.client)) as client:
        assert client.is_ready()
        assert client.predict_sentiment("A wonderful film.")[0].sentiment == "positive"
        assert len(client.predict_topic(["x " * 4000] * 500)) == 500, "four megabytes"
        with client.pipeline() as pipeline:
            calls = [pipeline.predict_house_price({"rooms": 6}) for _ in range(100)]
        assert all(call.result()[0].price_usd > 0 for call in calls)


@pytest.mark.asyncio
async def test_an_awaited_client_is_answered_too(guarded: ServerProcess, certificates: Certificates) -> None:
    async with AsyncPredictionClient(guarded.address, tls=shown(certificates, certificates.client)) as client:
        answers = await asyncio.gather(*(client.predict_house_price({"rooms": 6}) for _ in range(100)))
        assert len(answers) == 100


@pytest.mark.parametrize("who", ["nobody", "a stranger", "who trusts others", "who speaks no TLS"])
def test_nobody_else_is(guarded: ServerProcess, certificates: Certificates, who: str) -> None:
    tls = {
        "nobody": Tls(certificates.ca),
        "a stranger": shown(certificates, certificates.stranger),
        "who trusts others": Tls(certificates.other_ca, certificates.client.certificate, certificates.client.key),
        "who speaks no TLS": None,
    }[who]
    with (
        PredictionClient(guarded.address, tls=tls) as client,
        pytest.raises(PredictionError) as caught,
    ):
        client.is_ready()
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_metrics_and_health_are_in_the_open(guarded: ServerProcess) -> None:
    with urllib.request.urlopen(guarded.metrics.replace("/metrics", "/health/ready"), timeout=30) as page:
        assert page.status == 200


def test_curl_shows_a_certificate_or_is_refused(guarded: ServerProcess, certificates: Certificates) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not here")
    url = f"https://{guarded.address}/grpc.health.v1.Health/Check"
    command = [curl, "--silent", "--http2", "--cacert", certificates.ca, "--data-binary", "@-", "--include", url]
    command += ["-Hcontent-type: application/grpc", "-Hte: trailers"]
    own = ["--cert", certificates.client.certificate, "--key", certificates.client.key]
    done = subprocess.run([*command, *own], input=bytes(5), capture_output=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.startswith(b"HTTP/2 200")
    assert b"grpc-status: 0" in done.stdout
    assert subprocess.run(command, input=bytes(5), capture_output=True, timeout=60).returncode != 0
    assert subprocess.run([*command, *own, "--http1.1"], input=bytes(5), timeout=60).returncode != 0


def test_what_is_in_flight_at_the_end_is_answered(transport: str, certificates: Certificates) -> None:
    with (
        ServerProcess("--transport", transport, certificates=certificates) as server,
        PredictionClient(server.wait_ready().address, tls=server.tls, timeout=60) as client,
    ):
        pipeline = client.pipeline(max_in_flight=1000)
        calls = [pipeline.predict_topic(["x " * 500] * 20) for _ in range(50)]
        calls[0].result()
        server.process.send_signal(signal.SIGTERM)
        outcomes = [call.exception() for call in calls]
        pipeline.close()
        assert server.exit_code() == 0
        for outcome in outcomes:
            assert outcome is None or (isinstance(outcome, PredictionError) and "UNAVAILABLE" in str(outcome))
        [stopped] = [line for line in server.lines if line["event"] == "stopped"]
        assert stopped["answered"] == outcomes.count(None) >= 1
        assert "Traceback" not in server.output


def test_workers_share_it(certificates: Certificates) -> None:
    flags = ("--transport", "native", "--workers", "2")
    with ServerProcess(*flags, certificates=certificates) as server:
        server.wait_ready()
        for _ in range(8):
            with PredictionClient(server.address, tls=server.tls) as client:
                assert client.predict_house_price({"rooms": 6})[0].price_usd > 0
        server.terminate()
        assert server.exit_code() == 0
        answered = [line["answered"] for line in server.lines if line["event"] == "stopped" and "answered" in line]
        assert sum(answered) == 8


@pytest.mark.parametrize("flags", [(), ("--workers", "2")], ids=["one", "workers"])
def test_a_key_of_another_keeps_the_server_from_starting(certificates: Certificates, flags: tuple[str, ...]) -> None:
    files = ("--tls-certificate", certificates.server.certificate, "--tls-key", certificates.client.key)
    with ServerProcess("--transport", "native", *files, *flags) as server:
        assert server.exit_code() == 2
        assert re.fullmatch(r"triptych: tls_key='.*client\.key': not the key of .*server\.pem", server.output)


def test_a_certificate_without_its_key_keeps_the_server_from_starting(certificates: Certificates) -> None:
    with ServerProcess("--tls-certificate", certificates.server.certificate) as server:
        assert server.exit_code() == 2
        assert server.output.endswith(" needs tls_key")
