from benchmarks.generator import Job, generator
from benchmarks.payloads import houses, long_review, reviews, short_reviews, usual_reviews
from benchmarks.servers import floor_server
from protos.prediction.v1 import prediction_pb2 as pb


def test_callers_are_answered_by_the_floor_and_failures_are_counted():
    with floor_server({"/a/B": b"reply"}) as floor, generator() as load:
        closed = load.run(Job(floor.address, "/a/B", [b"1", b"2"], callers=4, seconds=0.1, connections=2))
        assert closed.spans
        assert closed.errors == {}
        assert all(start <= end for start, end in closed.spans)
        paced = load.run(Job(floor.address, "/a/B", [b"1"], callers=2, seconds=0.2, rate=50.0))
        assert len(paced.spans) <= 10
        refused = load.run(Job(floor.address, "/a/Unknown", [b"1"], callers=1, seconds=0.05))
        assert not refused.spans
        assert set(refused.errors) == {"UNIMPLEMENTED"}


def test_there_is_something_to_send_without_data():
    payload = reviews(None)
    texts, what = usual_reviews(None)
    assert what == "synthetic"
    assert all(len(text.split()) == 230 for text in texts)
    assert pb.PredictSentimentRequest.FromString(payload.messages[0]).reviews == [texts[0]]
    assert len(short_reviews(texts)[0].split()) == 30
    assert len(long_review(texts).split()) == 8_000
    [house] = pb.PredictHousePriceRequest.FromString(houses().messages[0]).houses
    assert len(house.ListFields()) == 13
