"""How a fit runs, beside its recipe: logs, early stopping, checkpoints, precision, and over how many devices."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from training.errors import TrainingError

Precision = Literal["float32", "bfloat16", "float16"]
Distribute = Literal["none", "mirrored", "multi-worker"]


@dataclass(frozen=True)
class Options:
    """What may be asked of a fit; with none of it, a recipe gives the same weights, bit for bit, on one machine."""

    tensorboard: Path | None = None
    """A folder for TensorBoard's logs, one folder in it for each stage."""
    checkpoints: Path | None = None
    """A folder for checkpoints: for each stage the last network and, where samples are held out, the best."""
    early_stopping: int | None = None
    """Epochs without a lower loss on the held-out samples after which training stops; None: it never does."""
    precision: Precision = "float32"
    """What training computes in; weights are float32 in each, and so is the network that it gives."""
    distribute: Distribute = "none"
    """Over what each batch is split: nothing (the CPU), this machine's GPUs, or the machines of `TF_CONFIG`."""

    def __post_init__(self) -> None:
        if self.early_stopping is not None and self.early_stopping < 1:
            raise TrainingError(f"early stopping after {self.early_stopping} epochs: expected 1 or more")


DEFAULT = Options()


def changed(options: Options) -> dict[str, str | int]:
    """What `options` ask for that may change the weights, for a package's provenance."""
    names = ("early_stopping", "precision", "distribute")
    return {name: getattr(options, name) for name in names if getattr(options, name) != getattr(DEFAULT, name)}


def of_model(options: Options, name: str) -> Options:
    """`options`, with the folders of the model `name`."""
    return replace(
        options,
        tensorboard=options.tensorboard and options.tensorboard / name,
        checkpoints=options.checkpoints and options.checkpoints / name,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options' flags, for a command that fits."""
    parser.add_argument("--tensorboard", type=Path, metavar="DIR", help="write TensorBoard's logs to this folder")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        metavar="DIR",
        help="save the best and the last network of each stage to this folder",
    )
    parser.add_argument(
        "--early-stopping",
        type=int,
        metavar="PATIENCE",
        help="stop after so many epochs without a lower validation loss; the final network trains for as many epochs "
        "as were found best",
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default=DEFAULT.precision,
        help="what training computes in; packages are float32 whatever it is (float32)",
    )
    parser.add_argument(
        "--distribute",
        choices=get_args(Distribute),
        default=DEFAULT.distribute,
        help="split each batch over this machine's GPUs, or over the machines in $TF_CONFIG; none is the CPU (none)",
    )


def from_arguments(arguments: argparse.Namespace) -> Options:
    """What the flags of `add_arguments` say.

    Raises:
        TrainingError: one of them makes no sense.
    """
    return Options(
        tensorboard=arguments.tensorboard,
        checkpoints=arguments.checkpoints,
        early_stopping=arguments.early_stopping,
        precision=arguments.precision,
        distribute=arguments.distribute,
    )
