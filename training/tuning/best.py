"""What a search found best, as a file that a later fit takes."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from training.errors import TrainingError, one_line
from training.models import Recipe

VARIANT = "tuned"
ACTIVATIONS = ("relu", "tanh", "elu")
OPTIMIZERS = ("rmsprop", "adam", "nadam")

Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Penalty = Annotated[float, msgspec.Meta(ge=0)]


class Hyperparameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a search chooses, under the names that a recipe has for it."""

    hidden: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)]
    hidden_activation: Literal["relu", "tanh", "elu"]
    dropout: Share
    l2: Penalty
    optimizer: Literal["rmsprop", "adam", "nadam"]
    epochs: Count


class Best(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The best trial of a search, and how it was found."""

    model: str
    hyperparameters: Hyperparameters
    metric: str
    value: float
    """Of the metric, on validation samples."""
    protocol: str
    """How it was measured."""
    search: str
    trials: int
    seed: int


def tuned(recipe: Recipe, chosen: Hyperparameters) -> Recipe:
    """`recipe` with what was `chosen`, as its variant "tuned"."""
    return replace(recipe, variant=VARIANT, **msgspec.structs.asdict(chosen))


def write(path: Path, best: Best) -> None:
    """Write `best` to the file `path`, whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(best), indent=1) + b"\n")
    temporary.replace(path)


def apply(recipe: Recipe, path: Path) -> Recipe:
    """`recipe` with the hyperparameters in the file `path`, which a search wrote or somebody edited.

    Raises:
        TrainingError: there is no such file, it is not as it should be, or it is another model's.
    """
    try:
        best = msgspec.json.decode(path.read_bytes(), type=Best)
    except (OSError, msgspec.DecodeError) as error:
        raise TrainingError(
            f"{path}: no hyperparameters: {one_line(error)}. python -m training tune {recipe.name} writes such a file."
        ) from error
    if best.model != recipe.name:
        raise TrainingError(f"{path}: these are hyperparameters of {best.model}, not of {recipe.name}")
    return tuned(recipe, best.hyperparameters)
