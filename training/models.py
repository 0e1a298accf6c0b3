"""The three reference networks, exactly as in the book, and all that is chosen about them.

Source: Chollet, Deep Learning with Python, 2nd ed., chapter 4. Keras is imported where it is used, so that
reading a recipe costs nothing.
"""

from dataclasses import dataclass
from typing import Any, Literal

from training.data import BOSTON_HOUSING, IMDB, NUM_WORDS, REUTERS, Dataset, Table

Network = Any
"""A `keras.Model`; Keras ships no types."""

SEED = 0
"""Fixed before the first fit and never chosen by a result."""


@dataclass(frozen=True)
class Recipe:
    """One reference model: what it learns from, its network, and how it is fitted."""

    name: str
    task: Literal["binary-classification", "multiclass-classification", "regression"]
    dataset: Dataset
    features: int
    """Width of what the network takes: multi-hot columns, or raw numbers that it scales itself."""
    hidden: tuple[int, ...]
    outputs: int
    activation: Literal["sigmoid", "softmax", "linear"]
    loss: str
    metric: Literal["accuracy", "mae"]
    epochs: int
    batch_size: int
    validation_samples: int
    """Training samples held out, the first ones; 0 where `folds` is used."""
    folds: int
    """Parts for K-fold validation; 0 where samples are held out."""
    output: str
    """Name of the graph's output."""
    labels: tuple[str, ...]
    book: float
    """The test metric that the book reports."""
    optimizer: str = "rmsprop"
    seed: int = SEED

    @property
    def is_text(self) -> bool:
        """Whether samples are texts; else they are rows of numbers."""
        return self.dataset.word_index is not None


# §4.1
SENTIMENT = Recipe(
    name="sentiment",
    task="binary-classification",
    dataset=IMDB,
    features=NUM_WORDS,
    hidden=(16, 16),
    outputs=1,
    activation="sigmoid",
    loss="binary_crossentropy",
    metric="accuracy",
    epochs=4,
    batch_size=512,
    validation_samples=10_000,
    folds=0,
    output="probability",
    labels=("negative", "positive"),
    book=0.885,
)

# fmt: off
REUTERS_TOPICS = (
    "cocoa", "grain", "veg-oil", "earn", "acq", "wheat", "copper", "housing", "money-supply", "coffee", "sugar",
    "trade", "reserves", "ship", "cotton", "carcass", "crude", "nat-gas", "cpi", "money-fx", "interest", "gnp",
    "meal-feed", "alum", "oilseed", "gold", "tin", "strategic-metal", "livestock", "retail", "ipi", "iron-steel",
    "rubber", "heat", "jobs", "lei", "bop", "zinc", "orange", "pet-chem", "dlr", "gas", "silver", "wpi", "hog", "lead",
)
# fmt: on

# §4.2
TOPIC = Recipe(
    name="topic",
    task="multiclass-classification",
    dataset=REUTERS,
    features=NUM_WORDS,
    hidden=(64, 64),
    outputs=len(REUTERS_TOPICS),
    activation="softmax",
    loss="sparse_categorical_crossentropy",
    metric="accuracy",
    epochs=9,
    batch_size=512,
    validation_samples=1_000,
    folds=0,
    output="probability",
    labels=REUTERS_TOPICS,
    book=0.80,
)

# §4.3
HOUSE_PRICE = Recipe(
    name="house_price",
    task="regression",
    dataset=BOSTON_HOUSING,
    features=13,
    hidden=(64, 64),
    outputs=1,
    activation="linear",
    loss="mse",
    metric="mae",
    epochs=80,
    batch_size=16,
    validation_samples=0,
    folds=4,
    output="price",
    labels=(),
    book=2.55,
)

RECIPES = {recipe.name: recipe for recipe in (SENTIMENT, TOPIC, HOUSE_PRICE)}


def build(recipe: Recipe, table: Table | None = None) -> Network:
    """The untrained, compiled network of `recipe`: float32 [N, features] in, [N, outputs] out.

    Args:
        recipe: which one.
        table: the training samples whose mean and variance scale the features; None for multi-hot input.
    """
    import keras

    layers: list[Any] = [keras.Input((recipe.features,))]
    if table is not None:
        scaling = keras.layers.Normalization()
        scaling.adapt(table.values)
        layers.append(scaling)
    layers += [keras.layers.Dense(units, activation="relu") for units in recipe.hidden]
    layers.append(keras.layers.Dense(recipe.outputs, activation=recipe.activation))
    network = keras.Sequential(layers, name=recipe.name)
    network.compile(optimizer=recipe.optimizer, loss=recipe.loss, metrics=[recipe.metric])
    return network
