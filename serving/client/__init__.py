"""The Python client: `PredictionClient`, `AsyncPredictionClient`, and the types of their answers.

Needs only grpcio and protobuf, so that an application can install it without a server's dependencies.
"""

from serving.client.aio import AsyncPredictionClient
from serving.client.client import PredictionClient
from serving.client.errors import PredictionError
from serving.client.types import (
    FEATURES,
    House,
    HouseFeatures,
    HousePricePrediction,
    Predictions,
    Sentiment,
    SentimentPrediction,
    TopicPrediction,
    TopicScore,
)

__all__ = [
    "FEATURES",
    "AsyncPredictionClient",
    "House",
    "HouseFeatures",
    "HousePricePrediction",
    "PredictionClient",
    "PredictionError",
    "Predictions",
    "Sentiment",
    "SentimentPrediction",
    "TopicPrediction",
    "TopicScore",
]
