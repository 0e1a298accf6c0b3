"""A request in the engine: rows that wait, leave in one batch or several, and are joined again."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.status import StatusError

Outputs = list[npt.NDArray[Any]]
"""One array for each output of the model, axis 0 the rows."""

Rows = Sequence[Any] | bytes
"""The rows of one input: a list of normalised texts, or the raw little-endian bytes of a tensor."""

DEFAULT_PATIENCE = 10.0
"""Seconds after arrival by which a call without a deadline is taken to want its answer."""


class Request:
    """Rows of one caller, for one model version.

    `done` is called exactly once, with the outputs for these rows or an error, unless the request is
    cancelled first: then never.
    """

    __slots__ = (
        "_parts",
        "arrival",
        "deadline",
        "done",
        "due",
        "finished",
        "inputs",
        "priority",
        "rows",
        "size",
        "taken",
    )

    def __init__(
        self,
        inputs: Sequence[Rows],
        rows: int,
        size: int,
        arrival: float,
        done: Callable[["Request", Outputs | StatusError], None],
        deadline: float = math.inf,
        priority: int = 0,
    ) -> None:
        self.inputs = inputs
        """In the order of the manifest's inputs."""
        self.rows = rows
        self.size = size
        """Bytes of all inputs: what cost and memory follow."""
        self.arrival = arrival
        self.deadline = deadline
        self.due = deadline if deadline < math.inf else arrival + DEFAULT_PATIENCE
        self.priority = priority
        """Lower goes first."""
        self.done = done
        self.taken = 0
        """Rows that have left the queue."""
        self.finished = False
        self._parts: list[tuple[int, int, Outputs]] | None = None

    @property
    def waiting(self) -> int:
        """Rows still in the queue."""
        return 0 if self.finished else self.rows - self.taken

    def finish(self, result: Outputs | StatusError) -> None:
        """Answer the caller, once."""
        if not self.finished:
            self.close()
            self.done(self, result)

    def close(self) -> None:
        """Nobody waits for the answer any more: let go of what is held for it."""
        self.finished = True
        self._parts = None
        if not self.taken:  # else a batch that is being built may still read them
            self.inputs = ()

    def deliver(self, start: int, stop: int, outputs: Outputs) -> None:
        """Take the outputs of rows `start` to `stop`; answer the caller when all rows are there."""
        if self.finished:
            return
        if stop - start == self.rows:
            self.finish(outputs)
            return
        parts = self._parts = [*(self._parts or ()), (start, stop, outputs)]
        if sum(stop - start for start, stop, _ in parts) == self.rows:
            columns = [outputs for _, _, outputs in sorted(parts, key=lambda part: part[0])]
            self.finish([np.concatenate(column) for column in zip(*columns, strict=True)])
