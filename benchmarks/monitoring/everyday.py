"""A server with nothing wrong, and those who call it."""

from benchmarks.monitoring.fault import KNOWN
from benchmarks.monitoring.stage import Served, Stage
from serving.client import House, PredictionClient


def everyday(stage: Stage) -> Served:
    """A server as it should be, asked for everything that the dashboard shows."""
    served = stage.server("everyday", models=("house_price", "sentiment", "topic"))
    served.publish("sentiment", 2)
    policy = "[labels]\nstable = 1\n[shadow]\ncandidate = 2\nfraction = 1.0\n"
    (served.models / "sentiment" / "serving.toml").write_text(policy, encoding="utf-8")
    served.start()
    client = PredictionClient(served.address)
    stage.call(lambda: client.predict_sentiment([KNOWN, KNOWN, KNOWN]), callers=3)
    stage.call(lambda: client.predict_topic(KNOWN), callers=2)
    stage.call(lambda: client.predict_house_price(House(rooms=6.0)))
    return served
