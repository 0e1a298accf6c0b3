"""The Python client: `PredictionClient`, `AsyncPredictionClient`, their pipelines, and the types of their answers.

Needs only grpcio, protobuf and the messages of googleapis-common-protos, so that an application can install it without
a server's dependencies.
"""

from serving.client.aio import AsyncPipeline, AsyncPredictionClient
from serving.client.client import PredictionClient
from serving.client.errors import PredictionError, Violation
from serving.client.pipeline import Pipeline
from serving.client.tls import Tls
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
    "AsyncPipeline",
    "AsyncPredictionClient",
    "House",
    "HouseFeatures",
    "HousePricePrediction",
    "Pipeline",
    "PredictionClient",
    "PredictionError",
    "Predictions",
    "Sentiment",
    "SentimentPrediction",
    "Tls",
    "TopicPrediction",
    "TopicScore",
    "Violation",
]
