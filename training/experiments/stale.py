"""Whether a record is one of the experiment that would be run now, or of another that went by the same name."""

from typing import Any

import msgspec

from training.models import Recipe
from training.runs import Record


def inputs(recipe: Recipe) -> dict[str, Any]:
    """What an experiment's outcome follows from, as its record holds it.

    The code is not among them: any edit would cost an hour. Records say which code they are of; comparing tells where
    it differs, and all can be run again.
    """
    data = recipe.dataset
    files = [file for file in (data.arrays, data.word_index) if file is not None]
    protocol = {"validation_samples": recipe.validation_samples, "folds": recipe.folds}
    return {
        # Through JSON, in which a tuple comes back as a list.
        "hyperparameters": msgspec.json.decode(msgspec.json.encode({**recipe.hyperparameters, **protocol})),
        "seed": recipe.seed,
        "data": {file.name: file.sha256 for file in files},
    }


def differs(record: Record, recipe: Recipe) -> str:
    """In what `record` is of another experiment than `recipe`, for people; empty if it is of the same."""
    wanted = inputs(recipe)
    hashes = record.provenance.get("dataset_sha256", {})
    held = {
        "hyperparameters": record.hyperparameters,
        "seed": record.seed,
        "data": {name: hashes.get(name) for name in wanted["data"]},
    }
    return " and ".join(name for name in wanted if wanted[name] != held[name])
