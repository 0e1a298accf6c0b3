"""Hotels from end to end: trained, packaged, checked, served and asked, by the README's own commands."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.examples.page import EXAMPLES, Walk, shown

PAGE = EXAMPLES / "hotels" / "README.md"
TRAIN, ASK = EXAMPLES / "hotels" / "train.py", EXAMPLES / "hotels" / "ask.py"


def package(arguments: list[str]) -> None:
    from training.__main__ import main

    assert arguments[0] == "package"
    assert main(arguments) == 0


@pytest.fixture(scope="module")
def walk(hotel_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    with Walk(tmp_path_factory.mktemp("hotels"), hotel_data, package) as walk:
        yield walk.follow(PAGE)


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def rows(table: str) -> dict[str, list[float]]:
    """The four figures of each model, by its name."""
    found = re.findall(r"^(\S.*?\S)((?: +\d+\.\d){4})$", table, re.MULTILINE)
    return {name: numbers(figures) for name, figures in found}


def test_the_table_of_the_page_is_true(walk: Walk) -> None:
    table, _ = shown(PAGE)
    found = rows(walk.output("train.py"))
    assert list(found) == list(rows(table))
    for name, figures in rows(table).items():
        assert found[name] == pytest.approx(figures, rel=0.02, abs=0.11), name


def test_a_neuron_is_least_squares_and_a_network_is_better(walk: Walk) -> None:
    table = rows(walk.output("train.py"))
    for features in ("distance", "both"):
        assert table[f"one neuron, {features}"] == pytest.approx(table[f"least squares, {features}"], abs=0.11)
    train_mse, train_mae, test_mse, test_mae = (
        network / neuron
        for network, neuron in zip(table["3 hidden units, both"], table["one neuron, both"], strict=True)
    )
    assert max(train_mse, test_mse) < 0.2
    assert max(train_mae, test_mae) < 0.5


def test_both_packages_are_ready(walk: Walk) -> None:
    [checked] = [printed for command, printed in walk.printed.items() if "serving check" in command]
    assert checked.splitlines()[-1].startswith("2 ready")


def test_answers_are_those_of_keras(walk: Walk) -> None:
    import keras

    printed = walk.output("ask.py")
    found = np.array([numbers(line) for line in printed.splitlines()[1:]])  # miles, stars, two prices
    for column, name in enumerate(("hotels_linear", "hotels_network"), 2):
        network = keras.models.load_model(walk.folder / "runs" / "hotels" / f"{name}.keras")
        prices = keras.ops.convert_to_numpy(network(found[:, :2].astype(np.float32)))[:, 0]
        assert found[:, column] == pytest.approx(prices, abs=0.006), "to the cent"
    assert found == pytest.approx(np.array([numbers(line) for line in shown(PAGE)[1].splitlines()[1:]]), rel=0.02)


def test_the_picture_is_one(walk: Walk) -> None:
    for picture in (walk.folder / "runs" / "hotels" / "hotels.svg", PAGE.parent / "hotels.svg"):
        text = "".join(ElementTree.parse(picture).getroot().itertext())
        assert "one neuron: 26 USD off on average" in text
        assert "3 hidden units: 7 USD off on average" in text


def test_the_test_hotels_are_the_golden_examples(walk: Walk, hotel_data: Path) -> None:
    lines = [line.split(",") for line in (hotel_data / "hotels.csv").read_text().splitlines()]
    test = [[float(miles), float(stars)] for split, miles, stars, _ in lines if split == "test"]
    features = np.load(walk.folder / "runs" / "hotels" / "hotels.npz")["features"]
    assert features.shape == (len(lines) - 1, 2)
    assert features[: len(test)] == pytest.approx(np.array(test))


def test_a_server_that_is_not_there_is_one_line() -> None:
    command = [sys.executable, str(ASK), "1,4", "--address", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: 127.0.0.1:1: ")
    assert done.stderr.count("\n") == 1
