"""From typed instances to rows, and from outputs to typed predictions."""

import asyncio
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.tasks import TASKS, CompleteHouses, HousePriceTask, SentimentTask, TopicTask, _complete_houses
from serving.package.manifest import InputSpec, Manifest, TextRules
from serving.repository.models import Models, Version
from serving.status import Code, StatusError
from serving.telemetry.metrics import Metrics
from tests.serving import packages
from tests.serving.packages import value

FEATURES = [field.name for field in pb.House.DESCRIPTOR.fields]
FLOAT32_MAX = float(np.finfo(np.float32).max)
MAX_WORDS = 100


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(scope="module")
def models(metrics: Metrics) -> Iterator[Models]:
    with asyncio.Runner() as runner:

        async def load() -> Models:
            return packages.open_models(metrics=metrics)

        models = runner.run(load())
        yield models
        runner.run(models.close())


@pytest.fixture(scope="module")
def house_price(models: Models) -> Version:
    return models.resolve("house_price", "")


def encode(version: Version, *houses: pb.House) -> npt.NDArray[np.float32]:
    [rows], count, size = HousePriceTask().encode(pb.PredictHousePriceRequest(houses=houses), version, MAX_WORDS)
    assert isinstance(rows, bytes)
    assert (count, size) == (len(houses), len(rows))
    return np.frombuffer(rows, "<f4").reshape(-1, 13)


def refusal(encode: Callable[[], object]) -> str:
    with pytest.raises(StatusError) as caught:
        encode()
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.reason == "invalid"
    return caught.value.message


# Houses.


def test_the_features_of_the_api_are_those_of_the_data_set_in_its_order() -> None:
    assert [
        *("crime_rate", "residential_zoning", "industrial_area", "by_river", "nitric_oxides", "rooms"),
        *("built_before_1940", "employment_distance", "highway_access", "tax_rate", "pupil_teacher_ratio"),
        *("black_population_index", "lower_status"),
    ] == FEATURES
    assert [field.number for field in pb.House.DESCRIPTOR.fields] == list(range(1, 14))


def test_a_full_house_is_its_features_in_order(house_price: Version) -> None:
    house = pb.House(**{name: index + 0.5 for index, name in enumerate(FEATURES)})
    np.testing.assert_array_equal(encode(house_price, house), [[index + 0.5 for index in range(13)]])


def test_an_absent_feature_is_nan_and_a_zero_is_not_absent(house_price: Version) -> None:
    [row] = encode(house_price, pb.House(rooms=6, by_river=0))
    assert row[5] == 6
    assert row[3] == 0
    assert np.isnan(np.delete(row, [3, 5])).all()


def test_a_house_of_which_nothing_is_known_is_all_nan(house_price: Version) -> None:
    assert np.isnan(encode(house_price, pb.House(), pb.House())).all()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("others", [{}, {"crime_rate": 1.0}, dict.fromkeys(FEATURES, 1.0)])
def test_a_feature_that_is_not_finite_is_refused_by_name(
    house_price: Version, number: float, others: dict[str, float]
) -> None:
    house = pb.House(**{**others, "lower_status": number})
    assert (
        refusal(lambda: encode(house_price, pb.House(), house))
        == f"houses[1].lower_status: expected a finite number, got {number}"
    )


def test_infinities_that_cancel_out_are_refused(house_price: Version) -> None:
    house = pb.House(crime_rate=math.inf, rooms=-math.inf)
    assert "houses[0].crime_rate: expected a finite number" in refusal(lambda: encode(house_price, house))


@pytest.mark.parametrize("number", [3.5e38, -3.5e38, 1e308, FLOAT32_MAX + 2.0**103])
def test_a_feature_beyond_float32_is_refused_by_name(house_price: Version, number: float) -> None:
    message = refusal(lambda: encode(house_price, pb.House(rooms=number)))
    assert message == f"houses[0].rooms: {number:g} is beyond the range of float32"


def test_finite_features_whose_sum_is_not_are_judged_one_by_one(house_price: Version) -> None:
    house = pb.House(crime_rate=1.0, residential_zoning=1e308, rooms=1e308)
    assert refusal(lambda: encode(house_price, house)) == (
        "houses[0].residential_zoning: 1e+308 is beyond the range of float32"
    )
    largest = pb.House(**dict.fromkeys(FEATURES, FLOAT32_MAX))
    np.testing.assert_array_equal(encode(house_price, largest), [[FLOAT32_MAX] * 13])


@pytest.mark.parametrize("number", [FLOAT32_MAX, -FLOAT32_MAX, 1e-300, -0.0, 5e-324])
def test_a_feature_at_the_edge_of_float32_is_taken(house_price: Version, number: float) -> None:
    assert encode(house_price, pb.House(rooms=number))[0, 5] == np.float32(number)


@given(st.dictionaries(st.sampled_from(FEATURES), st.floats(), max_size=13))
def test_any_house_becomes_its_float32s_or_is_refused_by_its_first_bad_feature(values: dict[str, float]) -> None:
    wanted = np.array([values.get(name, math.nan) for name in FEATURES])
    with np.errstate(over="ignore"):
        wanted = wanted.astype(np.float32)
    bad = [name for name, number in zip(FEATURES, wanted, strict=True) if name in values and not np.isfinite(number)]
    version: Any = SimpleNamespace(engine=SimpleNamespace(max_rows=1))
    if bad:
        message = refusal(lambda: encode(version, pb.House(**values)))
        assert message.startswith(f"houses[0].{bad[0]}: ")
    else:
        np.testing.assert_array_equal(encode(version, pb.House(**values)), [wanted])


def test_prices_are_dollars_and_imputed_features_are_named_in_order(house_price: Version) -> None:
    full = pb.House(**dict.fromkeys(FEATURES, 0.0))
    request = pb.PredictHousePriceRequest(houses=[full, pb.House(rooms=6, crime_rate=1)])
    response = pb.PredictHousePriceResponse.FromString(
        HousePriceTask().respond(request, house_price, [np.array([[21.5], [-0.25]], np.float32)])
    )
    assert (response.model, response.version) == ("house_price", "1")
    assert [prediction.price_usd for prediction in response.predictions] == [21_500.0, -250.0]
    assert list(response.predictions[0].imputed) == []
    assert list(response.predictions[1].imputed) == [name for name in FEATURES if name not in ("rooms", "crime_rate")]


FLOATS = st.floats(allow_nan=True, allow_infinity=True)


@given(houses=st.lists(st.lists(FLOATS, min_size=13, max_size=13), min_size=1, max_size=3))
def test_complete_houses_are_read_as_the_parser_reads_them(houses: list[list[float]]) -> None:
    """The short way gives the same rows, or leaves it to the long one to say what is wrong."""
    version: Any = SimpleNamespace(engine=SimpleNamespace(max_rows=3))
    request = pb.PredictHousePriceRequest(houses=[pb.House(**dict(zip(FEATURES, h, strict=True))) for h in houses])
    short = HousePriceTask().read(request.SerializeToString())
    if isinstance(short, CompleteHouses):
        assert HousePriceTask().encode(short, version, 1) == HousePriceTask().encode(request, version, 1)
    else:
        assert short == request or not np.isfinite(houses).all()
        assert refusal(lambda: HousePriceTask().encode(request, version, 1)).startswith("houses[")


@given(message=st.binary(max_size=300))
def test_no_bytes_pass_for_complete_houses_that_are_none(message: bytes) -> None:
    head = bytes((10, 117)) + bytes(117)
    for candidate in (message, head + message, (head + message)[:119], message[:2] + head[2:]):
        assert _complete_houses(candidate) is None


def test_other_forms_of_a_request_take_the_long_way() -> None:
    full = pb.House(**dict.fromkeys(FEATURES, 1.0))
    read = HousePriceTask().read
    assert isinstance(read(pb.PredictHousePriceRequest(houses=[full] * 2).SerializeToString()), CompleteHouses)
    for request in (
        pb.PredictHousePriceRequest(),
        pb.PredictHousePriceRequest(houses=[full], version="1"),
        pb.PredictHousePriceRequest(houses=[full, pb.House(rooms=6)]),
    ):
        assert read(request.SerializeToString()) == request


def test_a_response_of_complete_houses_is_the_same(house_price: Version) -> None:
    prices = [np.array([[21.5], [0.0]], np.float32)]
    request = pb.PredictHousePriceRequest(houses=[pb.House(**dict.fromkeys(FEATURES, 1.0))] * 2)
    short = HousePriceTask().read(request.SerializeToString())
    answers = [HousePriceTask().respond(form, house_price, prices) for form in (short, request)]
    assert len({pb.PredictHousePriceResponse.FromString(answer).SerializeToString() for answer in answers}) == 1


# Texts.


@pytest.fixture(params=["sentiment", "topic"])
def texts(request: pytest.FixtureRequest, models: Models) -> tuple[str, Callable[[list[str]], tuple[Any, int, int]]]:
    version = models.resolve(request.param, "")
    if request.param == "sentiment":
        return "reviews", lambda texts: SentimentTask().encode(
            pb.PredictSentimentRequest(reviews=texts), version, MAX_WORDS
        )
    return "newswires", lambda texts: TopicTask().encode(pb.PredictTopicRequest(newswires=texts), version, MAX_WORDS)


Texts = tuple[str, Callable[[list[str]], tuple[Any, int, int]]]


def test_texts_are_normalised_and_measured(texts: Texts) -> None:
    _, encode = texts
    assert encode(["A fine\tFilm!", "", "Été"]) == ([[b"a fine film ", b" ", "été".encode()]], 3, 12 + 1 + 5)


def test_a_text_of_too_many_words_is_refused_by_its_place(texts: Texts) -> None:
    field, encode = texts
    [rows], *_ = encode(["word, " * MAX_WORDS])
    assert rows[0].split() == [b"word"] * MAX_WORDS
    assert refusal(lambda: encode(["fine", "word " * (MAX_WORDS + 1)])) == (
        f"{field}[1]: 101 words; this server takes 100 at the most (--max-text-tokens)"
    )


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.model)
def test_no_instances_are_refused(models: Models, task: Any) -> None:
    message = refusal(lambda: task.encode(task.request(), models.resolve(task.model, ""), MAX_WORDS))
    assert message.endswith(": at least one is needed, got none")


@pytest.mark.parametrize(
    ("task", "field", "empty"),
    [(TASKS[0], "reviews", ""), (TASKS[1], "newswires", ""), (TASKS[2], "houses", pb.House())],
    ids=packages.NAMES,
)
def test_more_instances_than_could_ever_wait_are_refused_before_any_work(
    models: Models, task: Any, field: str, empty: object
) -> None:
    version = models.resolve(task.model, "")
    most = packages.SMALL.max_queue_rows
    assert task.encode(task.request(**{field: [empty] * most}), version, MAX_WORDS)[1] == most
    message = refusal(lambda: task.encode(task.request(**{field: [empty] * (most + 1)}), version, MAX_WORDS))
    assert message == f"{field}: 65 instances in one request; this server takes 64 at the most (--max-queue-rows)"


def outputs(version: Version, **columns: list[Any]) -> list[npt.NDArray[np.float32]]:
    """Columns by name, in the model's order."""
    return [np.array(columns[spec.name], np.float32) for spec in version.manifest.outputs]


def test_a_review_is_positive_from_one_half(models: Models) -> None:
    version = models.resolve("sentiment", "")
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    found = SentimentTask().respond(
        pb.PredictSentimentRequest(reviews=["a", "b"]),
        version,
        outputs(version, probability=[[0.5], [below]], known_words=[1.0, 0.25]),
    )
    assert pb.PredictSentimentResponse.FromString(found) == pb.PredictSentimentResponse(
        predictions=[
            pb.SentimentPrediction(sentiment=pb.SENTIMENT_POSITIVE, positive_probability=0.5, known_words=1.0),
            pb.SentimentPrediction(sentiment=pb.SENTIMENT_NEGATIVE, positive_probability=below, known_words=0.25),
        ],
        model="sentiment",
        version="1",
    )


def test_known_words_are_counted_for_every_text(models: Models, metrics: Metrics) -> None:
    version = models.resolve("topic", "")

    def count(below: str = "+Inf") -> float:
        return value(metrics, "triptych_known_words_ratio_bucket", model="topic", le=below) or 0

    before, low = count(), count("0.2")
    TopicTask().respond(
        pb.PredictTopicRequest(newswires=["a", "b", "c"]),
        version,
        outputs(version, probability=[[1 / 46] * 46] * 3, known_words=[0.0, 0.15, 0.9]),
    )
    assert count() - before == 3
    assert count("0.2") - low == 2


@pytest.mark.parametrize(("top_k", "wanted"), [(0, 3), (1, 1), (2, 2), (46, 46), (47, 46), (1000, 46), (2**32 - 1, 46)])
def test_the_k_best_topics_best_first_and_equals_in_label_order(models: Models, top_k: int, wanted: int) -> None:
    version = models.resolve("topic", "")
    labels = version.manifest.labels
    scores = [0.0] * 46
    scores[3], scores[40], scores[7], scores[11] = 0.5, 0.25, 0.125, 0.125
    request = pb.PredictTopicRequest(newswires=["a"], top_k=top_k)
    response = pb.PredictTopicResponse.FromString(
        TopicTask().respond(request, version, outputs(version, probability=[scores], known_words=[1.0]))
    )
    [prediction] = response.predictions
    order = [3, 40, 7, 11, *(i for i in range(46) if i not in (3, 40, 7, 11))]
    assert [score.topic_id for score in prediction.topics] == order[:wanted]
    assert [score.topic for score in prediction.topics] == [labels[i] for i in order[:wanted]]
    assert [score.probability for score in prediction.topics] == [scores[i] for i in order[:wanted]]


def test_outputs_are_found_by_name_whatever_their_order(models: Models) -> None:
    version = models.resolve("sentiment", "")
    other = replace(version, outputs={"known_words": 1, "probability": 0})
    columns = [np.array([[0.75]], np.float32), np.array([0.5], np.float32)]
    response = pb.PredictSentimentResponse.FromString(
        SentimentTask().respond(pb.PredictSentimentRequest(reviews=["a"]), other, columns)
    )
    assert response.predictions[0].positive_probability == 0.75


# What a package must be to be served under a name.


TITLE = InputSpec("title", "BYTES", (-1,), TextRules(True, ""))


def shipped(models: Models, name: str) -> Manifest:
    return models.resolve(name, "").manifest


def test_shipped_packages_fit(models: Models) -> None:
    assert [task.problem(shipped(models, task.model)) for task in TASKS] == [None, None, None]


def change(manifest: Manifest, kind: str, **changes: Any) -> Manifest:
    specs = getattr(manifest, kind)
    return msgspec.structs.replace(manifest, **{kind: (msgspec.structs.replace(specs[0], **changes), *specs[1:])})


@pytest.mark.parametrize(
    ("task", "damage", "problem"),
    [
        (
            SentimentTask(),
            lambda m: msgspec.structs.replace(m, labels=("positive", "negative")),
            "labels must be negative and positive, got ['positive', 'negative']",
        ),
        (SentimentTask(), lambda m: change(m, "inputs", text=None), "its input has no text rules"),
        (SentimentTask(), lambda m: change(m, "inputs", datatype="FP32"), "it must have one input, BYTES [-1]"),
        (SentimentTask(), lambda m: change(m, "outputs", name="chance"), "its outputs must be {'probability'"),
        (SentimentTask(), lambda m: msgspec.structs.replace(m, inputs=(*m.inputs, TITLE)), "it must have one input"),
        (TopicTask(), lambda m: msgspec.structs.replace(m, labels=m.labels[1:]), "its outputs must be {'probability'"),
        (TopicTask(), lambda m: msgspec.structs.replace(m, outputs=m.outputs[:1]), "its outputs must be"),
        (HousePriceTask(), lambda m: change(m, "inputs", shape=(-1, 12)), "it must have one input, FP32 [-1, 13]"),
        (HousePriceTask(), lambda m: change(m, "outputs", shape=(-1,)), "its outputs must be {'price'"),
        (HousePriceTask(), lambda m: change(m, "outputs", datatype="INT64"), "its outputs must be {'price'"),
    ],
)
def test_a_package_that_does_not_fit_is_told_why(
    models: Models, task: Any, damage: Callable[[Manifest], Manifest], problem: str
) -> None:
    found = task.problem(damage(shipped(models, task.model)))
    assert found is not None
    assert problem in found


def test_a_house_is_thirteen_little_endian_floats(house_price: Version) -> None:
    [rows], *_ = HousePriceTask().encode(
        pb.PredictHousePriceRequest(houses=[pb.House(**dict.fromkeys(FEATURES, 1.0))]), house_price, MAX_WORDS
    )
    assert rows == struct.pack("<f", 1.0) * 13
