"""Troubles with models: damaged, missing, endless, or asked about what they do not know."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.monitoring.endless import ABSURD, make_endless
from benchmarks.monitoring.fault import GIBBERISH, KNOWN, PAGE, TICKET, Fault
from benchmarks.monitoring.stage import Stage
from serving.client import House, PredictionClient, PredictionError


def _unready(stage: Stage) -> Fault:
    served = stage.server("unready", models=("house_price", "topic"))
    served.start()
    policy = served.models / "topic" / "serving.toml"

    def make() -> None:
        policy.write_text("labels = 1\n", encoding="utf-8")
        served.restart(*served.flags)

    return Fault(
        (("TriptychNotReady", TICKET),),
        "a server is started with a `serving.toml` that makes no sense",
        "it is removed",
        make,
        policy.unlink,
        "unready",
    )


def _refused(stage: Stage) -> Fault:
    served = stage.server("refused", models=("house_price",))
    served.start()
    client = PredictionClient(served.address)

    def make() -> None:
        _spoil(served.publish("topic"))
        stage.call(lambda: client.predict_topic(KNOWN))

    def mend() -> None:
        shutil.rmtree(served.models / "topic" / "1")
        served.publish("topic", 2)

    return Fault(
        (
            *(("TriptychModelUnavailable", PAGE), ("TriptychModelRefused", TICKET)),
            *(("TriptychErrors", PAGE), ("TriptychErrors", TICKET)),
        ),
        "the only version of a model is damaged, and it is asked for",
        "a sound version is published",
        make,
        mend,
        "refused",
    )


def _spoilt(stage: Stage) -> Fault:
    served = stage.server("spoilt", models=("topic",))
    served.start()

    def mend() -> None:
        shutil.rmtree(served.models / "topic" / "2")

    return Fault(
        (("TriptychModelRefused", TICKET),),
        "a new version is damaged; the old one goes on",
        "the new one is removed",
        lambda: _spoil(served.publish("topic", 2)),
        mend,
        "spoilt",
    )


def _folder(stage: Stage) -> Fault:
    served = stage.server("folder")
    served.start()
    away = served.models.with_name("away")
    return Fault(
        (("TriptychModelsFolderGone", TICKET),),
        "the models folder is moved away",
        "it is moved back",
        lambda: served.models.rename(away),
        lambda: away.rename(served.models),
        "folder",
    )


def _hung(stage: Stage) -> Fault:
    served = stage.server("hung", "--watchdog-seconds", "1")
    make_endless(served.models / "house_price" / "1")
    served.start()
    client = PredictionClient(served.address)

    def make() -> None:
        with contextlib.suppress(PredictionError):
            client.predict_house_price(House(crime_rate=ABSURD), timeout=10)

    return Fault(
        (("TriptychHung", TICKET),),
        "a batch of a model that never ends, --watchdog-seconds 1",
        "the watchdog ends it, without help",
        make,
        lambda: None,
        "hung",
    )


def _failing(stage: Stage) -> Fault:
    """Played: there is no device here that could fail."""
    served = stage.server("failing")
    word = stage.folder() / "word"
    served.module, served.environment = "tests.chaos.faulty", {"TESTS_CHAOS_FILE": str(word)}
    served.start()
    client = PredictionClient(served.address)
    stage.call(lambda: client.predict_house_price(House(rooms=6.0)))
    return Fault(
        (
            *(("TriptychModelFailed", TICKET), ("TriptychModelUnavailable", PAGE), ("TriptychModelRefused", TICKET)),
            *(("TriptychErrors", PAGE), ("TriptychErrors", TICKET), ("TriptychNotReady", TICKET)),
        ),
        "every run of a version raises an error, as if its device had failed (played)",
        "runs succeed again",
        lambda: word.write_text("fail", encoding="utf-8"),
        word.unlink,
        "failing",
    )


def _drift(stage: Stage) -> Fault:
    served = stage.server("drift", models=("sentiment",))
    served.start()
    client = PredictionClient(served.address)
    usual = [stage.call(lambda: client.predict_sentiment(KNOWN), callers=2)]

    def make() -> None:
        usual.pop()()
        usual.append(stage.call(lambda: client.predict_sentiment(GIBBERISH), callers=2))

    def mend() -> None:
        usual.pop()()
        stage.call(lambda: client.predict_sentiment(KNOWN), callers=2)

    return Fault(
        (("TriptychDrift", TICKET),),
        "texts of words that the model does not know",
        "English again",
        make,
        mend,
        "drift",
    )


def _spoil(package: Path) -> None:
    """One byte of the graph is another."""
    model = package / "model.onnx"
    damaged = bytearray(model.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    model.write_bytes(damaged)


TROUBLES: tuple[Callable[[Stage], Fault], ...] = (_unready, _refused, _spoilt, _folder, _hung, _failing, _drift)
