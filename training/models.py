"""The reference networks, exactly as in the book, and all that is chosen about them.

Source: Chollet, Deep Learning with Python, 2nd ed., chapters 2 and 4. Keras is imported where it is used, so that
reading a recipe costs nothing.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from serving.package.manifest import Task
from training.data import (
    BOSTON_HOUSING,
    IMDB,
    MNIST,
    NUM_WORDS,
    OUT_OF_VOCABULARY,
    REUTERS,
    Array,
    Dataset,
    Inputs,
    Table,
)

Network = Any
"""A `keras.Model`; Keras ships no types."""

SEED = 0
"""Fixed before the first fit and never chosen by a result."""


@dataclass(frozen=True)
class Recipe:
    """One reference model: what it learns from, its network, and how it is fitted."""

    name: str
    task: Task
    dataset: Dataset
    features: int
    """Width of what the first dense layer takes: multi-hot columns, or numbers that the network scales itself."""
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
    input: str
    """Name of the input as clients see it."""
    image: tuple[int, int] | None = None
    """Height and width of the grey images that the samples are, where they are images."""
    optimizer: str = "rmsprop"
    seed: int = SEED
    variant: str = "book"
    """What this recipe is called among those for the same model."""
    hidden_activation: str = "relu"
    l1: float = 0.0
    """Penalty on the absolute values of the hidden layers' kernels, added to the loss."""
    l2: float = 0.0
    """Penalty on their squares."""
    dropout: float = 0.0
    """Share of each hidden layer's outputs that training drops."""
    normalise: bool = True
    """Whether numbers are scaled to mean 0 and variance 1 before the first layer."""
    iterations: int = 1
    """Of K-fold validation; from 2 on, each shuffles anew, and 1 takes the samples in their own order."""
    missing: float = 0.0
    """Share of the features that training takes for absent, others in each batch."""

    @property
    def is_text(self) -> bool:
        """Whether samples are texts; else they are numbers."""
        return self.dataset.word_index is not None

    def encode(self, x: Inputs, network: Network) -> Inputs:
        """The samples `x` in the form in which `network`, one of this recipe, takes them batch by batch."""
        return x

    def network(self, x: Inputs | None = None, y: Array | None = None) -> Network:
        """The untrained, compiled network; `x` and `y` are the training samples, where it begins with what they say."""
        return build(self, x)

    def begin(self, x: Inputs, y: Array) -> tuple[Network, Inputs]:
        """The untrained network for the training samples `x` and `y`, and `x` in the form in which it takes them."""
        network = self.network(x, y)
        return network, self.encode(x, network)

    @property
    def cpu_only(self) -> str:
        """Why it can't be trained on a GPU; empty where it can."""
        return ""

    def known(self, network: Network) -> Array:
        """int64: the ids of the words that have a column of their own in `network`."""
        return np.arange(OUT_OF_VOCABULARY + 1, NUM_WORDS)

    def finished(self, network: Network) -> Network:
        """The trained `network` as it is exported, its outputs those of the package."""
        return network

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What the network and its training are made from; of what most recipes leave alone, only what this changes."""
        always = ("hidden", "activation", "optimizer", "loss", "epochs", "batch_size")
        sometimes = ("hidden_activation", "l1", "l2", "dropout", "normalise", "missing")
        changed = (name for name in sometimes if getattr(self, name) != getattr(type(self), name))
        return {name: getattr(self, name) for name in (*always, *changed)}

    @property
    def unit(self) -> str:
        """Of the outputs; empty for probabilities."""
        return "thousand dollars" if self.task == "regression" else ""

    @property
    def one_hot(self) -> bool:
        """Whether the loss takes a target as a row with a one in its class's column, and not as the class's number."""
        return self.loss in ("categorical_crossentropy", "squared_hinge")

    @property
    def sample(self) -> tuple[int, ...]:
        """Shape of one sample as the network takes it."""
        return self.image or (self.features,)


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
    input="text",
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
    input="text",
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
    input="features",
)

# §2.1
DIGITS = Recipe(
    name="digits",
    task="multiclass-classification",
    dataset=MNIST,
    features=28 * 28,
    hidden=(512,),
    outputs=10,
    activation="softmax",
    loss="sparse_categorical_crossentropy",
    metric="accuracy",
    epochs=5,
    batch_size=128,
    validation_samples=10_000,
    folds=0,
    output="probability",
    labels=tuple("0123456789"),
    book=0.978,
    input="pixels",
    image=(28, 28),
)

RECIPES = {recipe.name: recipe for recipe in (SENTIMENT, TOPIC, HOUSE_PRICE, DIGITS)}

WHITE = 255
"""The largest grey value."""


def build(recipe: Recipe, x: Inputs | None = None) -> Network:
    """The untrained, compiled network of `recipe`.

    float32 [N, features] in, or uint8 [N, height, width] where samples are images; float32 [N, outputs] out.

    Args:
        recipe: which one.
        x: the training samples; the mean and the variance of numbers scale the features. Not used for texts and images.
    """
    import keras

    layers: list[Any] = [keras.Input(recipe.sample, dtype="uint8" if recipe.image else "float32")]
    if recipe.image:
        layers += [keras.layers.Rescaling(1 / WHITE), keras.layers.Flatten()]
    elif isinstance(x, Table) and recipe.normalise:
        scaling = keras.layers.Normalization()
        scaling.adapt(x.values)
        layers.append(scaling)
    for units in recipe.hidden:
        penalty = keras.regularizers.L1L2(recipe.l1, recipe.l2) if recipe.l1 or recipe.l2 else None
        layers.append(keras.layers.Dense(units, activation=recipe.hidden_activation, kernel_regularizer=penalty))
        if recipe.dropout:
            layers.append(keras.layers.Dropout(recipe.dropout))
    layers.append(keras.layers.Dense(recipe.outputs, activation=recipe.activation))
    network = keras.Sequential(layers, name=recipe.name)
    network.compile(optimizer=recipe.optimizer, loss=recipe.loss, metrics=[recipe.metric])
    return network
