"""What every benchmark is given: how long to measure, where, on which data, and how to tell that it goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.machine import Cores


class Reporter:
    """Shows progress: a bar on a terminal, a line a step elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._name = ""

    @contextmanager
    def benchmark(self, name: str, steps: int) -> Iterator[None]:
        """One benchmark begins; `step` is called that often inside."""
        self._name = name
        if not self.console.is_terminal:
            yield
            return
        columns = (TextColumn("{task.fields[name]}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        # A bar that moves all the time would take CPU time from the load generator.
        with Progress(
            *columns, TextColumn("{task.description}"), console=self.console, transient=True, refresh_per_second=2
        ) as bar:
            self._bar, self._task = bar, bar.add_task("", name=name, total=steps)
            try:
                yield
            finally:
                self._bar = self._task = None

    def step(self, what: str) -> None:
        """A step is done."""
        if self._bar is None or self._task is None:
            self.console.print(f"{self._name}: {what}", highlight=False)
        else:
            self._bar.update(self._task, advance=1, description=what)


@dataclass(frozen=True)
class Session:
    """One run of the benchmarks."""

    quick: bool
    data: Path | None
    reporter: Reporter
    cores: Cores = field(default_factory=Cores.choose)
    peers: tuple[str, ...] = ()
    """Of the servers that others wrote, only these; none named: all."""
    devices: tuple[str, ...] = ()
    """What to compare, as `serve --device` takes it; none named: the CPU, and the first GPU if there is one."""

    def pick(self, full: float, quick: float) -> float:
        """A length that depends on whether this is a short check."""
        return quick if self.quick else full
