"""What every step needs to know."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Context:
    """What is checked, and how long."""

    device: str
    """As `--device` of `serve` takes it."""
    models: Path
    out: Path
    """For logs, and the report."""
    load_seconds: float = 1.0
    soak_seconds: float = 600.0

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """From the command line."""
        return cls(
            options.device,
            options.models.resolve(),
            options.out.resolve(),
            options.load_seconds,
            options.soak_seconds,
        )

    @property
    def rehearsal(self) -> bool:
        """On the CPU, where nothing is proved."""
        return self.device == "cpu"

    @property
    def index(self) -> int:
        """Of the first CUDA device."""
        return int(self.device.partition(":")[2] or 0)
