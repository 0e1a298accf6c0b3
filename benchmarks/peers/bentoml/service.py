"""The two models as one BentoML service; serve.py starts it.

A batchable method takes and answers lists over HTTP too: {"features": [[13 floats]]} -> [{"price": x}], and
{"text": ["..."]} -> [{"label": "positive"}].
"""

import os

import bentoml
import numpy as np
import predictor

# 16 rows, or 100 ms, or 10 s were no faster. What waits longer than the latency is refused with 503.
BATCHING = {"batchable": True, "max_batch_size": 64, "max_latency_ms": 1000}


# House price, 64 in flight, requests/s: 1,470 with tracing and 2,530 without.
@bentoml.service(
    workers=1,
    metrics={"enabled": False},
    tracing={"excluded_urls": "house_price,sentiment"},
    logging={"access": {"enabled": False}},
)
class Peer:
    """House prices and sentiment; coroutines, since others run on a thread."""

    def __init__(self) -> None:
        models = os.environ["PEER_MODELS"]
        self._house = predictor.House(models)
        self._sentiment = predictor.Sentiment(models)

    @bentoml.api(route="/house_price", **BATCHING)
    async def house_price(self, features: list[list[float]]) -> list[dict[str, float]]:
        """Prices, in thousand dollars."""
        prices = self._house.run(np.array(features, np.float32))
        return [{"price": round(price, 4)} for price in prices.ravel().tolist()]

    @bentoml.api(route="/sentiment", **BATCHING)
    async def sentiment(self, text: list[str]) -> list[dict[str, str]]:
        """Positive or negative."""
        return [{"label": self._sentiment.label(probability)} for probability in self._sentiment.run(text)]
