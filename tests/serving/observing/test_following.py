"""Who follows requests learns what each went through, and leaves nothing behind."""

import asyncio
import gc
import math
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.call import ANY, Call, Metadata, Receiver, Routes, Stream, Streaming, Unary, not_offered
from serving.api.exchange import Exchange
from serving.engine.batcher import Limits
from serving.engine.request import Request
from serving.observing.following import Followed, Following, Story, Witness
from serving.repository import verify
from serving.status import Code, StatusError
from serving.telemetry.metrics import Metrics
from tests.serving import packages
from tests.serving.api.calls import MemoryCall, MemoryStream, call, stream
from tests.serving.api.desk import GARBAGE, ONE_HOUSE, Desk, item

METHOD = "/prediction.v1.PredictionService/PredictHousePrice"
STREAM = "/prediction.v1.PredictionService/PredictStream"

pytestmark = pytest.mark.asyncio


class Notes:
    """A follower that keeps what it is told."""

    def __init__(self) -> None:
        self.wanted = True
        self.items: list[Story] = []
        self.ended: list[Followed] = []
        self.came = asyncio.Event()

    def wants(self, metadata: Metadata) -> bool:
        return self.wanted

    def begin(self, followed: Followed, metadata: Metadata) -> None: ...

    def item(self, followed: Followed, story: Story) -> None:
        self.items.append(story)

    def end(self, followed: Followed) -> None:
        self.ended.append(followed)
        self.came.set()

    def clear(self) -> None:
        self.items.clear()
        self.ended.clear()


def at_once(tell: Callable[..., None], *what: object) -> None:
    tell(*what)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest_asyncio.fixture
async def desk(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(verify, "load", packages.load_once)
    folder, metrics = packages.first_versions(), Metrics()
    models = packages.new_models(folder, metrics, Limits(max_batch_rows=8, max_queue_rows=100))
    models.observe = Witness
    packages.controlled(models, folder, metrics).start()
    desk = Desk(models, metrics)
    following = Following([notes], at_once)
    desk.backend.exchange = partial(following.exchange, desk.backend)
    desk.routes = following.routes({**desk.routes, ANY: Streaming(not_offered)})
    yield desk
    await desk.models.close()


def houses(count: int) -> bytes:
    return pb.PredictHousePriceRequest(houses=[pb.House(rooms=6)] * count).SerializeToString()


async def test_a_prediction_tells_its_whole_story(desk: Desk, notes: Notes) -> None:
    await call(desk.routes, METHOD, houses(3)).message()
    [followed] = notes.ended
    assert (followed.name, followed.code, followed.failed, followed.error) == (METHOD, "OK", False, None)
    story = followed.story
    assert story is not None
    assert (story.model, story.version, story.rows, story.queued) == ("house_price", "1", 3, True)
    [ran] = story.ran
    assert (ran.rows, ran.requests, ran.reason) == (3, 1, "idle")
    assert story.pulled is not None
    assert followed.started <= story.started <= story.pulled <= ran.execution.started
    assert notes.items == []


async def test_batch_mates_share_their_batch(desk: Desk, notes: Notes) -> None:
    calls = [call(desk.routes, METHOD, houses(2)) for _ in range(3)]
    for each in calls:
        await each.message()
    ran = [followed.story.ran for followed in notes.ended if followed.story is not None]
    assert [[batch.batch for batch in each] for each in ran] == [[1]] * 3
    assert (ran[0][0].rows, ran[0][0].requests) == (6, 3)


async def test_a_request_in_parts_tells_of_each(desk: Desk, notes: Notes) -> None:
    await call(desk.routes, METHOD, houses(20)).message()
    story = notes.ended[0].story
    assert story is not None
    assert [ran.rows for ran in story.ran] == [8, 8, 4]


async def test_what_is_refused_has_no_stages(desk: Desk, notes: Notes) -> None:
    refused = call(desk.routes, METHOD, GARBAGE).error
    late = call(desk.routes, METHOD, houses(1), deadline=0.0).error
    assert [followed.error for followed in notes.ended] == [refused, late]
    for followed in notes.ended:
        assert followed.failed
        assert followed.story is not None
        assert (followed.story.queued, followed.story.rows, followed.story.ran) == (False, None, [])


async def test_a_client_that_goes(desk: Desk, notes: Notes) -> None:
    gone = call(desk.routes, METHOD, houses(1))
    gone.cancel()
    [followed] = notes.ended
    assert (followed.code, followed.failed) == ("CANCELLED", True)
    assert followed.story is not None
    assert (followed.story.rows, followed.story.pulled) == (1, None)
    assert desk.in_flight() == 0


async def test_items_of_a_stream_are_told_each(desk: Desk, notes: Notes) -> None:
    opened = stream(desk.routes, STREAM)
    opened.receiver.message(item("1", house_price=ONE_HOUSE))
    opened.receiver.message(item("2", house_price=pb.PredictHousePriceRequest()))
    await opened.until(2)
    assert [(story.rows, story.error is None) for story in notes.items] == [(None, False), (1, True)]
    assert notes.ended == []
    opened.receiver.half_closed()
    [followed] = notes.ended
    assert (followed.code, followed.story, followed.streamed) == ("OK", None, True)
    opened.cancel()  # as a transport does after every stream
    assert len(notes.ended) == 1


async def test_a_stream_whose_client_goes(desk: Desk, notes: Notes) -> None:
    opened = stream(desk.routes, STREAM)
    opened.receiver.message(item("1", house_price=ONE_HOUSE))
    opened.cancel()
    assert [story.error.code for story in notes.items if story.error] == [Code.CANCELLED]
    assert [followed.code for followed in notes.ended] == ["CANCELLED"]


async def test_unknown_methods_have_no_name(desk: Desk, notes: Notes) -> None:
    route = desk.routes[ANY]
    assert isinstance(route, Streaming)
    opened = MemoryStream("/made.Up/Name")
    route.open(opened)
    [followed] = notes.ended
    assert (followed.name, followed.asked, followed.code) == ("", "/made.Up/Name", "UNIMPLEMENTED")


async def test_faults_are_answered_logged_and_told(notes: Notes, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError("private words")

    class Fragile(Receiver):
        def __init__(self, stream: Stream) -> None: ...

        message = half_closed = draining = broken

    routes: Routes = {"/a/Unary": Unary(broken), "/a/Open": Streaming(broken), "/a/Message": Streaming(Fragile)}
    routes = Following([notes], at_once).routes(routes)
    assert call(routes, "/a/Unary", b"").error.code is Code.INTERNAL
    assert stream(routes, "/a/Open").code is Code.INTERNAL
    opened = stream(routes, "/a/Message")
    opened.receiver.message(b"")
    assert opened.code is Code.INTERNAL
    assert [followed.code for followed in notes.ended] == ["INTERNAL"] * 3
    logged = [vars(record)["request_id"] for record in caplog.records if record.message == "fault"]
    assert logged == [followed.request_id for followed in notes.ended]


async def test_who_is_not_wanted_is_not_followed(desk: Desk, notes: Notes) -> None:
    notes.wanted = False
    seen: list[Call] = []
    route = Following([notes], at_once).routes({"/a/b": Unary(lambda call, _: seen.append(call))})["/a/b"]
    assert isinstance(route, Unary)
    given = MemoryCall("/a/b")
    route.handle(given, b"")
    assert seen == [given]
    await call(desk.routes, METHOD, houses(1)).message()
    assert notes.ended == []


async def test_the_id_of_a_client_is_kept(desk: Desk, notes: Notes) -> None:
    route = desk.routes[METHOD]
    assert isinstance(route, Unary)
    for given in ("mine", "not\nmine"):
        made = MemoryCall(METHOD, math.inf, (("x-request-id", given),))
        route.handle(made, GARBAGE)
        assert notes.ended[-1].ids() == {"request_id": made.request_id}
    assert [followed.request_id == "mine" for followed in notes.ended] == [True, False]


async def test_what_is_over_is_gone_without_the_collector(desk: Desk, notes: Notes) -> None:
    def held() -> set[int]:
        return {id(found) for found in gc.get_objects() if isinstance(found, Exchange | Request | Call | Followed)}

    gc.collect()
    gc.disable()
    before = held()  # by other tests
    try:
        answered, refused, gone = (call(desk.routes, METHOD, each) for each in (houses(1), GARBAGE, houses(1)))
        gone.cancel()
        await answered.message()
        assert isinstance(refused.answer, StatusError)
        notes.clear()
        del answered, refused, gone
        await asyncio.sleep(0)
        assert held() <= before
    finally:
        gc.enable()
