"""The runs of a process that are under way: who watches over them sees which take too long, and may end them."""

import time
from dataclasses import dataclass, field
from typing import Any

import onnxruntime as ort


@dataclass(eq=False, slots=True)
class Run:
    """A batch that is being computed."""

    name: str
    """Of the model and version."""
    started: float = field(default_factory=time.monotonic)
    told: bool = False
    """Was it told to end?"""
    dropped: bool = False
    """Was it, for no fault of its own?"""
    options: Any = field(default_factory=ort.RunOptions)
    """For ONNX Runtime: a run of its own, so that no other ends with it."""

    def end(self) -> None:
        """Have it fail as soon as ONNX Runtime looks, which it does between two nodes of the graph."""
        self.told = True
        self.options.terminate = True


class Runs:
    """All runs of a process, whatever their model and thread."""

    def __init__(self) -> None:
        self._under_way: set[Run] = set()

    @property
    def under_way(self) -> list[Run]:
        """Those that began and have not ended."""
        return list(self._under_way.copy())  # a copy is one step of the interpreter: others may begin and end

    def end(self) -> None:
        """Have all of them fail that are under way, for no fault of theirs."""
        for run in self.under_way:
            run.dropped = True
            run.end()

    def begin(self, name: str) -> Run:
        """One begins on the calling thread."""
        run = Run(name)
        self._under_way.add(run)
        return run

    def ended(self, run: Run) -> None:
        """It is through, however it went."""
        self._under_way.discard(run)
