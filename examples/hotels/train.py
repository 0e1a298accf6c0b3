"""Hotel prices from distance and rating: one neuron, a network of four, and the models that need no training.

Source: the table of 32 hotels in "A Visual Introduction to Deep Learning" (M. Amer), and the two systems built on it:
linear regression with one neuron, then a hidden layer of three units for what is not linear.

python examples/hotels/train.py --data DIR --out runs/hotels
"""

import argparse
import os
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported: its greetings are none of ours

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes

HIDDEN = 3
STEPS = 3000
RATE = 0.1
STARTS = 5  # three units can get stuck far from a good answer, so there is more than one attempt
HELD_OUT = slice(1, None, 4)  # of the training hotels, which come by distance: none of these lies at an end

COLUMNS = ("distance_miles", "rating_stars")
PRICE = "price_usd"


class Hotels(NamedTuple):
    """Some hotels: float32 [N, 2], miles from the centre and stars from guests, and float32 [N, 1], USD a night."""

    features: Any
    prices: Any


def main() -> None:
    """Train, print the table, and save what the next steps need."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of hotels.csv; default: $TRIPTYCH_DATA")
    parser.add_argument("--out", type=Path, default=Path("runs/hotels"), metavar="DIR", help="(runs/hotels)")
    options = parser.parse_args()
    train, test = read(options.data)
    tf.config.experimental.enable_op_determinism()

    distance = fit(0, 0, train.features[:, :1], train.prices)
    linear = fit(0, 0, train.features, train.prices)
    start = best_start(train)
    network = fit(HIDDEN, start, train.features, train.prices)

    answers = {
        "mean of the training prices": lambda x: np.full((len(x), 1), train.prices.mean()),
        "least squares, distance": least_squares(train, 1),
        "least squares, both": least_squares(train, 2),
        "one neuron, distance": lambda x: prices(distance, x[:, :1]),
        "one neuron, both": lambda x: prices(linear, x),
        f"{HIDDEN} hidden units, both": lambda x: prices(network, x),
    }
    print(f"{'':27}  {'train MSE':>9}  {'MAE':>5}  {'test MSE':>9}  {'MAE':>5}")
    for name, answer in answers.items():
        figures = [figure for part in (train, test) for figure in errors(answer(part.features), part.prices)]
        print("{:27}  {:9.1f}  {:5.1f}  {:9.1f}  {:5.1f}".format(name, *figures))

    options.out.mkdir(parents=True, exist_ok=True)
    linear.save(options.out / "hotels_linear.keras")
    network.save(options.out / "hotels_network.keras")
    # The first rows become golden examples of the packages: the test hotels, which lie near and far.
    np.savez(options.out / "hotels.npz", features=np.concatenate([test.features, train.features]))
    draw(train, test, {"one neuron": linear, f"{HIDDEN} hidden units": network}, options.out / "hotels.svg")
    print(f"\nsaved in {options.out}: hotels_linear.keras, hotels_network.keras, hotels.npz, hotels.svg")


def read(folder: Path | None) -> tuple[Hotels, Hotels]:
    """The training hotels and the test hotels of `hotels.csv`."""
    named = folder or os.environ.get("TRIPTYCH_DATA")
    if not named:
        raise SystemExit("error: where is hotels.csv? Name its folder with --data or TRIPTYCH_DATA.")
    path = Path(named) / "hotels.csv"
    if not path.is_file():
        raise SystemExit(f"error: hotels.csv is missing: looked in {named}")
    table = np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")
    features = np.column_stack([table[name] for name in COLUMNS]).astype("float32")
    targets = table[PRICE].astype("float32")[:, None]
    train = table["split"] == "train"
    return Hotels(features[train], targets[train]), Hotels(features[~train], targets[~train])


def fit(hidden: int, seed: int, features: Any, targets: Any) -> keras.Model:
    """Gradient descent on the mean squared error, each step on all hotels; `hidden` 0 is one neuron.

    Both ends are scaled inside the network: callers give miles and stars, and get dollars.
    """
    keras.utils.set_random_seed(seed)
    scale = keras.layers.Normalization()
    scale.adapt(features)
    mean, deviation = targets.mean(), targets.std()

    inputs = keras.Input(features.shape[1:], name="features")
    x = scale(inputs)
    if hidden:
        x = keras.layers.Dense(hidden, activation="relu")(x)
    standard = keras.layers.Dense(1)(x)
    price = keras.layers.Rescaling(float(deviation), float(mean), name="price")(standard)

    learner = keras.Model(inputs, standard)
    learner.compile(keras.optimizers.SGD(RATE), "mse", steps_per_execution=100)
    # One long epoch of steps: thousands of epochs of one step each would spend their time between epochs.
    steps = tf.data.Dataset.from_tensors((features, (targets - mean) / deviation)).repeat(STEPS)
    learner.fit(steps, shuffle=False, verbose=0)
    return keras.Model(inputs, price)


def best_start(train: Hotels) -> int:
    """The seed that does best on training hotels held out; the test hotels have no say in it."""
    held_out = np.zeros(len(train.prices), bool)
    held_out[HELD_OUT] = True
    found = []
    for seed in range(STARTS):
        network = fit(HIDDEN, seed, train.features[~held_out], train.prices[~held_out])
        wrong = np.square(prices(network, train.features) - train.prices)
        seen, unseen = wrong[~held_out].mean(), wrong[held_out].mean()
        print(f"start {seed}: MSE {seen:6.1f} on {(~held_out).sum()} hotels, {unseen:6.1f} on {held_out.sum()} others")
        found.append(unseen)
    best = int(np.argmin(found))
    print(f"start {best} it is, now on all {len(train.prices)}\n")
    return best


def prices(network: keras.Model, features: Any) -> Any:
    """float32 [N, 1]: what `network` answers, USD."""
    return keras.ops.convert_to_numpy(network(features))


def least_squares(train: Hotels, columns: int) -> Any:
    """The best linear model there is, in one step: what a neuron can at most get to."""

    def design(features: Any) -> Any:
        return np.column_stack([np.ones(len(features)), features[:, :columns]])

    weights = np.linalg.lstsq(design(train.features), train.prices, rcond=None)[0]
    return lambda features: design(features) @ weights


def errors(predicted: Any, true: Any) -> tuple[float, float]:
    """Mean squared error in USD², mean absolute error in USD."""
    return float(np.square(predicted - true).mean()), float(np.abs(predicted - true).mean())


INK, QUIET, RULE, PAPER = "#1d2329", "#4b535c", "#d9dce0", "#fbfaf7"
COLOURS = ("#b7791f", "#2f7d5b")
RATINGS = (3.0, 4.5)


def draw(train: Hotels, test: Hotels, networks: dict[str, keras.Model], path: Path) -> None:
    """What the networks make of distance, and their predictions beside the truth."""
    plt.rcParams.update({"svg.hashsalt": "hotels", "svg.fonttype": "none"})  # the same picture, the same bytes
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.2), facecolor=PAPER, layout="constrained")
    style(left, "Price against distance", "miles from the centre", "USD a night")
    style(right, "Predictions against truth, test hotels", "true price, USD", "predicted price, USD")

    left.plot(train.features[:, 0], train.prices, "o", ms=5, mfc="none", mec=QUIET, label="training hotels")
    left.plot(test.features[:, 0], test.prices, "o", ms=5.5, color=INK, label="test hotels")
    miles = np.linspace(0, 20, 201)
    for (name, network), colour in zip(networks.items(), COLOURS, strict=True):
        for rating, dashes in zip(RATINGS, ("--", "-"), strict=True):
            hotels = np.column_stack([miles, np.full_like(miles, rating)]).astype("float32")
            left.plot(miles, prices(network, hotels), dashes, color=colour, lw=2, label=f"{name}, {rating:g} stars")
    left.set_xticks(range(0, 21, 5))
    left.legend(frameon=False, fontsize=8.5, labelcolor=QUIET, loc="upper center")

    ends = (60, 220)
    right.plot(ends, ends, color=QUIET, lw=1)
    for (name, network), colour, mark in zip(networks.items(), COLOURS, "so", strict=True):
        predicted = prices(network, test.features)
        mae = errors(predicted, test.prices)[1]
        right.vlines(test.prices, test.prices, predicted, color=colour, lw=1, alpha=0.5)
        right.plot(test.prices, predicted, mark, ms=6.5, color=colour, label=f"{name}: {mae:.0f} USD off on average")
    ticks = range(60, 221, 40)
    right.set(xlim=ends, ylim=ends, xticks=ticks, yticks=ticks, aspect="equal")
    right.legend(frameon=False, fontsize=8.5, labelcolor=QUIET, loc="upper left")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def style(axes: Axes, title: str, across: str, up: str) -> None:
    """The look of both halves."""
    axes.set_facecolor(PAPER)
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11.5, color=INK)
    axes.set_xlabel(across, color=QUIET)
    axes.set_ylabel(up, color=QUIET)
    axes.tick_params(colors=QUIET, length=0)
    axes.grid(color=RULE, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


if __name__ == "__main__":
    main()
