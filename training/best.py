"""Better models than the book's, under the same names and the same API; each was chosen on validation data only.

Texts: a linear model over words and runs of words, in place of a network over a bag of them. Houses: an ensemble of
small networks on the logarithm of the price, in place of one.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from training.data import Array, Inputs, Sequences, Table
from training.errors import ExportError
from training.models import HOUSE_PRICE, SENTIMENT, TOPIC, Network, Recipe
from training.terms import Terms, frequent, inverse_document_frequencies, length, log_ratios

NEEDS_TEXTS = "terms, and what they say, come from labelled texts"
AVERAGE_WORDS = 230
"""Of a review; the unit of its squared length."""


@dataclass(frozen=True)
class BestRecipe(Recipe):
    """What the better recipes share: a learning rate that falls to nothing."""

    variant: str = "best"
    rate: float = 0.001
    """Learning rate at the start; it falls along a cosine to 0 (Loshchilov and Hutter, SGDR, ICLR 2017)."""

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What this recipe says of itself, and what every recipe does."""
        its_own = (field.name for field in fields(self) if field.name not in Recipe.__dataclass_fields__)
        return {**{name: getattr(self, name) for name in its_own}, **super().hyperparameters}

    def falling_rate(self, samples: int) -> Any:
        """The optimizer, its learning rate falling over the training on so many samples."""
        import keras

        rate = keras.optimizers.schedules.CosineDecay(self.rate, self.epochs * -(-samples // self.batch_size))
        if self.optimizer == "sgd":
            return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
        return keras.optimizers.Adam(rate)


@dataclass(frozen=True)
class TermsRecipe(BestRecipe):
    """A linear model over the terms of a text.

    Sources: Wang and Manning, Baselines and Bigrams, ACL 2012 (naive-Bayes scaling); Joachims, Text Categorization with
    Support Vector Machines, ECML 1998 (tf-idf, each class against the rest).
    """

    longest_run: int = 1
    """Words of the longest terms."""
    least: int = 1
    """Occurrences that make a run of two words or more a term."""
    scale: Literal["log-ratio", "idf"] = "idf"
    """What the counts of a term are multiplied by: its naive-Bayes log ratio, or its inverse document frequency."""
    sharpness: float = 1.0
    """What sums trained with a hinge are multiplied by, to become probabilities."""

    def encode(self, x: Inputs, network: Network) -> Inputs:
        """The terms that `network` knows, counted in the texts `x`."""
        if not isinstance(x, Sequences):
            raise TypeError("terms are counted in texts")
        return Terms.count(x, np.asarray(terms_of(network).keys))

    def network(self, x: Inputs | None = None, y: Array | None = None) -> Network:
        """One layer over the terms of the texts `x`."""
        if x is None or y is None:
            raise TypeError(NEEDS_TEXTS)
        return self.begin(x, y)[0]

    def begin(self, x: Inputs, y: Array) -> tuple[Network, Inputs]:
        """The same, and the terms of `x`, which are counted once for both."""
        import keras

        from training.layers import TermSum

        if not isinstance(x, Sequences):
            raise TypeError(NEEDS_TEXTS)
        keys = frequent(x, self.longest_run, self.least)
        terms = Terms.count(x, keys)
        if self.scale == "log-ratio":
            scale = log_ratios(terms.counts, y, keys)
            square = np.where(length(keys) == 1, 1 / AVERAGE_WORDS, 0).astype(np.float32)
        else:
            scale = inverse_document_frequencies(terms.counts)
            square = np.square(scale)
        layer = TermSum(self.outputs, len(keys), floor=float(square[square > 0].min()), penalty=self.l2)
        given = keras.Input((len(keys),), sparse=True)
        sums = layer(given)
        layer.adapt(keys, scale, square)
        outputs = sums if self._is_hinge else keras.layers.Activation(self.activation)(sums)
        network = keras.Model(given, outputs, name=self.name)
        network.compile(optimizer=self.falling_rate(len(y)), loss=self.loss, metrics=[self.metric])
        return network, terms

    @property
    def cpu_only(self) -> str:
        """TensorFlow refuses the product of `TermSum` on a GPU once ops must be deterministic."""
        return (
            "TensorFlow has no deterministic product of a sparse and a dense matrix for GPUs, and this is one; "
            "--recipe book has another network"
        )

    def known(self, network: Network) -> Array:
        """The words that are terms."""
        keys = np.asarray(terms_of(network).keys)
        words: Array = keys[length(keys) == 1]
        return words

    def finished(self, network: Network) -> Network:
        """`network` with probabilities for the sums that a hinge leaves."""
        import keras

        if not self._is_hinge:
            return network
        sharper = keras.layers.Rescaling(self.sharpness)(network.outputs[0])
        return keras.Model(network.input, keras.layers.Activation(self.activation)(sharper), name=self.name)

    @property
    def _is_hinge(self) -> bool:
        return self.loss == "squared_hinge"


@dataclass(frozen=True)
class EnsembleRecipe(BestRecipe):
    """Small networks, each learning the logarithm of the price, averaged there.

    Source: Hansen and Salamon, Neural Network Ensembles, 1990: what members get wrong each in their own way cancels.
    """

    members: int = 8
    noise: float = 0.1
    """Standard deviation of what training adds to the scaled features (Bishop, 1995: like a penalty on the slope)."""
    logged: tuple[int, ...] = ()
    """Features that are taken as logarithms."""
    floor: float = 1e-3
    """The least value that a logarithm is taken of."""

    def network(self, x: Inputs | None = None, y: Array | None = None) -> Network:
        """All members at once; gives the standardised log price of each, float32 [N, members]."""
        import keras

        from training.layers import Log, Members

        if not isinstance(x, Table) or y is None:
            raise TypeError("scaling comes from labelled rows of numbers")
        logs, scaling = Log(self.logged, self.floor), keras.layers.Normalization()
        given = keras.Input(self.sample)
        logged = logs(given)
        logs.adapt(x.values)
        scaling.adapt(np.asarray(logs(x.values)))
        hidden = keras.layers.GaussianNoise(self.noise)(scaling(logged))
        for units in self.hidden:
            hidden = Members(self.members, units, self.hidden_activation)(hidden)
        each = keras.ops.transpose(keras.ops.squeeze(Members(self.members, 1)(hidden), axis=-1))
        prices = Prices.of(y)
        network = keras.Model(given, each, name=self.name)
        network.prices = prices
        network.compile(optimizer=self.falling_rate(len(y)), loss=prices.loss, metrics=[prices.mae])
        return network

    def finished(self, network: Network) -> Network:
        """The price of the members' mean, float32 [N, 1]."""
        import keras

        prices: Prices = network.prices
        mean = keras.ops.mean(network.outputs[0], axis=1, keepdims=True)
        return keras.Model(network.input, keras.ops.exp(mean * prices.spread + prices.mean), name=self.name)


@dataclass(frozen=True)
class Prices:
    """Between prices, and the standardised logarithms that the members learn."""

    mean: float
    """Of the logarithms of the training prices."""
    spread: float
    """Their standard deviation."""

    @classmethod
    def of(cls, y: Array) -> "Prices":
        """Of the training prices `y`."""
        logarithms = np.log(y)
        return cls(float(logarithms.mean()), float(logarithms.std()))

    def loss(self, y: Any, each: Any) -> Any:
        """Mean squared error of the members' standardised logarithms [N, members]."""
        import keras

        price = keras.ops.reshape(keras.ops.cast(y, each.dtype), (-1, 1))
        wanted = (keras.ops.log(price) - self.mean) / self.spread
        return keras.ops.mean(keras.ops.square(each - wanted), axis=-1)

    def mae(self, y: Any, each: Any) -> Any:
        """Absolute error of the price of the members' mean."""
        import keras

        price = keras.ops.exp(keras.ops.mean(each, axis=-1) * self.spread + self.mean)
        return keras.ops.abs(price - keras.ops.reshape(keras.ops.cast(y, each.dtype), (-1,)))


def terms_of(network: Network) -> Any:
    """The layer of `network` that knows its terms.

    Raises:
        ExportError: it has none.
    """
    from training.layers import TermSum

    for layer in network.layers:
        if isinstance(layer, TermSum):
            return layer
    raise ExportError(f"{network.name}: the network knows no terms: expected one of recipe best, or --recipe book")


def _better(recipe: Recipe) -> dict[str, Any]:
    """What stays as in the book's `recipe`."""
    return {field.name: getattr(recipe, field.name) for field in fields(recipe) if field.name != "variant"}


BEST = {
    "sentiment": TermsRecipe(
        **_better(SENTIMENT) | {"hidden": (), "optimizer": "sgd", "epochs": 4, "batch_size": 256},
        rate=1.0,
        longest_run=3,
        least=3,
        scale="log-ratio",
    ),
    "topic": TermsRecipe(
        **_better(TOPIC)
        | {"hidden": (), "optimizer": "adam", "loss": "squared_hinge", "l2": 2.4e-6, "epochs": 15, "batch_size": 256},
        rate=0.1,
        scale="idf",
        sharpness=4.0,
    ),
    "house_price": EnsembleRecipe(
        **_better(HOUSE_PRICE) | {"hidden": (32, 32), "optimizer": "adam", "epochs": 200},
        rate=0.001,
        logged=(0, 7, 12),  # crime rate, employment distance, lower status: the skewed ones
    ),
}
"""The best recipe that is known here, by model."""
