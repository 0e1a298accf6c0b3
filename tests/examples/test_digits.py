"""Digits by the README's own commands, with a network that needs no training in the place of the one it trains."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import digits
from tests.examples.page import EXAMPLES, ROOT, Walk, shown

PAGE = EXAMPLES / "digits" / "README.md"
DRAW = EXAMPLES / "digits" / "draw.py"
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's, saving

ROWS = range(20)


@pytest.fixture(scope="module")
def walk(digit_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    def fit(arguments: list[str]) -> None:
        from training.__main__ import main

        command = ["fit", "digits", "--recipe", "book", "--data", str(digit_data), "--out", "runs/examples"]
        assert arguments == [*command, "--version", "1", "--force"]
        assert main([*arguments, "--version", "0"]) == 1, "the version is refused, and so every flag was understood"
        digits.package(digit_data, Path("runs"), Path("runs/examples"))

    with Walk(tmp_path_factory.mktemp("digits"), digit_data, fit) as walk:
        yield walk.follow(PAGE)


def test_the_recipe_is_run_where_it_is_at_home() -> None:
    documented = (ROOT / "docs" / "model-developer.md").read_text("utf-8")
    assert re.search(r"^```sh data\npython -m training fit digits ", documented, re.MULTILINE)


def test_the_package_is_ready(walk: Walk) -> None:
    [checked] = [printed for command, printed in walk.printed.items() if "serving check" in command]
    assert checked.splitlines()[-1].startswith("1 ready")


def test_the_drawings_are_those_of_the_page(walk: Walk) -> None:
    def drawings(text: str) -> list[str]:
        return [line for line in text.rstrip().splitlines() if not line.startswith("test digit")]

    assert drawings(walk.output("draw.py")) == drawings(shown(PAGE)[0])


def test_most_digits_are_told(walk: Walk, digit_data: Path) -> None:
    printed = walk.run(f"python examples/digits/draw.py {' '.join(map(str, ROWS))}")
    answers = re.findall(r"^test digit (\d+): (\d), (\d+\.\d)% sure, (right|wrong: it is a (\d))$", printed, re.M)
    assert [int(row) for row, *_ in answers] == list(ROWS)
    with np.load(digit_data / "mnist.npz") as file:
        truth = file["y_test"][: len(ROWS)]
    for (_, digit, _, verdict, other), label in zip(answers, truth, strict=True):
        assert (digit if verdict == "right" else other) == str(label)
        assert (verdict == "right") == (digit == str(label))
    assert sum(verdict == "right" for *_, verdict, _ in answers) >= 0.7 * len(ROWS)
    assert all(10 <= float(sure) <= 100 for _, _, sure, _, _ in answers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["0", "--data", "{empty}"], "error: mnist.npz is missing: looked in {empty}\n"),
        (["0", "10000", "--data", "{data}"], "error: no such test digit: expected 0 to 9999\n"),
    ],
)
def test_what_is_not_there_is_one_line(arguments: list[str], message: str, digit_data: Path, tmp_path: Path) -> None:
    places = {"data": digit_data, "empty": tmp_path}
    command = [sys.executable, str(DRAW), *(argument.format(**places) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, message.format(**places))
