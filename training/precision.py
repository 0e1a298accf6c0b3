"""Mixed precision: a network that computes in 16 bits, with the layers and the weights of one that does not.

Source: Micikevicius et al., Mixed Precision Training, ICLR 2018: weights stay float32, and so does the output; in
float16 the loss is scaled, so that small gradients don't vanish.
"""

from typing import Any

import keras

from training.models import Network
from training.options import Precision


def twin(network: Network, precision: Precision, metric: str) -> Network:
    """A compiled copy of `network` that computes in `precision`, its weights the same float32 numbers.

    Its optimizer is new, with the settings of the network's own. Made in the scope of a distribution strategy, it is
    distributed.

    Args:
        network: a built, compiled network.
        precision: what it is to compute in.
        metric: what it is compiled to measure, as Keras names it.
    """
    last = network.layers[-1]

    def copy(layer: Any) -> Any:
        settings = layer.get_config()
        # Features are scaled before they lose digits, and the output keeps all of its own.
        if precision != "float32" and layer is not last and not isinstance(layer, keras.layers.Normalization):
            settings["dtype"] = f"mixed_{precision}"
        return type(layer).from_config(settings)

    made = keras.models.clone_model(network, clone_function=copy)
    copy_weights(network, made)
    optimizer = type(network.optimizer).from_config(network.optimizer.get_config())
    if precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    made.compile(optimizer=optimizer, loss=network.loss, metrics=[metric])
    return made


def copy_weights(source: Network, target: Network) -> None:
    """Give `target` the weights of `source`, layer by layer the same network."""
    target.set_weights(source.get_weights())
    for layer in target.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # set_weights leaves the mean and the variance that it computes with as they were
