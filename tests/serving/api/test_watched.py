"""Watched calls pass everything on, and tell once how they ended."""

import pytest

from serving.api.call import Nobody, Receiver, Stream, Streaming, Unary
from serving.api.watched import WatchedCall, WatchedStream, handle, opened
from serving.status import Code, StatusError, invalid
from tests.serving.api.calls import MemoryCall, MemoryStream


@pytest.fixture
def ends() -> list[Code]:
    return []


@pytest.fixture
def call() -> MemoryCall:
    return MemoryCall("/a/b", 5.0, (("x-request-id", "mine"),))


@pytest.fixture
def stream() -> MemoryStream:
    return MemoryStream("/a/b")


def into(ends: list[Code], error: StatusError | None) -> None:
    ends.append(Code.OK if error is None else error.code)


def test_a_call_is_what_it_was(call: MemoryCall, ends: list[Code]) -> None:
    watched = WatchedCall(WatchedCall(call, lambda error: into(ends, error)), lambda error: into(ends, error))
    assert (watched.method, watched.deadline, watched.peer, watched.request_id) == ("/a/b", 5.0, "memory", "mine")
    assert watched.ids() == {"request_id": "mine"}
    watched.reply(b"answer")
    assert call.answer == b"answer"
    assert ends == [Code.OK, Code.OK]


def test_how_a_call_ended(call: MemoryCall, ends: list[Code]) -> None:
    watched = WatchedCall(call, lambda error: into(ends, error))
    watched.fail(invalid("no"))
    call.cancel()
    watched.over()
    assert ends == [Code.INVALID_ARGUMENT]


def test_a_client_that_goes(call: MemoryCall, ends: list[Code]) -> None:
    watched = WatchedCall(call, lambda error: into(ends, error))
    told: list[str] = []
    watched.on_cancel = lambda: told.append("handler")
    call.cancel()
    assert (told, ends) == (["handler"], [Code.CANCELLED])


def test_a_fault_ends_the_call_through_it(call: MemoryCall, ends: list[Code]) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    handle(Unary(broken), WatchedCall(call, lambda error: into(ends, error)), b"")
    assert (call.error.code, ends) == (Code.INTERNAL, [Code.INTERNAL])
    assert call.error.message.endswith("request_id=mine")


def test_a_stream(stream: MemoryStream, ends: list[Code]) -> None:
    watched = WatchedStream(stream, lambda error: into(ends, error))
    told: list[str] = []
    watched.on_cancel = lambda: told.append("handler")
    watched.pause_reading()
    assert not stream.reading
    watched.resume_reading()
    assert stream.reading
    watched.send(b"one")
    assert (stream.sent, ends) == ([b"one"], [])
    watched.finish()
    stream.cancel()  # as transports do after every stream
    assert (stream.code, told, ends) == (Code.OK, ["handler"], [Code.OK])


def test_a_transport_that_tells_the_handler_while_a_stream_is_finished(ends: list[Code]) -> None:
    class Eager(MemoryStream):
        def finish(self, error: StatusError | None = None) -> None:
            super().finish(error)
            self.cancel()

    watched = WatchedStream(Eager("/a/b"), lambda error: into(ends, error))
    watched.finish(invalid("no"))
    assert ends == [Code.INVALID_ARGUMENT]


def test_faults_of_a_receiver_end_its_stream(stream: MemoryStream, ends: list[Code]) -> None:
    class Broken(Nobody):
        def message(self, message: bytes) -> None:
            raise ZeroDivisionError

    def fail(_: Stream) -> Receiver:
        raise ZeroDivisionError

    watched = WatchedStream(stream, lambda error: into(ends, error))
    opened(Streaming(lambda _: Broken()), watched).message(b"")
    assert (stream.code, ends) == (Code.INTERNAL, [Code.INTERNAL])
    other = MemoryStream("/a/b")
    opened(Streaming(fail), WatchedStream(other, lambda error: into(ends, error))).message(b"")
    assert (other.code, ends) == (Code.INTERNAL, [Code.INTERNAL] * 2)
