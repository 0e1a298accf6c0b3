"""Networks come back from their files, and what is none is refused in one line."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import training
from training import layers
from training.errors import TrainingError
from training.packaging.saved import load_network, save_network

# Keras's own, where it saves: TensorFlow's variables are older than NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Doubling(keras.layers.Layer):  # type: ignore[misc]
    """A layer that whoever loads the network does not know."""

    def call(self, x: object) -> object:
        return x + x  # type: ignore[operator]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    save_network(network, tmp_path / "new" / "x.keras")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.keras"]
    found = load_network(tmp_path / "new" / "x.keras")
    for weight, saved in zip(found.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, saved)


def test_a_file_that_is_no_network(tmp_path: Path) -> None:
    path = tmp_path / "x.keras"
    for _ in range(2):  # absent, then not a network
        with pytest.raises(TrainingError, match=r"x\.keras is not a saved Keras network"):
            load_network(path)
        path.write_bytes(b"no")


def test_a_network_that_needs_code_of_its_own(tmp_path: Path) -> None:
    save_network(keras.Sequential([keras.Input((3,)), Doubling()]), tmp_path / "x.keras")
    with pytest.raises(TrainingError, match=r"is not a saved Keras network: .*Doubling") as caught:
        load_network(tmp_path / "x.keras")
    assert "\n" not in str(caught.value)


def test_the_layers_of_the_better_recipes_are_known_without_more_ado(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = keras.Input((3,))
    save_network(keras.Model(given, layers.Members(2, 4)(given)), tmp_path / "x.keras")
    # As in a process that has not imported them.
    monkeypatch.setattr(training, "layers", layers)  # puts it back
    monkeypatch.delitem(sys.modules, "training.layers")
    for name in ("TermSum", "Log", "Members"):
        monkeypatch.delitem(keras.saving.get_custom_objects(), f"{layers.PACKAGE}>{name}")
    assert load_network(tmp_path / "x.keras").output_shape == (2, None, 4)
