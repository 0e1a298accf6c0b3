"""The variants of each recipe: what the book suggests to try, as changes to its own recipe.

Source: Chollet, Deep Learning with Python, 2nd ed., §4.1.6, §4.2.6–4.2.8, §4.3.4, §5.4.4 and §6.2.1.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from training.errors import TrainingError
from training.models import RECIPES, Recipe

BOOK = "book"
"""The variant that the others are compared with."""


@dataclass(frozen=True)
class Variant:
    """One experiment: a recipe with something changed, and what that is to show."""

    name: str
    asks: str
    """The question, one line for people."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the recipe that differ from the book's."""
    group: str = ""
    """What it varies, as the title of a picture; empty for the book's own, which is in all of them."""

    def recipe(self, model: str) -> Recipe:
        """The recipe of `model` with this variant's changes."""
        return dataclasses.replace(RECIPES[model], variant=self.name, **self.changes)


def _variants(common: dict[str, Any], *variants: Variant) -> tuple[Variant, ...]:
    return tuple(dataclasses.replace(variant, changes={**common, **variant.changes}) for variant in variants)


DEPTH, WIDTH, REGULARISED = "Hidden layers", "Units a layer", "Regularisation"

# Twenty epochs each, so that overfitting can be seen.
SENTIMENT = _variants(
    {"epochs": 20},
    Variant(BOOK, "When does the book's network, two layers of 16 units, begin to overfit?"),
    Variant("layers-1", "Is one hidden layer enough?", {"hidden": (16,)}, DEPTH),
    Variant("layers-3", "Do three hidden layers do better?", {"hidden": (16, 16, 16)}, DEPTH),
    Variant("units-4", "Does a smaller network overfit later?", {"hidden": (4, 4)}, WIDTH),
    Variant("units-32", "What do twice as many units change?", {"hidden": (32, 32)}, WIDTH),
    Variant("units-64", "What do four times as many units change?", {"hidden": (64, 64)}, WIDTH),
    Variant("units-512", "Does a far larger network overfit sooner?", {"hidden": (512, 512)}, WIDTH),
    Variant("mse", "Does mean squared error do as well as cross-entropy?", {"loss": "mse"}, "Loss, activation"),
    Variant("tanh", "Does tanh do as well as relu?", {"hidden_activation": "tanh"}, "Loss, activation"),
    Variant("l1", "Does an L1 penalty of 0.001 resist overfitting?", {"l1": 0.001}, REGULARISED),
    Variant("l2", "Does an L2 penalty of 0.001 resist overfitting?", {"l2": 0.001}, REGULARISED),
    Variant("l1-l2", "Do both penalties together?", {"l1": 0.001, "l2": 0.001}, REGULARISED),
    Variant("dropout", "Does dropping half of each layer's outputs resist it?", {"dropout": 0.5}, REGULARISED),
)

TOPIC = _variants(
    {"epochs": 20},
    Variant(BOOK, "When does the book's network, two layers of 64 units, begin to overfit?"),
    Variant("layers-1", "Is one hidden layer enough?", {"hidden": (64,)}, DEPTH),
    Variant("layers-3", "Do three hidden layers do better?", {"hidden": (64, 64, 64)}, DEPTH),
    Variant("bottleneck", "What does a second layer of 4 units cost 46 topics?", {"hidden": (64, 4)}, "Narrow layers"),
    Variant("units-16", "What do layers narrower than 46 topics cost?", {"hidden": (16, 16)}, "Narrow layers"),
    Variant("units-32", "What do half as many units change?", {"hidden": (32, 32)}, WIDTH),
    Variant("units-128", "What do twice as many units change?", {"hidden": (128, 128)}, WIDTH),
    Variant("units-512", "Does a far larger network overfit sooner?", {"hidden": (512, 512)}, WIDTH),
    Variant("one-hot", "Do one-hot labels give what numbers give?", {"loss": "categorical_crossentropy"}, "Labels"),
    Variant("l2", "Does an L2 penalty of 0.001 resist overfitting?", {"l2": 0.001}, REGULARISED),
    Variant("dropout", "Does dropping half of each layer's outputs resist it?", {"dropout": 0.5}, REGULARISED),
)

MISSING = 0.2
"""Share of the features that are hidden, where some are: in training (variant `missing`) and in measuring."""

HOUSE_PRICE = _variants(
    {"epochs": 200},
    Variant(BOOK, "How well does the book's network do, two layers of 64 units?"),
    Variant("long", "When does the validation MAE stop improving?", {"epochs": 500}, "Epochs"),
    Variant("raw", "What does it cost to leave features as they are?", {"normalise": False}, "Scaling"),
    Variant("units-16", "Is a smaller network enough for 404 samples?", {"hidden": (16, 16)}, WIDTH),
    Variant("units-256", "Does a larger network do better?", {"hidden": (256, 256)}, WIDTH),
    Variant("l2", "What does an L2 penalty of 0.01 change?", {"l2": 0.01}, REGULARISED),
    Variant("dropout", "What does dropping a fifth of each layer's outputs change?", {"dropout": 0.2}, REGULARISED),
    Variant("missing", "Does hiding a fifth of the features teach it to do without?", {"missing": MISSING}, "Gaps"),
)

VARIANTS = {"sentiment": SENTIMENT, "topic": TOPIC, "house_price": HOUSE_PRICE}
"""The experiments by model, the book's own recipe first."""


def chosen(model: str, names: list[str]) -> list[Variant]:
    """The variants of `model` called `names`, in the order of `VARIANTS`.

    Raises:
        TrainingError: there are no experiments with `model`, or none of one of the names.
    """
    if model not in VARIANTS:
        raise TrainingError(f"there are no experiments with {model}, only with {', '.join(VARIANTS)}")
    known = {variant.name: variant for variant in VARIANTS[model]}
    for name in names:
        if name not in known:
            raise TrainingError(f"{model} has no experiment {name!r}, only {', '.join(known)}")
    return [variant for name, variant in known.items() if name in names]
