"""KerasTuner, made to validate as a fit does: it chooses, and keeps its trials in a folder; training stays ours."""

import time
from collections.abc import Callable
from typing import Any

import keras_tuner

from training.tuning.best import Hyperparameters
from training.tuning.order import TRIALS, Progress, Search, Trial
from training.tuning.space import hyperparameters, space

Measure = Callable[[Hyperparameters], tuple[float, int]]
"""Gives the metric on validation samples, and the epochs that were best."""

EPOCHS, SECONDS = "epochs", "seconds"


class Tuner(keras_tuner.engine.base_tuner.BaseTuner):  # type: ignore[misc]
    """A tuner that measures, and tells of each trial."""

    def __init__(self, oracle: Any, order: Search, measure: Measure, progress: Progress) -> None:
        self._order, self._measure, self._progress = order, measure, progress
        super().__init__(oracle, directory=str(order.folder.parent), project_name=order.folder.name)
        self.oracle.verbose = 0

    def run_trial(self, trial: Any) -> dict[str, float]:
        """Validate what `trial` chose."""
        started = time.perf_counter()
        # Hyperband's later rounds train from the start again, and longer: a fold has no network to go on with.
        epochs = trial.hyperparameters.values.get("tuner/epochs", self._order.epochs)
        chosen = hyperparameters(trial.hyperparameters.values, epochs)
        try:
            value, best = self._measure(chosen)
        except Exception as error:
            # Anything else would be taken for a bad choice, and another tried.
            raise keras_tuner.errors.FatalError(str(error)) from error
        seconds = time.perf_counter() - started
        self._progress(
            f"trial {trial.trial_id}: {self._order.recipe.metric} {value:.4f}, {described(chosen)}, {seconds:.1f} s"
        )
        return {self._order.recipe.metric: value, EPOCHS: best, SECONDS: seconds}

    def search(self) -> None:
        """Run the trials that are left.

        Raises:
            Exception: what the first that failed raised; it is tried again when the search goes on.
        """
        try:
            super().search()
        except keras_tuner.errors.FatalError as error:
            raise (error.__cause__ or error) from None

    def finished(self) -> list[Trial]:
        """The trials that came to an end, best first."""
        trials = self.oracle.get_best_trials(len(self.oracle.trials))
        return [
            Trial(
                name=trial.trial_id,
                hyperparameters=hyperparameters(
                    trial.hyperparameters.values, int(trial.metrics.get_best_value(EPOCHS))
                ),
                value=float(trial.score),  # NumPy's
                seconds=float(trial.metrics.get_best_value(SECONDS)),
            )
            for trial in trials
        ]


def make(order: Search, measure: Measure, progress: Progress) -> Tuner:
    """The tuner for `order`, where it was when it was last stopped."""
    recipe = order.recipe
    settings: dict[str, Any] = {
        "objective": keras_tuner.Objective(recipe.metric, "min" if recipe.metric == "mae" else "max"),
        "hyperparameters": space(recipe),
        "seed": order.seed + 1,  # KerasTuner takes 0 for none, and then draws one
    }
    if order.kind == "random":
        oracle = keras_tuner.oracles.RandomSearchOracle(max_trials=order.trials or TRIALS, **settings)
    else:
        oracle = keras_tuner.oracles.HyperbandOracle(max_epochs=order.epochs, **settings)
        oracle.max_trials = order.trials
    return Tuner(oracle, order, measure, progress)


def described(chosen: Hyperparameters) -> str:
    """A choice in a few words."""
    layers = "–".join(map(str, chosen.hidden))
    return (
        f"{layers} {chosen.hidden_activation}, dropout {chosen.dropout:g}, l2 {chosen.l2:g}, {chosen.optimizer}, "
        f"at most {chosen.epochs} epochs"
    )
