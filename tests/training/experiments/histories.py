"""Records of made-up runs."""

from collections.abc import Sequence
from typing import Any

from training.experiments.stale import inputs
from training.experiments.variants import VARIANTS
from training.runs import Epoch, Record


def made_up(
    model: str, variant: str, losses: Sequence[float], metrics: Sequence[float] | None = None, **changes: Any
) -> Record:
    """A record of `variant` with the same validation losses, and metrics, in each fold."""
    recipe = next(each for each in VARIANTS[model] if each.name == variant).recipe(model)
    stages = [f"fold {fold}/{recipe.folds}" for fold in range(1, recipe.folds + 1)] or ["validation"]
    metrics = metrics or [1 - loss / 2 for loss in losses]
    figures = [
        {"loss": 1 / epoch, "val_loss": loss, f"val_{recipe.metric}": metric}
        for epoch, (loss, metric) in enumerate(zip(losses, metrics, strict=True), start=1)
    ]
    fields: dict[str, Any] = {
        "model": model,
        "recipe": variant,
        "seed": recipe.seed,
        "task": recipe.task,
        "metric": recipe.metric,
        "labels": [],
        "hyperparameters": inputs(recipe)["hyperparameters"],
        "provenance": {
            "dataset_sha256": inputs(recipe)["data"],
            "code": "sha256:0",
            "libraries": {"keras": "3", "tensorflow": "2"},
        },
        "protocol": "the first rows",
        "epochs": [
            Epoch(stage, done, len(losses), each) for stage in stages for done, each in enumerate(figures, start=1)
        ],
        "validation": {"mae": 2.0, "mae_missing": 4.0},
        "seconds": 60.0,
        "training_seconds": None,
        "peak_memory_bytes": 0,
    }
    return Record(**fields | changes)


def valley(best_epoch: int, rise: float, epochs: int = 20, lowest: float = 0.3) -> list[float]:
    """Losses that fall to `lowest` at `best_epoch`, and from there rise by the share `rise` to the end."""
    down = [lowest + 0.1 * (best_epoch - epoch) for epoch in range(1, best_epoch + 1)]
    after = epochs - best_epoch
    return down + [lowest * (1 + rise * step / after) for step in range(1, after + 1)]
