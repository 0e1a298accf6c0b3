"""Questions with known answers: a peer is measured once it gives the right ones to many callers at once."""

import http.client
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import numpy as np

from benchmarks.payloads import manifest, usual_reviews
from benchmarks.peers import predictor
from benchmarks.peers.registry import GRPC, HOUSE, SENTIMENT, Ask, Peer
from benchmarks.servers import REPOSITORY, ServerFailed

_TIMEOUT = 10.0
_FIRST_TIMEOUT = 2.0
"""Of a server that may not be ready yet, and that is asked again."""
_RIGHT_WITHIN = 1e-4
"""Of a price: what batches of other sizes change is far less."""
_CALLERS = 16
_MANY = 64

Question = list[float] | str
Answer = float | str


@dataclass(frozen=True)
class Exam:
    """Questions for one model, and their answers."""

    model: str
    what: str
    questions: list[Question]
    answers: list[Answer]

    def marks(self, number: int, answer: Answer) -> bool:
        """Is that the answer to that question?"""
        right = self.answers[number]
        if isinstance(right, float) and isinstance(answer, int | float):
            return abs(answer - right) <= _RIGHT_WITHIN * max(abs(right), 1.0)
        return answer == right


def exams(data: Path | None) -> list[Exam]:
    """For both models: the models' own examples, and reviews of the usual length; the answers are the models' own."""
    models = REPOSITORY / "models"
    rows = [row for row in manifest(HOUSE)["golden"]["inputs"]["features"] if None not in row]
    houses: list[Question] = [list(map(float, rows[number % len(rows)])) for number in range(_MANY)]
    for number in range(len(rows), _MANY):
        # As many different houses as are asked about: an answer that went to another caller would be wrong.
        houses[number] = [*houses[number][:5], 4.0 + number / 20, *houses[number][6:]]
    texts, kind = usual_reviews(data)
    prices = predictor.House(models).run(np.array(houses, dtype=np.float32))
    sentiment = predictor.Sentiment(models)
    labels = [sentiment.label(probability) for probability in sentiment.run(texts[:_MANY]).tolist()]
    return [
        Exam(HOUSE, "house price, 1 row", houses, prices[:, 0].tolist()),
        Exam(SENTIMENT, f"sentiment, 1 {kind} review", list(texts[:_MANY]), list(labels)),
    ]


def ask(protocol: str, address: str, path: str, body: bytes, timeout: float = _TIMEOUT) -> bytes:
    """One call on a connection of its own; its reply.

    Raises:
        Exception: there is none, or it is an error.
    """
    if protocol == GRPC:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(address, options=options) as channel:
            return bytes(channel.unary_unary(path)(body, timeout=timeout))
    with closing(http.client.HTTPConnection(address, timeout=timeout)) as connection:
        connection.request("POST", path, body, {"content-type": "application/json"})
        reply = connection.getresponse()
        data = reply.read()
        if reply.status != http.client.OK:
            raise ServerFailed(f"HTTP status {reply.status}: {data[:200]!r}")
        return data


def knows(peer: Peer, some: list[Exam], address: str) -> bool:
    """Does it answer the first question of each exam rightly?"""
    return all(exam.marks(0, _asked(peer, address, exam, 0, _FIRST_TIMEOUT)) for exam in some)


def good_reply(protocol: str, address: str, asks: Ask, exam: Exam) -> bytes:
    """The reply to the first question, which every other reply to it is held against.

    Raises:
        ServerFailed: its answer is wrong, or missing.
    """
    try:
        reply = ask(protocol, address, asks.path, asks.body(exam.questions[0]))
        answer = asks.answer(reply)
    except Exception as error:
        raise ServerFailed(f"{exam.model}: no answer: {_one_line(error)}") from error
    if not exam.marks(0, answer):
        raise ServerFailed(f"{exam.model}: {answer} where {exam.answers[0]} is right")
    return reply


def examine(peer: Peer, address: str, exam: Exam) -> None:
    """All questions, many at once, so that they meet in batches.

    Raises:
        ServerFailed: one answer is wrong, or missing.
    """
    one = partial(_asked, peer, address, exam)
    with ThreadPoolExecutor(_CALLERS) as callers:
        try:
            found = list(callers.map(one, range(len(exam.questions))))
        except Exception as error:
            raise ServerFailed(f"{exam.model}: no answer under load: {_one_line(error)}") from error
    wrong = [number for number, answer in enumerate(found) if not exam.marks(number, answer)]
    if wrong:
        raise ServerFailed(f"{exam.model}: {len(wrong)} of {len(found)} answers are wrong when many ask at once")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _asked(peer: Peer, address: str, exam: Exam, number: int, timeout: float = _TIMEOUT) -> Answer:
    asks = peer.asks[exam.model]
    return asks.answer(ask(peer.protocol, address, asks.path, asks.body(exam.questions[number]), timeout))
