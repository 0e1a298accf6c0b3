"""What the command line predicts from: texts and houses, from arguments, files and standard input."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

from serving.client.types import House

T = TypeVar("T")

STDIN = "-"

MAX_BATCH = 256
"""Instances in one request: the rows of the server's largest batch."""
MAX_BATCH_CHARACTERS = 500_000
"""Characters in one request of many texts, which keeps it below the server's limit of 4 MiB a message."""


def texts(arguments: Iterable[str], paths: Iterable[str], *, by_line: bool) -> Iterator[str]:
    """The arguments' texts, then the files'; a file is one text, or one text per line. "-" is standard input."""
    for argument in arguments:
        if argument == STDIN:
            yield from _file_texts(STDIN, by_line=by_line)
        else:
            yield argument
    for path in paths:
        yield from _file_texts(path, by_line=by_line)


def houses(paths: Iterable[str]) -> Iterator[House]:
    """The houses of files: JSON lines, or CSV with a header of features, where an empty cell is an absent one.

    Raises ValueError, which says where, for anything else.
    """
    for path in paths:
        header: list[str] = []
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if line.isspace():
                    continue
                try:
                    if line.lstrip().startswith("{"):
                        house = _house(json.loads(line))
                    elif header:
                        house = _house(_row(header, line))
                    else:
                        header = _header(line)
                        continue
                except ValueError as error:
                    raise ValueError(f"{_name(path)}, line {number}: {error}") from None
                yield house


def batches(instances: Iterable[T]) -> Iterator[list[T]]:
    """Cut instances into requests, as they are read."""
    batch: list[T] = []
    characters = 0
    for instance in instances:
        length = len(instance) if isinstance(instance, str) else 0
        if batch and characters + length > MAX_BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
        batch.append(instance)
        characters += length
        if len(batch) == MAX_BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _file_texts(path: str, *, by_line: bool) -> Iterator[str]:
    with _open(path) as file:
        if by_line:
            yield from (line.removesuffix("\n") for line in file)
        else:
            yield file.read()


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line]))]


def _header(line: str) -> list[str]:
    header = _cells(line)
    House.from_mapping(dict.fromkeys(header))  # refuses a name that is no feature
    if len(set(header)) < len(header):
        raise ValueError("a feature is named twice")
    return header


def _row(header: list[str], line: str) -> dict[str, object]:
    cells = _cells(line)
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells under a header of {len(header)}")
    return dict(zip(header, cells, strict=True))


def _house(features: dict[str, object]) -> House:
    return House.from_mapping({name: _number(name, value) for name, value in features.items()})


def _number(name: str, value: object) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name}: expected a number, got {value!r}") from None


def _name(path: str) -> str:
    return "standard input" if path == STDIN else path


@contextmanager
def _open(path: str) -> Iterator[TextIO]:
    """A file, or standard input, as text; a byte order mark is no part of it."""
    try:
        with open(sys.stdin.fileno() if path == STDIN else path, encoding="utf-8-sig", closefd=path != STDIN) as file:
            yield file
    except UnicodeDecodeError as error:
        raise ValueError(f"{_name(path)}: not UTF-8: {error.reason} at byte {error.start}") from None
