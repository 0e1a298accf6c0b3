"""What the shipped models are worth, asked of the running server: the figures of the README, and the data set's own
encoding for raw text.
"""

import itertools
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
from training.models import RECIPES, build

BATCH = 500
CPU_TOLERANCE = 1e-5


def chunks(items: list[str]) -> list[list[str]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def positive(client: PredictionClient, texts: list[str]) -> npt.NDArray[Any]:
    return np.array([p.positive_probability for part in chunks(texts) for p in client.predict_sentiment(part)])


def topics(client: PredictionClient, texts: list[str]) -> npt.NDArray[Any]:
    """Probability of each topic, in the order of their ids."""
    rows = []
    for part in chunks(texts):
        for prediction in client.predict_topic(part, top_k=46):
            row = np.zeros(46)
            for score in prediction.topics:
                row[score.topic_id] = score.probability
            rows.append(row)
    return np.array(rows)


def test_sentiment_on_all_test_reviews(client: PredictionClient, data: Path) -> None:
    texts, labels = datasets.sentiment_test(data)
    assert len(texts) == 25_000
    assert ((positive(client, texts) >= 0.5) == labels).mean() >= 0.87


def test_topic_on_all_test_newswires(client: PredictionClient, data: Path) -> None:
    texts, labels = datasets.topic_test(data)
    assert len(texts) == 2_246
    assert (topics(client, texts).argmax(axis=1) == labels).mean() >= 0.78


def test_house_price_on_all_test_suburbs(client: PredictionClient, data: Path) -> None:
    features, prices = datasets.house_test(data)
    names = [field.name for field in pb.House.DESCRIPTOR.fields]
    answers = client.predict_house_price([dict(zip(names, row, strict=True)) for row in features.tolist()])
    assert np.abs(np.array([a.price_usd for a in answers]) / 1000 - prices).mean() <= 2.9


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


@pytest.mark.parametrize(("name", "file"), [("sentiment", "imdb"), ("topic", "reuters")])
def test_raw_text_gets_the_data_sets_own_encoding(client: PredictionClient, data: Path, name: str, file: Any) -> None:
    """Server on raw text = Keras on the data set's own sequence of the same index; not one exception."""
    raw = datasets.raw_texts(data, file)
    assert len(raw) == 1_000
    encoded = load(RECIPES[name].dataset, data).x_test.batch(np.array([sample.position for sample in raw]))
    expected = keras_network(name).predict(encoded, verbose=0)
    ask = positive if name == "sentiment" else topics
    found = ask(client, [sample.text for sample in raw]).reshape(expected.shape)
    worst = np.abs(found - expected) - CPU_TOLERANCE * np.abs(expected)
    assert worst.max() <= CPU_TOLERANCE, f"raw text {worst.argmax()}"
