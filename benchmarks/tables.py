"""A table that a terminal and a Markdown page can both show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.table import Table as RichTable

Cell = str | float | int | None


@dataclass(frozen=True)
class Table:
    """Figures with a heading, and a note that says how to read them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    labels: int = field(default=1)
    """Columns, from the left, that are words."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: {len(row)} cells under {len(self.columns)} columns")

    def markdown(self, heading: bool = True) -> str:
        """As Markdown: a heading, the table, the note; without the heading where the page has one of its own."""
        marks = ["---" if column < self.labels else "--:" for column in range(len(self.columns))]
        lines = [self.columns, marks, *([text(cell) for cell in row] for row in self.rows)]
        table = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
        return "\n\n".join(part for part in (f"### {self.title}" if heading else "", table, self.note) if part)

    def rich(self) -> RichTable:
        """For a terminal."""
        table = RichTable(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, caption=self.note or None)
        table.caption_justify = "left"
        for column, name in enumerate(self.columns):
            table.add_column(name, justify="left" if column < self.labels else "right")
        for row in self.rows:
            table.add_row(*map(text, row))
        return table


def text(cell: Cell) -> str:
    """Words as they are; numbers with as many digits as they deserve."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, float) and not math.isfinite(cell):
        return "–"
    if isinstance(cell, int) or abs(cell) >= 100:
        return f"{cell:,.0f}"
    return f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}"
