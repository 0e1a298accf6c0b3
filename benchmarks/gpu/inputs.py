"""What the models are given: test samples where the data sets are, else the packages' own examples, again and again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.datasets import DataMissing, house_test, raw_texts
from protos.prediction.v1 import prediction_pb2 as pb
from serving.engine.session import Feed
from serving.package.manifest import MANIFEST, MODEL, Manifest, golden_array, parse
from serving.package.text import Normaliser, flatten

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"

_FILES: dict[str, Literal["imdb", "reuters"]] = {"sentiment": "imdb", "topic": "reuters"}
_METHODS = {
    "sentiment": "PredictSentiment",
    "topic": "PredictTopic",
    "house_price": "PredictHousePrice",
}


@dataclass(frozen=True)
class Inputs:
    """Rows of one model, as a client has them and as its graph takes them."""

    manifest: Manifest
    model: bytes
    """The graph."""
    rows: Sequence[Any]
    """Texts, or arrays of features; they come again and again."""
    encoded: Sequence[Any]
    """Each row as the graph takes it: normalised text, or the same array."""
    what: str

    @property
    def method(self) -> str:
        """The typed API's path."""
        service = pb.DESCRIPTOR.services_by_name["PredictionService"].full_name
        return f"/{service}/{_METHODS[self.manifest.name]}"

    def feed(self, rows: int, first: int = 0) -> Feed:
        """The graph's inputs for a batch of so many rows, beginning with the one at `first`."""
        [spec] = self.manifest.inputs
        some = [self.encoded[position % len(self.encoded)] for position in range(first, first + rows)]
        return flatten(spec.name, some) if spec.text else {spec.name: np.stack(some)}

    def message(self, instances: int, first: int = 0) -> bytes:
        """A request of the typed API, serialised."""
        some = [self.rows[position % len(self.rows)] for position in range(first, first + instances)]
        if self.manifest.name == "sentiment":
            return pb.PredictSentimentRequest(reviews=some).SerializeToString()
        if self.manifest.name == "topic":
            return pb.PredictTopicRequest(newswires=some).SerializeToString()
        names = [field.name for field in pb.House.DESCRIPTOR.fields]
        houses = [
            pb.House(**{name: float(value) for name, value in zip(names, row, strict=True) if not np.isnan(value)})
            for row in some
        ]
        return pb.PredictHousePriceRequest(houses=houses).SerializeToString()


def load(folder: Path, data: Path | None = None) -> Inputs:
    """A package's graph and rows for it.

    Args:
        folder: of the package, such as `models/sentiment/1`.
        data: of the data sets; without them the package's own examples are taken.
    """
    manifest = parse((folder / MANIFEST).read_bytes())
    rows, what = _rows(manifest, data)
    [spec] = manifest.inputs
    normalise = Normaliser(spec.text) if spec.text else None
    encoded = [normalise(row) for row in rows] if normalise else rows
    return Inputs(manifest, (folder / MODEL).read_bytes(), rows, encoded, what)


def _rows(manifest: Manifest, data: Path | None) -> tuple[Sequence[Any], str]:
    try:
        if data is None:
            raise DataMissing
        if manifest.name in _FILES:
            return [sample.text for sample in raw_texts(data, _FILES[manifest.name])], "raw test texts"
        return list(house_test(data)[0].astype(np.float32)), "test rows"
    except DataMissing:
        [spec] = manifest.inputs
        values = golden_array(manifest.golden.inputs[spec.name], spec.datatype)
        return list(values), "the package's own examples"
