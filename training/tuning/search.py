"""A search: trials validated one after another, kept on disk after each, so that an interrupted one goes on later.

Sources: Bergstra & Bengio, Random Search for Hyper-Parameter Optimization, JMLR 2012; Li et al., Hyperband, JMLR 2018.
"""

import contextlib
import io
import time
from dataclasses import replace
from typing import Any

import msgspec

from training.data import Data, load
from training.errors import TrainingError, one_line
from training.models import Recipe
from training.options import Options
from training.placement import settle
from training.quiet import silent_stderr
from training.tuning.best import Best, Hyperparameters, tuned, write
from training.tuning.order import Progress, Search, Trial

BEST = "best.json"
PATIENCE = 4
"""A trial stops after a quarter of its epochs without a lower loss."""
AT_BEST = ", at the epoch with the lowest loss on them"
"""How a trial's figures differ from those of a recipe that says how long to train."""


class Book(msgspec.Struct, frozen=True):
    """What the search starts from, and what its recipe itself reaches in the same validation."""

    search: str
    epochs: int
    seed: int
    recipe: dict[str, Any]
    value: float
    protocol: str


class Found(msgspec.Struct, frozen=True):
    """What came of a search: its trials, best first, and the recipe's own figure."""

    trials: list[Trial]
    book: Book
    file: str
    """Where the best is written."""


def search(order: Search) -> Found:
    """Run `order`, or go on with it where it was interrupted.

    The test set is loaded with the rest of the data, and never looked at.

    Raises:
        TrainingError: the folder holds another search, or no trial came to an end.
    """
    from training.progress import Display

    with Display(order.recipe.name) as display:
        order = replace(order, options=settle(order.options, order.recipe, display.say))
        data = load(order.recipe.dataset, order.data)
        with silent_stderr():
            import tensorflow  # noqa: F401
        return run(order, data, display.say)


def run(order: Search, data: Data, progress: Progress) -> Found:
    """The same, with the data at hand."""
    from training.tuning.tuner import make

    order.folder.mkdir(parents=True, exist_ok=True)
    book = _book(order, data, progress)

    def measure(chosen: Hyperparameters) -> tuple[float, int]:
        return _measure(tuned(order.recipe, chosen), data, order.options, max(1, chosen.epochs // PATIENCE))[:2]

    with contextlib.redirect_stdout(io.StringIO()):  # KerasTuner prints where it finds an older search
        try:
            tuner = make(order, measure, progress)
        except (ValueError, KeyError, OSError) as error:
            raise TrainingError(
                f"{order.folder}: the search kept there can't be read: {one_line(error)}. Remove it to begin anew."
            ) from error
    tuner.search()
    trials = tuner.finished()
    if not trials:
        raise TrainingError(f"{order.folder}: no trial came to an end")
    best = Best(
        model=order.recipe.name,
        hyperparameters=trials[0].hyperparameters,
        metric=order.recipe.metric,
        value=trials[0].value,
        protocol=f"{book.protocol}{AT_BEST}",
        search=order.kind,
        trials=len(trials),
        seed=order.seed,
    )
    write(order.folder / BEST, best)
    return Found(trials, book, str(order.folder / BEST))


def _measure(recipe: Recipe, data: Data, options: Options, patience: int | None) -> tuple[float, int, str]:
    """The metric on validation samples, the epochs trained for, and how it was measured."""
    import keras

    from training.fit import validate

    keras.backend.clear_session()  # else each trial's graphs would stay
    done = validate(recipe, data.x_train, data.y_train, lambda *_: None, replace(options, early_stopping=patience))
    return done.figures[recipe.metric], done.epochs, done.protocol


def _book(order: Search, data: Data, progress: Progress) -> Book:
    """The search's settings and its recipe's own figure, measured once and then read."""
    path = order.folder / "book.json"
    recipe = msgspec.json.decode(msgspec.json.encode(order.recipe.hyperparameters))  # as it will be read
    if path.exists():
        try:
            book = msgspec.json.decode(path.read_bytes(), type=Book)
        except (OSError, msgspec.DecodeError) as error:
            raise TrainingError(f"{path} can't be read: {one_line(error)}") from error
        if (book.search, book.epochs, book.seed, book.recipe) != (order.kind, order.epochs, order.seed, recipe):
            raise TrainingError(
                f"{order.folder} holds another search: {book.search}, {book.epochs} epochs, seed {book.seed}, for "
                f"{book.recipe}. Go on with that one, name another folder with --runs, or remove this one."
            )
        return book
    started = time.perf_counter()
    value, _, protocol = _measure(order.recipe, data, order.options, patience=None)
    progress(f"the book's recipe: {order.recipe.metric} {value:.4f}, {time.perf_counter() - started:.1f} s")
    book = Book(order.kind, order.epochs, order.seed, recipe, value, protocol)
    path.write_bytes(msgspec.json.encode(book))
    return book
