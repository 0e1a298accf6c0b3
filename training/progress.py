"""Showing how far a fit has come: a bar on a terminal, a few plain lines elsewhere."""

import math
from dataclasses import dataclass, field, replace
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from training.runs import Epoch

LINES = 4
"""Plain lines for each stage, about."""


class Display:
    """A context manager that takes a stage's epochs as they end and shows them."""

    def __init__(self, name: str, console: Console | None = None) -> None:
        self._name = name
        self._console = console or Console(highlight=False)
        self._stages: dict[str, TaskID] = {}
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bars.stop()

    def epoch(self, epoch: Epoch) -> None:
        """Show that `epoch` is over, and its figures."""
        stage, done, epochs = epoch.stage, epoch.done, epoch.of
        shown = "  ".join(f"{name} {value:.4f}" for name, value in epoch.figures.items())
        if self._console.is_terminal:
            if stage not in self._stages:
                self._stages[stage] = self._bars.add_task(f"{self._name}: {stage}", total=epochs, figures="")
            self._bars.update(self._stages[stage], completed=done, figures=shown)
        elif done % max(1, epochs // LINES) == 0:
            self._console.print(f"{self._name}: {stage}, epoch {done}/{epochs}  {shown}", soft_wrap=True)

    def say(self, message: str) -> None:
        """One line about something other than an epoch."""
        self._console.print(f"{self._name}: {message}", soft_wrap=True, markup=False)


@dataclass
class Log:
    """Takes reports: shows them, and keeps them for the record."""

    display: Display
    epochs: list[Epoch] = field(default_factory=list)

    def __call__(self, epoch: Epoch) -> None:
        """An epoch is over."""
        self.display.epoch(epoch)
        # A network that diverges has figures that JSON can't hold.
        finite = {name: x for name, x in epoch.figures.items() if math.isfinite(x)}
        self.epochs.append(replace(epoch, figures=finite))
