"""What the shipped models are worth, asked of the running server: no less than the README says, and the data set's own
encoding for raw text.
"""

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from benchmarks import datasets
from protos.prediction.v1 import prediction_pb2 as pb
from serving.client import PredictionClient
from tests.end_to_end.server import MODELS
from training.data import load
from training.evaluate import open_session, run, text_feeds
from training.models import RECIPES, build
from training.text import rebuild

BATCH = 500
CPU_TOLERANCE = 1e-5

Array = npt.NDArray[Any]

# Both transports are asked for the same; reading it takes longer than the answer.
sentiment_test, topic_test, raw_texts = map(cache, (datasets.sentiment_test, datasets.topic_test, datasets.raw_texts))


def chunks(items: list[str]) -> list[list[str]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def positive(client: PredictionClient, texts: list[str], version: str) -> Array:
    answers = (client.predict_sentiment(part, version=version) for part in chunks(texts))
    return np.array([prediction.positive_probability for part in answers for prediction in part])


def topics(client: PredictionClient, texts: list[str], version: str) -> Array:
    """Probability of each topic, in the order of their ids."""
    rows = []
    for part in chunks(texts):
        for prediction in client.predict_topic(part, top_k=46, version=version):
            row = np.zeros(46)
            for score in prediction.topics:
                row[score.topic_id] = score.probability
            rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize(("version", "floor"), [("1", 0.87), ("2", 0.912)])
def test_sentiment_on_all_test_reviews(client: PredictionClient, data: Path, version: str, floor: float) -> None:
    texts, labels = sentiment_test(data)
    assert len(texts) == 25_000
    assert ((positive(client, texts, version) >= 0.5) == labels).mean() >= floor


@pytest.mark.parametrize(("version", "floor"), [("1", 0.78), ("2", 0.82)])
def test_topic_on_all_test_newswires(client: PredictionClient, data: Path, version: str, floor: float) -> None:
    texts, labels = topic_test(data)
    assert len(texts) == 2_246
    assert (topics(client, texts, version).argmax(axis=1) == labels).mean() >= floor


@pytest.mark.parametrize(("version", "ceiling"), [("1", 2.9), ("2", 2.25)])
def test_house_price_on_all_test_suburbs(client: PredictionClient, data: Path, version: str, ceiling: float) -> None:
    features, prices = datasets.house_test(data)
    names = [field.name for field in pb.House.DESCRIPTOR.fields]
    houses = [dict(zip(names, row, strict=True)) for row in features.tolist()]
    answers = client.predict_house_price(houses, version=version)
    assert np.abs(np.array([a.price_usd for a in answers]) / 1000 - prices).mean() <= ceiling


def keras_network(name: str) -> Any:
    """The Keras network whose weights the shipped graph holds (the start mark's in the first bias)."""
    graph = onnx.load(MODELS / name / "1" / "model.onnx").graph
    recipe = RECIPES[name]
    sizes = [recipe.features, *recipe.hidden, recipe.outputs]
    wanted = [shape for a, b in itertools.pairwise(sizes) for shape in ((a, b), (b,))]
    weights = [numpy_helper.to_array(i) for i in graph.initializer if i.name.startswith("network/")]
    assert [w.shape for w in weights] == wanted
    network = build(recipe)
    network.set_weights(weights)
    return network


@cache
def of_their_own_sequences(name: str, file: Any, data: Path) -> dict[str, Array]:
    """By version, the answers for the data set's own sequences of the raw texts.

    Version 1's are of Keras. Version 2's are of the graph, asked for the sequences' words: over the whole test set, its
    answers for those were held to Keras's when it was packaged.
    """
    loaded = load(RECIPES[name].dataset, data)
    sequences = loaded.x_test.take(np.array([sample.position for sample in raw_texts(data, file)]))
    package = open_session(MODELS / name / "2" / "model.onnx")
    return {
        "1": keras_network(name).predict(sequences.batch(np.arange(len(sequences))), verbose=0),
        "2": run(package, text_feeds(rebuild(sequences, loaded.word_index)))["probability"],
    }


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(("name", "file"), [("sentiment", "imdb"), ("topic", "reuters")])
def test_raw_text_gets_the_data_sets_own_encoding(
    client: PredictionClient, data: Path, name: str, file: Any, version: str
) -> None:
    """Server on raw text = the model on the data set's own sequence of the same index; not one exception."""
    raw = raw_texts(data, file)
    assert len(raw) == 1_000
    expected = of_their_own_sequences(name, file, data)[version]
    ask = positive if name == "sentiment" else topics
    found = ask(client, [sample.text for sample in raw], version).reshape(expected.shape)
    worst = np.abs(found - expected) - CPU_TOLERANCE * np.abs(expected)
    assert worst.max() <= CPU_TOLERANCE, f"raw text {worst.argmax() // expected.shape[1]}"
