"""The health service: asked once, or watched."""

import pytest
from grpc_health.v1 import health_pb2

from serving.api.health import SERVICE, Health
from serving.status import Code
from tests.serving.api.calls import MemoryCall, MemoryStream, call, stream

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

GARBAGE = b"\xff\xff"


def name(service: str) -> bytes:
    message: bytes = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    return message


def check(health: Health, service: str) -> MemoryCall:
    return call(health.routes(), f"/{SERVICE}/Check", name(service))


def watch(health: Health, service: str) -> MemoryStream:
    opened = stream(health.routes(), f"/{SERVICE}/Watch")
    opened.receiver.message(name(service))
    return opened


def statuses(stream: MemoryStream) -> list[int]:
    return [health_pb2.HealthCheckResponse.FromString(message).status for message in stream.sent]


@pytest.fixture
def health() -> Health:
    health = Health()
    health.set("", True)
    health.set("readiness", False)
    return health


@pytest.mark.parametrize(("service", "status"), [("", SERVING), ("readiness", NOT_SERVING)])
def test_check_tells_the_status_of_a_name(health: Health, service: str, status: int) -> None:
    answer = check(health, service).answer
    assert isinstance(answer, bytes)
    assert health_pb2.HealthCheckResponse.FromString(answer).status == status


def test_check_follows_changes(health: Health) -> None:
    health.set("readiness", True)
    assert health.serving("readiness") is True
    health.set("readiness", False)
    assert health.serving("readiness") is False
    assert health.serving("nothing") is None


def test_check_of_an_unknown_name_is_not_found(health: Health) -> None:
    error = check(health, "models/weather").error
    assert error.code is Code.NOT_FOUND
    assert error.message == "service: 'models/weather' has no health status here"


def test_the_words_of_a_client_are_shortened(health: Health) -> None:
    assert len(check(health, "x" * 1_000_000).error.message) < 200


def test_a_message_that_can_not_be_read_is_invalid(health: Health) -> None:
    assert call(health.routes(), f"/{SERVICE}/Check", GARBAGE).error.code is Code.INVALID_ARGUMENT
    opened = stream(health.routes(), f"/{SERVICE}/Watch")
    opened.receiver.message(GARBAGE)
    assert opened.code is Code.INVALID_ARGUMENT


def test_watch_tells_the_status_and_then_every_change(health: Health) -> None:
    opened = watch(health, "readiness")
    assert statuses(opened) == [NOT_SERVING]
    opened.receiver.half_closed()
    for serving in (True, True, False, False, True):
        health.set("readiness", serving)
    health.set("", False)
    assert statuses(opened) == [NOT_SERVING, SERVING, NOT_SERVING, SERVING]
    assert not opened.finished


def test_watch_of_an_unknown_name_waits_until_it_is_known(health: Health) -> None:
    opened = watch(health, "models/topic")
    assert statuses(opened) == [SERVICE_UNKNOWN]
    health.set("models/topic", False)
    health.set("models/topic", True)
    assert statuses(opened) == [SERVICE_UNKNOWN, NOT_SERVING, SERVING]


def test_many_watch_one_name(health: Health) -> None:
    watchers = [watch(health, "readiness") for _ in range(3)]
    watchers[1].cancel()
    health.set("readiness", True)
    assert [len(watcher.sent) for watcher in watchers] == [2, 1, 2]


def test_a_watcher_that_is_gone_leaves_nothing_behind(health: Health) -> None:
    for service in ("readiness", "made up"):
        opened = watch(health, service)
        opened.cancel()
        opened.cancel()
        health.set(service, True)
        assert len(opened.sent) == 1
    assert health._watchers == {}


def test_a_second_name_on_one_stream_is_refused_and_leaves_nothing_behind(health: Health) -> None:
    opened = watch(health, "readiness")
    opened.receiver.message(name(""))
    assert opened.code is Code.INVALID_ARGUMENT
    opened.cancel()
    assert health._watchers == {}


def test_a_watcher_that_names_nothing_is_refused(health: Health) -> None:
    opened = stream(health.routes(), f"/{SERVICE}/Watch")
    opened.receiver.half_closed()
    assert opened.code is Code.INVALID_ARGUMENT


def test_watchers_are_sent_away_when_the_server_goes(health: Health) -> None:
    opened = watch(health, "readiness")
    opened.receiver.draining()
    assert opened.code is Code.UNAVAILABLE
    opened.cancel()
    assert health._watchers == {}
