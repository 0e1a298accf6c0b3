"""A guarded server, attacked: certificates, tokens and scopes, management, names that climb, what gets into logs."""

import contextlib
import http.client
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from protos.prediction.v1 import prediction_pb2
from serving.access.tokens import MANAGE, PREDICT, entry, make
from serving.client import PredictionClient, PredictionError, Tls
from serving.transport.certificate import not_after
from tests.end_to_end.server import ServerProcess
from tests.serving import packages
from tests.serving.certificates import Certificates

MARKER = "Zxq7marker"
"""In every request that a test of the log makes."""

NASTY = f'{MARKER}\n{{"event": "forged"}}\r\x1b[31m\x00'
WAIT = 20.0


class Guarded:
    """A server with everything that guards one, and the keys to it."""

    def __init__(self, certificates: Certificates, folder: Path) -> None:
        self.certificates = certificates
        self.file = folder / "tokens.toml"
        self.reader, self.manager = make(), make()
        self.write(self.reader)
        self.process: ServerProcess
        self.management = self.management_http = ""

    def begin(self, process: ServerProcess) -> None:
        self.process = process
        event = process.wait_for("serving")
        process.address, process.http, process.metrics = event["grpc"], event["http"], event["metrics"]
        self.management, self.management_http = event["management"], event["management_http"]

    def write(self, *readers: str) -> None:
        text = "".join(entry(reader, "reader", [PREDICT]) for reader in readers)
        (self.file.parent / "new").write_text(text + entry(self.manager, "manager", [MANAGE]))
        (self.file.parent / "new").replace(self.file)

    @property
    def tls(self) -> Tls:
        own = self.certificates.client
        return Tls(self.certificates.ca, own.certificate, own.key)

    def client(self, token: str | None) -> PredictionClient:
        return PredictionClient(self.process.address, tls=self.tls, token=token, timeout=30)

    def channel(self, address: str | None = None) -> Any:
        return grpc.secure_channel(address or self.process.address, self.tls.credentials())

    def rpc(self, name: str, request: Any, token: str | None = None, address: str | None = None) -> Any:
        """An RPC of the Open Inference Protocol: its answer, or the code that it ended with."""
        metadata = [] if token is None else [("authorization", f"Bearer {token}")]
        with self.channel(address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                return getattr(stub, name)(request, metadata=metadata, timeout=30)
            except grpc.RpcError as error:
                return error

    def http(
        self,
        method: str,
        path: str,
        token: str | None = None,
        body: bytes = b"",
        address: str | None = None,
        **head: str,
    ) -> tuple[int, http.client.HTTPMessage, Any]:
        context = ssl.create_default_context(cafile=self.certificates.ca)
        context.load_cert_chain(self.certificates.client.certificate, self.certificates.client.key)
        port = int((address or self.process.http).rpartition(":")[2])
        connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=30)
        fields = head | ({} if token is None else {"Authorization": f"Bearer {token}"})
        connection.request(method, path, body, fields)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, answer.headers, json.loads(text) if text[:1] in (b"{", b"[") else text

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(self.process.metrics, timeout=30) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def code(answer: Any) -> grpc.StatusCode:
    return answer.code() if isinstance(answer, grpc.RpcError) else grpc.StatusCode.OK


@pytest.fixture(scope="module")
def guarded(
    transport: str, certificates_of_all: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("security")
    flags = ("--transport", transport, "--tls-client-ca", certificates_of_all.client_ca, "--log-level", "debug")
    flags += ("--tokens", str(folder / "tokens.toml"), "--model-control", "explicit", "--log-requests", "all")
    flags += ("--management-address", "127.0.0.1:0", "--management-http-address", "127.0.0.1:0")
    made = Guarded(certificates_of_all, folder)
    flags += ("--max-message-bytes", "100000", "--max-queue-rows", "64", "--max-text-tokens", "500")
    models = folder / "models"
    for name in ("sentiment", "house_price"):
        packages.copy(models, name)
    with ServerProcess(*flags, certificates=certificates_of_all, models=models) as process:
        made.begin(process)
        yield made


@pytest.fixture(scope="module")
def certificates_of_all(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    from tests.serving.certificates import issue

    return issue(tmp_path_factory.mktemp("certificates"))


def until(true: Any) -> None:
    end = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.02)


# Certificates.


def test_without_a_certificate_that_leads_to_the_right_ca_nobody_gets_in(guarded: Guarded) -> None:
    certificates = guarded.certificates
    stranger = certificates.stranger
    for tls in (Tls(certificates.ca), Tls(certificates.ca, stranger.certificate, stranger.key)):
        with PredictionClient(guarded.process.address, tls=tls, token=guarded.reader) as client:
            with pytest.raises(PredictionError) as caught:
                client.predict_house_price({"rooms": 6})
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        context = ssl.create_default_context(cafile=certificates.ca)
        if tls.certificate:
            context.load_cert_chain(stranger.certificate, stranger.key)
        port = int(guarded.process.http.rpartition(":")[2])
        connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=30)
        with contextlib.closing(connection), pytest.raises((ssl.SSLError, ConnectionError)):  # noqa: PT012 - either may
            connection.request("GET", "/v2/health/live")
            connection.getresponse()


def test_health_and_metrics_stay_in_plain_http_for_probes(guarded: Guarded) -> None:
    for path in ("health/live", "health/ready", "health/startup", "metrics"):
        with urllib.request.urlopen(guarded.process.metrics.replace("metrics", path), timeout=30) as page:
            assert page.status == 200
    assert guarded.metric("triptych_tls_certificate_expiry_timestamp_seconds") > time.time()


# Tokens.


def test_the_right_token_is_answered_in_every_api(guarded: Guarded) -> None:
    with guarded.client(guarded.reader) as client:
        assert client.predict_house_price({"rooms": 6})[0].price_usd > 0
        with client.pipeline() as pipeline:
            assert pipeline.predict_sentiment("A wonderful film.").result()[0].sentiment == "positive"
    status, _, found = guarded.http("POST", "/v1/sentiment", guarded.reader, b'{"reviews": ["A wonderful film."]}')
    assert (status, found["predictions"][0]["sentiment"]) == (200, "positive")
    assert guarded.rpc("ModelMetadata", pb.ModelMetadataRequest(name="sentiment"), guarded.reader).name == "sentiment"


@pytest.mark.parametrize("token", [None, "wrong", "triptych_" + "x" * 43])
def test_no_token_or_a_wrong_one_is_unauthenticated(guarded: Guarded, token: str | None) -> None:
    before = guarded.metric('triptych_rejected_total{model="unknown",reason="unauthorised"}')
    with guarded.client(token) as client, pytest.raises(PredictionError) as caught:
        client.predict_house_price({"rooms": 6})
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    with guarded.client(token) as client, client.pipeline() as pipeline:
        call = pipeline.predict_house_price({"rooms": 6})
        assert "UNAUTHENTICATED" in str(call.exception()) or "token" in str(call.exception())
    for name, request in (("ServerMetadata", pb.ServerMetadataRequest()), ("ModelInfer", pb.ModelInferRequest())):
        assert code(guarded.rpc(name, request, token)) is grpc.StatusCode.UNAUTHENTICATED
    with guarded.channel() as channel:
        metadata = None if token is None else [("authorization", f"Bearer {token}")]
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        with pytest.raises(grpc.RpcError) as refused:
            list(reflection.ServerReflectionInfo(asked, metadata=metadata, timeout=30))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    for method, path in (("POST", "/v1/house-price"), ("GET", "/v2"), ("GET", "/openapi.json"), ("GET", "/docs")):
        status, fields, found = guarded.http(method, path, token, b"{}" if method == "POST" else b"")
        assert status == 401
        challenge = 'Bearer realm="triptych"' + ("" if token is None else ', error="invalid_token"')
        assert fields["WWW-Authenticate"] == challenge
        assert "token" in found["error"]
    assert guarded.metric('triptych_rejected_total{model="unknown",reason="unauthorised"}') >= before + 9


def test_a_large_body_is_not_waited_for(guarded: Guarded) -> None:
    status, fields, _ = guarded.http("POST", "/v1/sentiment", "wrong", b"x" * 3_000_000)
    assert (status, fields["Connection"]) == (401, "close")
    status, fields, _ = guarded.http("POST", "/v1/sentiment", "wrong", b"x" * 1000)
    assert (status, fields["Connection"]) == (401, None)


def test_health_needs_no_token(guarded: Guarded) -> None:
    with guarded.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(service="readiness"), timeout=30).status == 1
        assert next(iter(health.Watch(health_pb2.HealthCheckRequest(), timeout=30))).status == 1
    assert guarded.rpc("ServerLive", pb.ServerLiveRequest()).live
    assert guarded.rpc("ServerReady", pb.ServerReadyRequest()).ready
    assert guarded.http("GET", "/v2/health/ready")[0] == 200


def test_a_scope_is_needed_and_the_other_is_of_no_use(guarded: Guarded) -> None:
    with guarded.client(guarded.manager) as client, pytest.raises(PredictionError) as caught:
        client.predict_house_price({"rooms": 6})
    assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED
    status, fields, _ = guarded.http("POST", "/v1/house-price", guarded.manager, b"{}")
    assert status == 403
    assert fields["WWW-Authenticate"] == 'Bearer realm="triptych", error="insufficient_scope"'
    load = pb.RepositoryModelLoadRequest(model_name="sentiment")
    for token, wanted in (
        (None, grpc.StatusCode.UNAUTHENTICATED),
        (guarded.reader, grpc.StatusCode.PERMISSION_DENIED),
        (guarded.manager, grpc.StatusCode.OK),
    ):
        assert code(guarded.rpc("RepositoryModelLoad", load, token, guarded.management)) is wanted


def test_a_token_is_rotated_under_load_without_a_failed_call(guarded: Guarded) -> None:
    old, new = guarded.reader, make()
    current, failures, calls = [old], list[str](), [0]
    done = threading.Event()

    def ask() -> None:
        with PredictionClient(guarded.process.address, tls=guarded.tls, token=lambda: current[0], timeout=30) as client:
            while not done.is_set():
                try:
                    client.predict_house_price({"rooms": 6})
                    calls[0] += 1
                except PredictionError as error:
                    failures.append(str(error))

    def valid(token: str) -> bool:
        return code(guarded.rpc("ServerMetadata", pb.ServerMetadataRequest(), token)) is grpc.StatusCode.OK

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        guarded.write(old, new)
        until(lambda: valid(new))
        assert valid(old), "both are good for as long as both are in the file"
        current[0] = new
        seen = calls[0]
        until(lambda: calls[0] > seen + 10)
        guarded.write(new)
        until(lambda: not valid(old))
        seen = calls[0]
        until(lambda: calls[0] > seen + 10)
    finally:
        done.set()
        for thread in threads:
            thread.join()
        guarded.reader = new
    assert not failures
    assert calls[0] > 20
    assert valid(new)


def test_a_tokens_file_that_is_broken_changes_nothing(guarded: Guarded) -> None:
    refused = 'triptych_file_reloads_total{outcome="refused",what="tokens"}'
    before = guarded.metric(refused)
    guarded.file.write_text(f"[[tokens]]\nname = '{MARKER}")
    until(lambda: guarded.metric(refused) == before + 1)
    with guarded.client(guarded.reader) as client:
        assert client.predict_house_price({"rooms": 6})[0].price_usd > 0
    assert [line for line in guarded.process.lines if line["event"] == "tokens not reloaded"]
    guarded.write(guarded.reader)


# Sizes.


@pytest.mark.parametrize(
    ("what", "reviews", "code_of_grpc", "status"),
    [
        ("message", ["x" * 200_000], grpc.StatusCode.RESOURCE_EXHAUSTED, 413),
        ("rows", ["x"] * 65, grpc.StatusCode.INVALID_ARGUMENT, 400),
        ("words", ["x " * 501], grpc.StatusCode.INVALID_ARGUMENT, 400),
    ],
)
def test_what_is_too_large_is_refused_in_every_api(
    guarded: Guarded, what: str, reviews: list[str], code_of_grpc: grpc.StatusCode, status: int
) -> None:
    with guarded.client(guarded.reader) as client:
        with pytest.raises(PredictionError) as caught:
            client.predict_sentiment(reviews)
        assert caught.value.code is code_of_grpc
    request = pb.ModelInferRequest(model_name="sentiment")
    request.inputs.add(name="text", datatype="BYTES", shape=[len(reviews)])
    request.inputs[0].contents.bytes_contents.extend(review.encode() for review in reviews)
    assert code(guarded.rpc("ModelInfer", request, guarded.reader)) is code_of_grpc
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(reviews)], "data": reviews}
    for path, body in (("/v1/sentiment", {"reviews": reviews}), ("/v2/models/sentiment/infer", {"inputs": [tensor]})):
        assert guarded.http("POST", path, guarded.reader, json.dumps(body).encode())[0] == status


# Management.


def test_models_are_managed_on_their_own_ports_and_nowhere_else(guarded: Guarded) -> None:
    name, manager = "sentiment", guarded.manager
    for rpc, request in (
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=name)),
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=name)),
    ):
        assert code(guarded.rpc(rpc, request, manager)) is grpc.StatusCode.PERMISSION_DENIED
        assert code(guarded.rpc(rpc, request, manager, guarded.management)) is grpc.StatusCode.OK
    for verb in ("unload", "load"):
        path = f"/v2/repository/models/{name}/{verb}"
        status, _, found = guarded.http("POST", path, manager)
        assert status == 403
        assert "management address" in found["error"]
        assert guarded.http("POST", path, guarded.reader, address=guarded.management_http)[0] == 403
        assert guarded.http("POST", path, address=guarded.management_http)[0] == 401
        assert guarded.http("POST", path, manager, address=guarded.management_http)[0] == 200
    index = guarded.rpc("RepositoryIndex", pb.RepositoryIndexRequest(), manager, guarded.management)
    assert {model.name for model in index.models} == {"sentiment", "house_price"}
    infer = guarded.rpc("ModelInfer", pb.ModelInferRequest(model_name=name), guarded.reader, guarded.management)
    assert code(infer) is grpc.StatusCode.UNIMPLEMENTED
    address = guarded.management_http
    assert guarded.http("POST", "/v1/house-price", guarded.reader, b"{}", address)[0] == 404
    assert guarded.http("GET", "/v2/health/live", address=address)[0] == 200


CLIMBS = ("../sentiment", "..", ".", "/etc/passwd", "sentiment/../../x", "..\\x", "sentiment/1", "%2e%2e", "a\x00b", "")


@pytest.mark.parametrize("name", CLIMBS)
def test_names_that_climb_are_names_of_nothing(guarded: Guarded, name: str) -> None:
    management = guarded.management
    refusals = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}
    load = pb.RepositoryModelLoadRequest(model_name=name)
    assert code(guarded.rpc("RepositoryModelLoad", load, guarded.manager, management)) in refusals
    unload = pb.RepositoryModelUnloadRequest(model_name=name)
    assert code(guarded.rpc("RepositoryModelUnload", unload, guarded.manager, management)) in refusals
    assert code(guarded.rpc("ModelMetadata", pb.ModelMetadataRequest(name=name), guarded.reader)) in refusals
    for version in ("", "../1", "1/../../x"):
        infer = pb.ModelInferRequest(model_name=name or "nothing", model_version=version)
        assert code(guarded.rpc("ModelInfer", infer, guarded.reader)) in refusals
    infer = pb.ModelInferRequest(model_name="house_price", model_version=name or "..")
    assert code(guarded.rpc("ModelInfer", infer, guarded.reader)) in refusals


@pytest.mark.parametrize(
    "path",
    [
        "..%2Fsentiment",
        "%2e%2e",
        "%2e%2e%2fx",
        "..",
        "sentiment%2F..%2F..%2Fx",
        "%2Fetc%2Fpasswd",
        "..%5Cx",
        "a%00b",
        "%ff",
    ],
)
def test_paths_that_climb_lead_nowhere(guarded: Guarded, path: str) -> None:
    management = guarded.management_http
    for target in (f"/v2/repository/models/{path}/load", f"/v2/repository/models/{path}/unload"):
        assert guarded.http("POST", target, guarded.manager, address=management)[0] in (400, 404)
    for target in (f"/v2/models/{path}", f"/v2/models/house_price/versions/{path}"):
        status, _, found = guarded.http("GET", target, guarded.reader)
        assert status in (400, 404)
        assert b"root:" not in json.dumps(found).encode()
        assert guarded.http("POST", f"{target}/infer", guarded.reader, b'{"inputs": []}')[0] in (400, 404)


# Logs.


def ask_everything(guarded: Guarded) -> None:
    """Every API, what succeeds and what fails, each with the marker and what might break a line."""
    text = f"{MARKER} wonderful {NASTY}"
    with guarded.client(guarded.reader) as client:
        client.predict_sentiment([text])
        for fail in (
            lambda: client.predict_sentiment([text], version=NASTY.replace("\x00", "")),
            lambda: client.predict_sentiment([text + " word" * 9000]),
            lambda: client.predict_topic([text]),
        ):
            with pytest.raises(PredictionError):
                fail()
        with client.pipeline() as pipeline:
            pipeline.predict_sentiment([text]).result()
            assert pipeline.predict_sentiment([text], version=MARKER).exception() is not None
    head = [("authorization", f"Bearer {guarded.reader}"), ("x-note", MARKER), ("note-bin", NASTY.encode())]
    codes = set()
    with guarded.channel() as channel:
        for method, body in (
            ("/prediction.v1.PredictionService/PredictSentiment", NASTY.encode()),
            ("/inference.GRPCInferenceService/ModelInfer", NASTY.encode()),
            ("/inference.GRPCInferenceService/ModelInfer", infer("sentiment", text)),
            ("/inference.GRPCInferenceService/ModelInfer", infer(NASTY, text)),
            ("/inference.GRPCInferenceService/ModelInfer", infer("house_price", text)),
        ):
            try:
                channel.unary_unary(method)(body, metadata=head, timeout=30)
            except grpc.RpcError as error:
                codes.add(error.code())
        for item in (
            infer("sentiment", text),
            infer(MARKER, text),
            prediction_pb2.PredictStreamRequest().SerializeToString(),
        ):
            stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            assert len(list(stream(iter([item]), metadata=head, timeout=30))) == 1
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/grpc.health.v1.Health/Check")(
                health_pb2.HealthCheckRequest(service=NASTY).SerializeToString(), timeout=30
            )
    assert codes == {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    for name in (NASTY, f"../{MARKER}"):
        guarded.rpc(
            "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=name), guarded.manager, guarded.management
        )
    json_text = json.dumps({"reviews": [text]}).encode()
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}
    for path, body in (
        ("/v1/sentiment", json_text),
        ("/v1/sentiment", json_text[:-3]),
        ("/v1/sentiment", json.dumps({"reviews": [text], MARKER: 1}).encode()),
        ("/v1/house-price", json.dumps({"houses": [{"rooms": MARKER}]}).encode()),
        ("/v2/models/sentiment/infer", json.dumps({"inputs": [tensor]}).encode()),
        ("/v2/models/sentiment/infer", json.dumps({"id": NASTY, "inputs": [tensor | {"name": NASTY}]}).encode()),
        ("/v2/models/sentiment/infer", NASTY.encode()),
    ):
        guarded.http("POST", path, guarded.reader, body, **{"X-Note": MARKER})
    guarded.http("POST", "/v1/sentiment", MARKER, json_text)
    with guarded.client(MARKER) as client, pytest.raises(PredictionError):
        client.predict_sentiment([text])


def infer(model: str, text: str) -> bytes:
    request = pb.ModelInferRequest(model_name=model, id=NASTY)
    request.inputs.add(name="text", datatype="BYTES", shape=[1])
    request.inputs[0].contents.bytes_contents.append(text.encode())
    message: bytes = request.SerializeToString()
    return message


def test_nothing_of_a_request_gets_into_the_log(guarded: Guarded) -> None:
    """At the lowest level, with a line for every request; nor does what would forge one."""
    before = len(guarded.process.lines)
    ask_everything(guarded)
    guarded.rpc("ServerLive", pb.ServerLiveRequest())
    until(lambda: any(line["event"] == "requests refused" for line in guarded.process.lines))
    time.sleep(0.2)
    lines = guarded.process.lines[before:]
    assert len(lines) > 20, "a line for every request"
    for line in lines:
        assert "level" in line, f"not a line of the server's own: {line}"
        assert line["event"] != "forged"
        assert MARKER not in json.dumps(line)
    assert guarded.reader not in guarded.process.output
    assert guarded.manager not in guarded.process.output
    assert "Traceback" not in guarded.process.output


# Others.


def test_workers_have_the_same_guards(certificates_of_all: Certificates, tmp_path: Path) -> None:
    token = make()
    file = tmp_path / "tokens.toml"
    file.write_text(entry(token, "all", [PREDICT, MANAGE]))
    flags = ("--workers", "2", "--tokens", str(file), "--model-control", "explicit", "--max-client-rate", "1000")
    flags += ("--management-address", "127.0.0.1:0")
    models = tmp_path / "models"
    packages.copy(models, "house_price")
    with ServerProcess("--transport", "native", *flags, certificates=certificates_of_all, models=models) as process:
        event = process.wait_for("serving")
        process.address, process.metrics = event["grpc"], event["metrics"]

        def manage(name: str) -> None:
            with grpc.secure_channel(event["management"], Tls(certificates_of_all.ca).credentials()) as channel:
                stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
                request = getattr(pb, f"{name}Request")(model_name="house_price")
                getattr(stub, name)(request, metadata=[("authorization", f"Bearer {token}")], timeout=60)

        def ask(shown: str) -> grpc.StatusCode | None:
            with PredictionClient(process.address, tls=process.tls, token=shown, timeout=30) as client:
                try:
                    client.predict_house_price({"rooms": 6})
                except PredictionError as error:
                    return error.code
            return grpc.StatusCode.OK

        for method in ("POST", "GET"):
            path = "/v2/repository/models/house_price/unload"
            connection = http.client.HTTPSConnection(
                *("localhost", int(event["http"].rpartition(":")[2])),
                context=ssl.create_default_context(cafile=certificates_of_all.ca),
                timeout=30,
            )
            with contextlib.closing(connection):
                connection.request(method, path, headers={"Authorization": f"Bearer {token}"})
                assert connection.getresponse().status == 403
        assert {ask(token) for _ in range(6)} == {grpc.StatusCode.OK}
        assert {ask("wrong") for _ in range(6)} == {grpc.StatusCode.UNAUTHENTICATED}
        manage("RepositoryModelUnload")
        assert {ask(token) for _ in range(6)} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND}
        manage("RepositoryModelLoad")
        assert {ask(token) for _ in range(6)} == {grpc.StatusCode.OK}
        with urllib.request.urlopen(process.metrics, timeout=30) as page:
            text = page.read().decode()
        assert 'triptych_rejected_total{model="unknown",reason="unauthorised"} 6.0' in text
        [expires] = [line for line in text.splitlines() if line.startswith("triptych_tls_certificate_expiry")]
        when = not_after(Path(certificates_of_all.server.certificate).read_bytes())
        assert float(expires.rpartition(" ")[2]) == when, "not the sum of two"


def test_limits_of_a_client_are_kept_over_grpc_and_http_together(transport: str) -> None:
    flags = ("--transport", transport, "--max-client-rate", "5", "--grpc-address", "0.0.0.0:0")
    with ServerProcess(*flags) as process:
        process.wait_ready()
        address = f"127.0.0.1:{process.port}"
        with PredictionClient(address, timeout=30) as client, client.pipeline() as pipeline:
            started = time.monotonic()
            calls = [pipeline.predict_house_price({"rooms": 6}) for _ in range(8)]
            assert all(call.result()[0].price_usd > 0 for call in calls), "slowed, not refused"
            assert time.monotonic() - started >= 0.5
        with grpc.insecure_channel(address, [("grpc.enable_retries", 0)]) as channel:
            ask = channel.unary_unary("/prediction.v1.PredictionService/PredictHousePrice")
            body = prediction_pb2.PredictHousePriceRequest(houses=[prediction_pb2.House(rooms=6)]).SerializeToString()
            codes, pushback = list[grpc.StatusCode](), list[str]()
            end = time.monotonic() + WAIT
            while len(set(codes)) < 2 and time.monotonic() < end:
                try:
                    ask(body, timeout=30)
                    codes.append(grpc.StatusCode.OK)
                except grpc.RpcError as error:
                    codes.append(error.code())
                    pushback.append(dict(error.trailing_metadata())["grpc-retry-pushback-ms"])
            assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert codes.count(grpc.StatusCode.OK) <= 8
            assert all(0 < int(each) <= 200 for each in pushback)
            seen, waits = list[int](), list[int]()
            for _ in range(6):
                try:
                    with urllib.request.urlopen(f"{process.http}/v2", timeout=30) as page:
                        seen.append(page.status)
                except urllib.error.HTTPError as error:
                    seen.append(error.code)
                    waits.append(int(error.headers["Retry-After"]))
                    error.close()
            assert 429 in seen
            assert all(wait >= 1 for wait in waits)
            health = health_pb2_grpc.HealthStub(channel)
            for _ in range(20):
                assert health.Check(health_pb2.HealthCheckRequest(), timeout=30).status == 1
