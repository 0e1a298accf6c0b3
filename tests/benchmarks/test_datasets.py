import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks import datasets
from benchmarks.datasets import DataMissing, find_data, house_test, raw_texts, sentiment_test, topic_test
from benchmarks.payloads import manifest
from serving.package.manifest import TextRules
from serving.package.text import Normaliser

RANKS = {"rare": 4, "the": 1, "film": 2, "was": 3}


@pytest.fixture(scope="module")
def real_data() -> Path:
    folder = find_data()
    if folder is None or not (folder / "imdb.npz").exists():
        pytest.skip("the real data sets are absent: set TRIPTYCH_DATA to their folder")
    return folder


def trust(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setitem(datasets._TRUSTED, path.name, hashlib.sha256(path.read_bytes()).hexdigest())


def lists(*values: list[int]) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def test_reviews_are_words_in_keras_order(tmp_path, monkeypatch):
    sequences = [[1, 2], [3], [4, 4], [1], [2, 3, 4]]
    np.savez(tmp_path / "imdb.npz", y_train=np.zeros(3), x_test=lists(*sequences), y_test=np.array([0, 1, 1, 0, 1]))
    (tmp_path / "imdb_word_index.json").write_text(json.dumps(RANKS))
    trust(monkeypatch, tmp_path / "imdb.npz")
    texts, labels = sentiment_test(tmp_path)
    generator = np.random.RandomState(113)
    generator.shuffle(np.arange(3))
    order = np.arange(5)
    generator.shuffle(order)
    words = ["the film", "was", "rare rare", "the", "film was rare"]
    assert texts == [words[row] for row in order]
    assert labels.tolist() == [[0, 1, 1, 0, 1][row] for row in order]


def test_newswires_are_the_last_fifth(tmp_path, monkeypatch):
    np.savez(tmp_path / "reuters.npz", x=lists(*([rank] for rank in [1, 2, 3, 4, 1, 2, 3, 4, 1, 2])), y=np.arange(10))
    (tmp_path / "reuters_word_index.json").write_text(json.dumps(RANKS))
    trust(monkeypatch, tmp_path / "reuters.npz")
    texts, labels = topic_test(tmp_path)
    words = {rank: word for word, rank in RANKS.items()}
    assert texts == [words[label % 4 + 1] for label in labels]
    assert len(labels) == 2


def test_only_the_file_itself_is_unpickled(tmp_path):
    np.savez(tmp_path / "imdb.npz", x_test=lists([1]), y_test=np.array([0]))
    with pytest.raises(DataMissing, match=r"imdb\.npz is not the file that Keras distributes"):
        sentiment_test(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    for read, name in ((sentiment_test, "imdb"), (topic_test, "reuters"), (house_test, "boston_housing")):
        with pytest.raises(DataMissing, match=rf"{name}\.npz is not in the data folder"):
            read(tmp_path)
    with pytest.raises(DataMissing, match="imdb_raw_test"):
        raw_texts(tmp_path, "imdb")


@pytest.mark.parametrize(
    ("name", "read", "samples"), [("imdb", sentiment_test, 25_000), ("reuters", topic_test, 2_246)]
)
def test_rebuilt_texts_are_the_raw_ones_less_unknown_words(real_data, name, read, samples):
    texts, labels = read(real_data)
    assert len(texts) == len(labels) == samples
    known = json.loads((real_data / f"{name}_word_index.json").read_bytes())
    normalise = Normaliser(
        msgspec.convert(manifest("sentiment" if name == "imdb" else "topic")["inputs"][0]["text"], TextRules)
    )
    raw = raw_texts(real_data, name)
    assert len(raw) == 1000
    for text, label, position in raw:
        words = [word for word in normalise(text).decode().split(" ") if word in known]
        assert " ".join(words) == texts[position]
        assert label == labels[position]


def test_houses_are_those_of_keras(real_data):
    features, prices = house_test(real_data)
    assert features.shape == (102, 13)
    assert features.dtype == np.float64
    assert features[0].tolist() == [
        18.0846,
        0.0,
        18.1,
        0.0,
        0.679,
        6.434,
        100.0,
        1.8347,
        24.0,
        666.0,
        20.2,
        27.25,
        29.05,
    ]
    assert prices[0] == 7.2
