from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Sentiment(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SENTIMENT_UNSPECIFIED: _ClassVar[Sentiment]
    SENTIMENT_NEGATIVE: _ClassVar[Sentiment]
    SENTIMENT_POSITIVE: _ClassVar[Sentiment]
SENTIMENT_UNSPECIFIED: Sentiment
SENTIMENT_NEGATIVE: Sentiment
SENTIMENT_POSITIVE: Sentiment

class PredictSentimentRequest(_message.Message):
    __slots__ = ("reviews", "version")
    REVIEWS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    reviews: _containers.RepeatedScalarFieldContainer[str]
    version: str
    def __init__(self, reviews: _Optional[_Iterable[str]] = ..., version: _Optional[str] = ...) -> None: ...

class SentimentPrediction(_message.Message):
    __slots__ = ("sentiment", "positive_probability", "known_words")
    SENTIMENT_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    KNOWN_WORDS_FIELD_NUMBER: _ClassVar[int]
    sentiment: Sentiment
    positive_probability: float
    known_words: float
    def __init__(self, sentiment: _Optional[_Union[Sentiment, str]] = ..., positive_probability: _Optional[float] = ..., known_words: _Optional[float] = ...) -> None: ...

class PredictSentimentResponse(_message.Message):
    __slots__ = ("predictions", "model", "version")
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    predictions: _containers.RepeatedCompositeFieldContainer[SentimentPrediction]
    model: str
    version: str
    def __init__(self, predictions: _Optional[_Iterable[_Union[SentimentPrediction, _Mapping]]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class PredictTopicRequest(_message.Message):
    __slots__ = ("newswires", "version", "top_k")
    NEWSWIRES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    newswires: _containers.RepeatedScalarFieldContainer[str]
    version: str
    top_k: int
    def __init__(self, newswires: _Optional[_Iterable[str]] = ..., version: _Optional[str] = ..., top_k: _Optional[int] = ...) -> None: ...

class TopicScore(_message.Message):
    __slots__ = ("topic", "topic_id", "probability")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    topic: str
    topic_id: int
    probability: float
    def __init__(self, topic: _Optional[str] = ..., topic_id: _Optional[int] = ..., probability: _Optional[float] = ...) -> None: ...

class TopicPrediction(_message.Message):
    __slots__ = ("topics", "known_words")
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_WORDS_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedCompositeFieldContainer[TopicScore]
    known_words: float
    def __init__(self, topics: _Optional[_Iterable[_Union[TopicScore, _Mapping]]] = ..., known_words: _Optional[float] = ...) -> None: ...

class PredictTopicResponse(_message.Message):
    __slots__ = ("predictions", "model", "version")
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    predictions: _containers.RepeatedCompositeFieldContainer[TopicPrediction]
    model: str
    version: str
    def __init__(self, predictions: _Optional[_Iterable[_Union[TopicPrediction, _Mapping]]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class House(_message.Message):
    __slots__ = ("crime_rate", "residential_zoning", "industrial_area", "by_river", "nitric_oxides", "rooms", "built_before_1940", "employment_distance", "highway_access", "tax_rate", "pupil_teacher_ratio", "black_population_index", "lower_status")
    CRIME_RATE_FIELD_NUMBER: _ClassVar[int]
    RESIDENTIAL_ZONING_FIELD_NUMBER: _ClassVar[int]
    INDUSTRIAL_AREA_FIELD_NUMBER: _ClassVar[int]
    BY_RIVER_FIELD_NUMBER: _ClassVar[int]
    NITRIC_OXIDES_FIELD_NUMBER: _ClassVar[int]
    ROOMS_FIELD_NUMBER: _ClassVar[int]
    BUILT_BEFORE_1940_FIELD_NUMBER: _ClassVar[int]
    EMPLOYMENT_DISTANCE_FIELD_NUMBER: _ClassVar[int]
    HIGHWAY_ACCESS_FIELD_NUMBER: _ClassVar[int]
    TAX_RATE_FIELD_NUMBER: _ClassVar[int]
    PUPIL_TEACHER_RATIO_FIELD_NUMBER: _ClassVar[int]
    BLACK_POPULATION_INDEX_FIELD_NUMBER: _ClassVar[int]
    LOWER_STATUS_FIELD_NUMBER: _ClassVar[int]
    crime_rate: float
    residential_zoning: float
    industrial_area: float
    by_river: float
    nitric_oxides: float
    rooms: float
    built_before_1940: float
    employment_distance: float
    highway_access: float
    tax_rate: float
    pupil_teacher_ratio: float
    black_population_index: float
    lower_status: float
    def __init__(self, crime_rate: _Optional[float] = ..., residential_zoning: _Optional[float] = ..., industrial_area: _Optional[float] = ..., by_river: _Optional[float] = ..., nitric_oxides: _Optional[float] = ..., rooms: _Optional[float] = ..., built_before_1940: _Optional[float] = ..., employment_distance: _Optional[float] = ..., highway_access: _Optional[float] = ..., tax_rate: _Optional[float] = ..., pupil_teacher_ratio: _Optional[float] = ..., black_population_index: _Optional[float] = ..., lower_status: _Optional[float] = ...) -> None: ...

class PredictHousePriceRequest(_message.Message):
    __slots__ = ("houses", "version")
    HOUSES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    houses: _containers.RepeatedCompositeFieldContainer[House]
    version: str
    def __init__(self, houses: _Optional[_Iterable[_Union[House, _Mapping]]] = ..., version: _Optional[str] = ...) -> None: ...

class HousePricePrediction(_message.Message):
    __slots__ = ("price_usd", "imputed")
    PRICE_USD_FIELD_NUMBER: _ClassVar[int]
    IMPUTED_FIELD_NUMBER: _ClassVar[int]
    price_usd: float
    imputed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, price_usd: _Optional[float] = ..., imputed: _Optional[_Iterable[str]] = ...) -> None: ...

class PredictHousePriceResponse(_message.Message):
    __slots__ = ("predictions", "model", "version")
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    predictions: _containers.RepeatedCompositeFieldContainer[HousePricePrediction]
    model: str
    version: str
    def __init__(self, predictions: _Optional[_Iterable[_Union[HousePricePrediction, _Mapping]]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class PredictStreamRequest(_message.Message):
    __slots__ = ("id", "sentiment", "topic", "house_price")
    ID_FIELD_NUMBER: _ClassVar[int]
    SENTIMENT_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    HOUSE_PRICE_FIELD_NUMBER: _ClassVar[int]
    id: str
    sentiment: PredictSentimentRequest
    topic: PredictTopicRequest
    house_price: PredictHousePriceRequest
    def __init__(self, id: _Optional[str] = ..., sentiment: _Optional[_Union[PredictSentimentRequest, _Mapping]] = ..., topic: _Optional[_Union[PredictTopicRequest, _Mapping]] = ..., house_price: _Optional[_Union[PredictHousePriceRequest, _Mapping]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class PredictStreamResponse(_message.Message):
    __slots__ = ("id", "sentiment", "topic", "house_price", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    SENTIMENT_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    HOUSE_PRICE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    sentiment: PredictSentimentResponse
    topic: PredictTopicResponse
    house_price: PredictHousePriceResponse
    error: Error
    def __init__(self, id: _Optional[str] = ..., sentiment: _Optional[_Union[PredictSentimentResponse, _Mapping]] = ..., topic: _Optional[_Union[PredictTopicResponse, _Mapping]] = ..., house_price: _Optional[_Union[PredictHousePriceResponse, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...
