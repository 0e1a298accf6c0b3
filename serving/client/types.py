"""What goes into a prediction and what comes out of it, as plain immutable values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Self, TypeAlias, TypeVar, overload

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Predictions(Sequence[P]):
    """One prediction per instance, in order, and who made them; itself a sequence of the predictions."""

    predictions: tuple[P, ...]
    model: str
    version: str
    """The version number that answered."""

    @overload
    def __getitem__(self, index: int) -> P: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[P, ...]: ...
    def __getitem__(self, index: int | slice) -> P | tuple[P, ...]:
        """The prediction for the instance at `index`."""
        return self.predictions[index]

    def __len__(self) -> int:
        """How many instances were sent."""
        return len(self.predictions)


class Sentiment(StrEnum):
    """Of a movie review; equal to, and printed as, its plain word."""

    NEGATIVE = "negative"
    POSITIVE = "positive"


@dataclass(frozen=True, slots=True)
class SentimentPrediction:
    """Whether a movie review is positive or negative."""

    sentiment: Sentiment
    """Positive when `positive_probability` is at least one half."""
    positive_probability: float
    """Between 0 and 1."""
    known_words: float
    """Share of the text's words that the model has a column for, 0 to 1; 0 for an empty text."""


@dataclass(frozen=True, slots=True)
class TopicScore:
    """How probable one topic is."""

    topic: str
    """Topic name of Reuters-21578, such as "earn"."""
    topic_id: int
    """Its index in the data set, 0 to 45."""
    probability: float


@dataclass(frozen=True, slots=True)
class TopicPrediction:
    """The topics that a newswire is about."""

    topics: tuple[TopicScore, ...]
    """Best first."""
    known_words: float
    """Share of the text's words that the model has a column for, 0 to 1; 0 for an empty text."""


@dataclass(frozen=True, slots=True)
class HousePricePrediction:
    """The median price of a home in a suburb."""

    price_usd: float
    """Median value of owner-occupied homes, US dollars of the 1970s."""
    imputed: tuple[str, ...]
    """Names of the features that were absent and replaced by their training mean."""


def _feature(meaning: str) -> Any:
    """An optional feature and, where the command line's help finds it, what the feature means."""
    return field(default=None, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """One suburb (census tract) of the Boston housing data; a feature left out is imputed by the server."""

    crime_rate: float | None = _feature("Crimes per head and year.")
    residential_zoning: float | None = _feature("Per cent of residential land zoned for lots over 25,000 square feet.")
    industrial_area: float | None = _feature("Per cent of land used by non-retail business.")
    by_river: float | None = _feature("1 where the tract bounds the Charles River, else 0.")
    nitric_oxides: float | None = _feature("Nitric oxides, parts per 10 million.")
    rooms: float | None = _feature("Mean number of rooms per dwelling.")
    built_before_1940: float | None = _feature("Per cent of owner-occupied units built before 1940.")
    employment_distance: float | None = _feature(
        "Weighted distance to five employment centres, as the data set gives it."
    )
    highway_access: float | None = _feature("Index of access to radial highways, 1 to 24.")
    tax_rate: float | None = _feature("Full-value property tax, dollars per 10,000 dollars.")
    pupil_teacher_ratio: float | None = _feature("Pupils per teacher.")
    black_population_index: float | None = _feature(
        "1000 * (Bk - 0.63)^2, where Bk is the share of Black residents. The data set's authors built a racial "
        "variable into a price model; it is here because the reference model was trained with it and for no other "
        "reason. Leave it out, and the training mean is used. Do not price homes by it."
    )
    lower_status: float | None = _feature(
        "Per cent of the population of lower status, as the data set's authors defined it."
    )

    @classmethod
    def from_mapping(cls, features: Mapping[str, float | None]) -> Self:
        """Make a house of features by name; None means absent.

        Raises ValueError, which lists the features, for a name that is none of them.
        """
        unknown = [repr(name) for name in features if name not in FEATURES]
        if unknown:
            raise ValueError(f"unknown feature {', '.join(unknown)}; the features are {', '.join(FEATURES)}")
        return cls(**features)


FEATURES: Mapping[str, str] = {feature.name: feature.metadata["meaning"] for feature in fields(House)}
"""The 13 features of a house in the data set's order: name → meaning and unit."""

HouseFeatures: TypeAlias = House | Mapping[str, float | None]
"""A house, or its features by name."""
