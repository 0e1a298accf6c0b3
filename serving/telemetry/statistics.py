"""What a version has done since the server's start, in numbers that add up over workers."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """How many, and how long all of them took."""

    count: int = 0
    seconds: float = 0.0

    def add(self, count: int, seconds: float) -> None:
        """So many more."""
        self.count += count
        self.seconds += seconds


@dataclass(slots=True)
class Statistics:
    """One version of a model."""

    model: str
    version: str
    rows: int = 0
    """Instances computed, each alone or in a batch."""
    success: Tally = field(default_factory=Tally)
    """Requests, from their arrival to their answer."""
    fail: Tally = field(default_factory=Tally)
    queue: Tally = field(default_factory=Tally)
    """Requests, while they waited."""
    execution: Tally = field(default_factory=Tally)
    """Batches: building their arrays and running the graph."""
    by_rows: dict[int, Tally] = field(default_factory=dict)
    """Batches by their number of rows."""
    gpu_memory: dict[int, int] = field(default_factory=dict)
    """Bytes that it takes, by GPU."""
    last: float = 0.0
    """When the last batch began, on the monotonic clock, which all processes of a machine share; 0 is never."""

    def add(self, other: "Statistics") -> None:
        """What another worker counted of the same version."""
        self.rows += other.rows
        for mine, its in (
            (self.success, other.success),
            (self.fail, other.fail),
            (self.queue, other.queue),
            (self.execution, other.execution),
        ):
            mine.add(its.count, its.seconds)
        for rows, tally in other.by_rows.items():
            self.by_rows.setdefault(rows, Tally()).add(tally.count, tally.seconds)
        for gpu, taken in other.gpu_memory.items():
            self.gpu_memory[gpu] = self.gpu_memory.get(gpu, 0) + taken
        self.last = max(self.last, other.last)
