"""Load whose shapes vary and whose answers are held against what is known, from callers who go on when a call fails."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

import grpc
import grpc.aio
import numpy as np

from gpu.check import golden
from gpu.check.asking import METHOD, Question, outputs, question
from gpu.check.finding import StepFailed
from gpu.check.golden import Tolerance
from serving.package.manifest import Manifest

CALLERS = 16
TIMEOUT = 30.0
PAUSE_SECONDS = 0.02
"""After a failure: a server that is not there would be asked without end."""
SWING_SECONDS = 60.0

ROWS = (1, 1, 1, 2, 3, 7, 16, 33, 64, 100, 256)
WORDS = (1, 3, 20, 100, 230, 500, 2000)
MOST_WORDS = 20_000
"""Of one request: it must stay below the server's limits."""

_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    # A call that was lost must be seen to be.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


def questions(manifests: Iterable[Manifest], each: int = 60, seed: int = 0) -> list[Question]:
    """As many of each model, of every number of rows: golden rows, whose answers are known, and texts of any length."""
    chance = random.Random(seed)
    made = []
    for manifest in manifests:
        expected = golden.expected(manifest)
        texts = [spec.name for spec in manifest.inputs if spec.text is not None]
        for number in range(each):
            rows = ROWS[number % len(ROWS)]
            chosen = chance.choices(range(len(expected[0])), k=rows)
            inputs = {name: [values[index] for index in chosen] for name, values in manifest.golden.inputs.items()}
            known = [array[chosen] for array in expected]
            if texts and number % 2:
                for name in texts:
                    inputs[name] = _texts(manifest.golden.inputs[name], rows, chance)
                known = []
            made.append(question(manifest, inputs, known))
    chance.shuffle(made)
    return made


def _texts(examples: Sequence[str], rows: int, chance: random.Random) -> list[str]:
    words = [word for text in examples for word in text.split()] or ["word"]
    most = max(MOST_WORDS // rows, 1)
    return [" ".join(chance.choices(words, k=min(chance.choice(WORDS), most))) for _ in range(rows)]


class Traffic:
    """Callers on a thread of their own, from entering to leaving."""

    def __init__(self, address: str, asked: Sequence[Question], allowed: dict[str, Tolerance]) -> None:
        """`allowed` has the tolerance of each model by name."""
        self._address, self._asked, self._allowed = address, asked, allowed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._broken: BaseException | None = None
        self.answered = 0
        self.rows = 0
        self.codes: Counter[str] = Counter()
        """Calls that failed, by status."""
        self.failures: list[str] = []
        """What was said of those that failed, each once."""
        self.wrong: list[str] = []

    def wait(self, until: Callable[[], bool], seconds: float = SWING_SECONDS) -> None:
        """Until something holds, such as a number of answers.

        Raises:
            StepFailed: it does not come to hold.
        """
        deadline = time.monotonic() + seconds
        while not until():
            if self._broken is not None:
                raise StepFailed(f"the callers failed: {self._broken!r}")
            if time.monotonic() > deadline:
                raise StepFailed(f"{self.answered} answers, and failures {dict(self.codes)}, in {seconds:g} s")
            time.sleep(PAUSE_SECONDS)

    def swing(self, more: int = 200) -> None:
        """Until so many more calls were answered."""
        goal = self.answered + more
        self.wait(lambda: self.answered >= goal)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask no more, and wait for what is in flight."""
        self._stop.set()
        self._thread.join(2 * TIMEOUT)

    def _work(self) -> None:
        try:
            asyncio.run(self._call_all())
        except BaseException as error:  # noqa: BLE001 - for who waits
            self._broken = error

    async def _call_all(self) -> None:
        await asyncio.gather(*(self._caller(number) for number in range(CALLERS)))

    async def _caller(self, number: int) -> None:
        position = number * len(self._asked) // CALLERS
        async with grpc.aio.insecure_channel(self._address, options=_OPTIONS) as channel:
            call = channel.unary_unary(METHOD)
            while not self._stop.is_set():
                asked = self._asked[position % len(self._asked)]
                position += 1
                try:
                    answer = await call(asked.message, timeout=TIMEOUT)
                except grpc.aio.AioRpcError as error:
                    self._failed(error)
                    await asyncio.sleep(PAUSE_SECONDS)
                else:
                    self.answered += 1
                    self.rows += asked.rows
                    self._check(asked, answer)

    def _failed(self, error: grpc.aio.AioRpcError) -> None:
        self.codes[error.code().name] += 1
        said = f"{error.code().name}: {error.details()}"
        if said not in self.failures:
            self.failures.append(said)

    def _check(self, asked: Question, answer: bytes) -> None:
        found = outputs(answer)
        if any(len(array) != asked.rows for array in found):
            self.wrong.append(f"{asked.model} {asked.version}: {[len(array) for array in found]} for {asked.rows} rows")
        for array, wanted in zip(found, asked.expected, strict=False):
            share = self._allowed[asked.model].share(np.asarray(array), wanted)
            if share > 1:
                self.wrong.append(f"{asked.model} {asked.version}: {share:.3g} of its tolerance, {asked.rows} rows")
