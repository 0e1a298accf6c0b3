"""The JSON of the typed API: `prediction.proto`'s messages, field by field, under their own names.

An enum is its last word in small letters. What is unknown or of another type is refused, by name.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

_Version = Annotated[
    str, Meta(description="Version number or label that is to answer; empty means the served default.")
]
_Answered = Annotated[str, Meta(description="The version number that answered.")]
_Texts = Annotated[
    list[str],
    Meta(
        description="Raw text, at least one; an empty string is answered, not refused.",
        extra_json_schema={"minItems": 1},
    ),
]
_KnownWords = Annotated[
    float, Meta(description="Share of the text's words that have a column of their own in the model, 0 to 1.")
]


class _Request(Struct, forbid_unknown_fields=True):
    """Of any of them nothing is taken that is not known."""


class PredictSentimentRequest(_Request):
    """Movie reviews to be judged."""

    reviews: _Texts
    version: _Version = ""


class SentimentPrediction(Struct):
    """What one review is."""

    sentiment: Annotated[
        Literal["negative", "positive"],
        Meta(description="Positive when positive_probability is at least one half."),
    ]
    positive_probability: Annotated[float, Meta(description="Between 0 and 1.")]
    known_words: _KnownWords


class PredictSentimentResponse(Struct):
    """One prediction for each review, in order."""

    predictions: list[SentimentPrediction]
    model: str
    version: _Answered


class PredictTopicRequest(_Request):
    """Newswires whose topics are asked for."""

    newswires: _Texts
    version: _Version = ""
    top_k: Annotated[
        int,
        Meta(
            ge=0,
            le=2**32 - 1,
            description="How many topics to return for each newswire, best first: 0 means 3; more than there are "
            "means all.",
        ),
    ] = 0


class TopicScore(Struct):
    """One topic."""

    topic: Annotated[str, Meta(description='Topic name of Reuters-21578, such as "earn".')]
    topic_id: Annotated[int, Meta(description="Its index in the data set, 0 to 45.")]
    probability: float


class TopicPrediction(Struct):
    """What one newswire is about."""

    topics: Annotated[list[TopicScore], Meta(description="Best first.")]
    known_words: _KnownWords


class PredictTopicResponse(Struct):
    """One prediction for each newswire, in order."""

    predictions: list[TopicPrediction]
    model: str
    version: _Answered


class House(_Request):
    """One suburb. A feature that is left out, or null, is replaced by its mean over the training set."""

    crime_rate: Annotated[float | None, Meta(description="Crimes per head and year.")] = None
    residential_zoning: Annotated[
        float | None, Meta(description="Per cent of residential land zoned for lots over 25,000 square feet.")
    ] = None
    industrial_area: Annotated[float | None, Meta(description="Per cent of land used by non-retail business.")] = None
    by_river: Annotated[float | None, Meta(description="1 where the tract bounds the Charles River, else 0.")] = None
    nitric_oxides: Annotated[float | None, Meta(description="Nitric oxides, parts per 10 million.")] = None
    rooms: Annotated[float | None, Meta(description="Mean number of rooms per dwelling.")] = None
    built_before_1940: Annotated[
        float | None, Meta(description="Per cent of owner-occupied units built before 1940.")
    ] = None
    employment_distance: Annotated[
        float | None, Meta(description="Weighted distance to five employment centres, as the data set gives it.")
    ] = None
    highway_access: Annotated[float | None, Meta(description="Index of access to radial highways, 1 to 24.")] = None
    tax_rate: Annotated[float | None, Meta(description="Full-value property tax, dollars per 10,000 dollars.")] = None
    pupil_teacher_ratio: Annotated[float | None, Meta(description="Pupils per teacher.")] = None
    black_population_index: Annotated[
        float | None,
        Meta(
            description="1000 * (Bk - 0.63)^2, where Bk is the share of Black residents: a racial variable that the "
            "data set's authors built into a price model. Leave it out, and the training mean is used. Do not price "
            "homes by it."
        ),
    ] = None
    lower_status: Annotated[
        float | None,
        Meta(description="Per cent of the population of lower status, as the data set's authors defined it."),
    ] = None


class PredictHousePriceRequest(_Request):
    """Suburbs whose homes are to be priced."""

    houses: Annotated[list[House], Meta(description="At least one.", extra_json_schema={"minItems": 1})]
    version: _Version = ""


class HousePricePrediction(Struct):
    """What the median home of one suburb is worth."""

    price_usd: Annotated[float, Meta(description="Median value of owner-occupied homes, US dollars of the 1970s.")]
    imputed: Annotated[
        list[str], Meta(description="Names of the features that were absent and replaced by their training mean.")
    ]


class PredictHousePriceResponse(Struct):
    """One prediction for each house, in order."""

    predictions: list[HousePricePrediction]
    model: str
    version: _Answered


class Violation(Struct):
    """What is wrong with a part of a request."""

    field: Annotated[str, Meta(description="Which, such as houses[1].tax_rate.")]
    description: str


class Resource(Struct):
    """What a request named, and is not there."""

    type: Annotated[str, Meta(description="model or version")]
    name: str


class Error(Struct):
    """Why there is no answer."""

    error: str
    code: Annotated[str, Meta(description="gRPC's name for it, where it has one.")] = ""
    reason: Annotated[str, Meta(description="Why, in a word that a program may compare.")] = ""
    request_id: Annotated[str, Meta(description="Under which the server's log speaks of the request.")] = ""
    violations: list[Violation] = []
    resource: Resource | None = None
    retry_after: Annotated[float | None, Meta(description="Seconds after which there should be room again.")] = None
