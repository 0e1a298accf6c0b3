"""Keras networks in files."""

from pathlib import Path

from training.errors import TrainingError, one_line
from training.models import Network


def load_network(path: Path) -> Network:
    """The Keras network saved in `path`.

    Raises:
        TrainingError: it isn't one, or it needs code that isn't here.
    """
    import keras

    import training.layers  # noqa: F401  # makes them known to Keras

    try:
        return keras.models.load_model(path, compile=False)  # nothing here trains it further
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(f"{path} is not a saved Keras network: {one_line(error)}") from error


def save_network(network: Network, path: Path) -> None:
    """Save `network` to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")  # Keras insists on the suffix
    try:
        network.save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
