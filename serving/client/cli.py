"""The client's command line: the sub-commands `predict` and `models`."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial, wraps
from pathlib import Path
from typing import TypeVar

import grpc

from serving.client.channel import DEFAULT_ADDRESS
from serving.client.client import PredictionClient
from serving.client.errors import PredictionError
from serving.client.reading import STDIN, batches, houses, texts
from serving.client.tls import Tls
from serving.client.types import (
    FEATURES,
    House,
    HousePricePrediction,
    Predictions,
    SentimentPrediction,
    TopicPrediction,
)

T = TypeVar("T")
P = TypeVar("P", SentimentPrediction, TopicPrediction, HousePricePrediction)

MODELS = ("sentiment", "topic", "house_price")
EXCERPT = 60
"""Characters of a text that are repeated beside its prediction."""
FAILED, INTERRUPTED, BROKEN_PIPE = 1, 130, 141


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `predict` and `models`; each sets `func`, which takes the parsed arguments and returns the exit code."""
    connection = argparse.ArgumentParser(add_help=False)
    connection.add_argument(
        "--address",
        metavar="HOST:PORT",
        help=f"the server, or any gRPC target (default: TRIPTYCH_ADDRESS, else {DEFAULT_ADDRESS})",
    )
    connection.add_argument(
        "--timeout", type=seconds, default=10.0, metavar="SECONDS", help="for each request (default: 10)"
    )

    connection.add_argument("--tls", action="store_true", help="speak TLS, and trust the public authorities")
    connection.add_argument("--tls-ca", metavar="FILE", help="speak TLS, and trust these certificates instead")
    connection.add_argument("--tls-certificate", metavar="FILE", help="your own certificate, for a server that asks")
    connection.add_argument("--tls-key", metavar="FILE", help="its private key")
    connection.add_argument("--tls-server-name", metavar="NAME", help="the server's, where the address has another")

    connection.add_argument("--token-file", metavar="FILE", help="holds the token that you show, and nothing else")

    models = commands.add_parser(
        "models", parents=[connection], help="the state of the three typed models; any other: see the repository index"
    )
    models.set_defaults(func=_models)

    predict = commands.add_parser("predict", help="predict sentiment, topic or house price")
    kinds = predict.add_subparsers(metavar="MODEL", required=True)

    asking = argparse.ArgumentParser(add_help=False, parents=[connection])
    asking.add_argument(
        "--model-version",
        default="",
        metavar="VERSION",
        help="a version number or a label (default: the version labelled stable, else the highest)",
    )
    asking.add_argument("--json", action="store_true", help="print one JSON object per line and instance")

    reading = argparse.ArgumentParser(add_help=False)
    reading.add_argument("texts", nargs="*", metavar="TEXT", help='"-", or no text at all, reads standard input')
    reading.add_argument("--file", action="append", default=[], metavar="PATH", help="a file is one text; repeatable")
    reading.add_argument("--lines", action="store_true", help="a line, not a file, is one text")

    sentiment = kinds.add_parser("sentiment", parents=[asking, reading], help="is a movie review positive or negative?")
    sentiment.set_defaults(func=_sentiment)

    topic = kinds.add_parser("topic", parents=[asking, reading], help="which topics is a newswire about?")
    topic.add_argument("--top-k", type=count, default=0, metavar="K", help="how many topics, best first (default: 3)")
    topic.set_defaults(func=_topic)

    house = kinds.add_parser(
        "house-price",
        aliases=["house_price"],
        parents=[asking],
        help="what is the median price of a home in a suburb?",
        description="The median price of a home in a Boston suburb, US dollars of the 1970s. "
        "A feature left out is replaced by its mean over the training set.",
    )
    house.add_argument(
        "--file",
        action="append",
        default=[],
        metavar="PATH",
        help='many houses: CSV with a header of feature names, or JSON lines; "-" is standard input; repeatable',
    )
    for name, meaning in FEATURES.items():
        house.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="X", help=meaning)
    house.set_defaults(func=partial(_house_price, house))


def _command(run: Callable[..., None]) -> Callable[..., int]:
    """Make a command of a function: every way for it to end has an exit code, and an error is one line."""

    @wraps(run)
    def command(*arguments: object) -> int:
        try:
            run(*arguments)
            sys.stdout.flush()
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:
            # The reader has all it wants. What is still buffered must not fail again when Python exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        except (PredictionError, OSError, ValueError) as error:
            print("triptych:", _line(_explain(error)), file=sys.stderr)
            return FAILED
        return 0

    return command


_UNREACHABLE = ("failed to connect", "connections to all backends failing", "errors resolving", "DNS resolution failed")
"""How grpc says that nobody has answered."""


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    hint = ""
    unreachable = isinstance(error, PredictionError) and any(words in str(error) for words in _UNREACHABLE)
    if unreachable:
        hint = " (is the server running?)"
    return f"{error}{notes}{hint}"


def _connect(arguments: argparse.Namespace) -> PredictionClient:
    names = ("ca", "certificate", "key", "server_name")
    given = {name: value for name in names if (value := getattr(arguments, f"tls_{name}")) is not None}
    tls = Tls(**given) if given or arguments.tls else None
    token = None if arguments.token_file is None else Path(arguments.token_file).read_text("utf-8").strip()
    return PredictionClient(arguments.address, timeout=arguments.timeout, tls=tls, token=token)


@_command
def _models(arguments: argparse.Namespace) -> None:
    with _connect(arguments) as client:
        for model in MODELS:
            print(f"{model:<12} {_state(client, model)}")


def _state(client: PredictionClient, model: str) -> str:
    try:
        return "ready" if client.is_ready(model) else "not ready"
    except PredictionError as error:
        if error.code is grpc.StatusCode.NOT_FOUND:
            return "absent"
        raise


@_command
def _sentiment(arguments: argparse.Namespace) -> None:
    _predict(
        arguments,
        _texts(arguments),
        lambda client, reviews: client.predict_sentiment(reviews, version=arguments.model_version),
        _show_sentiment,
    )


@_command
def _topic(arguments: argparse.Namespace) -> None:
    _predict(
        arguments,
        _texts(arguments),
        lambda client, newswires: client.predict_topic(
            newswires, top_k=arguments.top_k, version=arguments.model_version
        ),
        _show_topics,
    )


@_command
def _house_price(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    house = House(**{name: getattr(arguments, name) for name in FEATURES})
    if (house == House()) is not bool(arguments.file):
        parser.error("give the features of one house, or houses by --file")
    _predict(
        arguments,
        houses(arguments.file) if arguments.file else [house],
        lambda client, houses: client.predict_house_price(houses, version=arguments.model_version),
        _show_price,
    )


def _predict(
    arguments: argparse.Namespace,
    instances: Iterable[T],
    ask: Callable[[PredictionClient, list[T]], Predictions[P]],
    show: Callable[[T, P], str],
) -> None:
    """Ask for as many instances at a time as fit, and print their predictions as they come."""
    done = 0
    with _connect(arguments) as client:
        for batch in batches(instances):
            try:
                answer = ask(client, batch)
            except (PredictionError, ValueError) as error:
                if done:
                    error.add_note(f"counted from instance {done}")
                raise
            for instance, prediction in zip(batch, answer, strict=True):
                if arguments.json:
                    named = {**dataclasses.asdict(prediction), "model": answer.model, "version": answer.version}
                    print(json.dumps(named))
                else:
                    print(show(instance, prediction))
            sys.stdout.flush()
            done += len(batch)


def _texts(arguments: argparse.Namespace) -> Iterable[str]:
    paths = arguments.file if arguments.texts or arguments.file else [STDIN]
    return texts(arguments.texts, paths, by_line=arguments.lines)


def _show_sentiment(review: str, prediction: SentimentPrediction) -> str:
    positive = prediction.positive_probability
    return (
        f"{prediction.sentiment:<8} {max(positive, 1 - positive):>6.1%}   "
        f"known words {prediction.known_words:>4.0%}   {_excerpt(review)}"
    )


def _show_topics(newswire: str, prediction: TopicPrediction) -> str:
    ranked = (
        f"  {rank:>2}. {_line(score.topic):<16} {score.probability:>6.1%}"
        for rank, score in enumerate(prediction.topics, 1)
    )
    return "\n".join([f"known words {prediction.known_words:>4.0%}   {_excerpt(newswire)}", *ranked])


def _show_price(_: House, prediction: HousePricePrediction) -> str:
    price = f"${prediction.price_usd:,.0f}"
    imputed = len(prediction.imputed)
    return (
        f"{price:>10}   {imputed} of {len(FEATURES)} features unknown, their mean taken" if imputed else f"{price:>10}"
    )


def _excerpt(text: str) -> str:
    """The beginning of a text on one line."""
    line = _line(text[: 4 * EXCERPT])
    line = line if len(line) <= EXCERPT else line[: EXCERPT - 3] + "..."
    encoding = sys.stdout.encoding or "utf-8"
    return line.encode(encoding, "replace").decode(encoding)


def _line(text: str) -> str:
    """Someone else's words on one line, in characters that the terminal shows and does not obey."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def seconds(text: str) -> float:
    """A time for argparse, which takes the name of its type from here."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def count(text: str) -> int:
    """A number of things for argparse."""
    value = int(text)
    if not 0 <= value < 2**32:
        raise ValueError
    return value
