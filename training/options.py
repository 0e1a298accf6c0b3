"""How a fit runs, beside its recipe: logs, early stopping, checkpoints, precision, and over how many devices."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from training.device import AUTO, CPU, EXPECTED, indices
from training.errors import TrainingError

Precision = Literal["float32", "bfloat16", "float16"]
ExportPrecision = Literal["float32", "float16"]
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
    """Over what each batch is split: nothing, this machine's GPUs, or the machines of `TF_CONFIG`."""
    device: str | None = None
    """What training computes on, as `training.device` names it; None: see `computes_on`."""
    tf32: bool = False
    """Whether a GPU may round what it multiplies to TF32, 10 bits of mantissa instead of 23: quicker, less exact."""

    def __post_init__(self) -> None:
        if self.early_stopping is not None and self.early_stopping < 1:
            raise TrainingError(f"early stopping after {self.early_stopping} epochs: expected 1 or more")

    @property
    def is_distributed(self) -> bool:
        """Whether a strategy of TensorFlow's splits batches."""
        return self.distribute != "none"

    @property
    def computes_on(self) -> str:
        """`device`, or the default: the CPU; where batches are split, the GPUs if there are any."""
        return (AUTO if self.is_distributed else CPU) if self.device is None else self.device


DEFAULT = Options()


def changed(options: Options, export_precision: ExportPrecision = "float32") -> dict[str, str | int]:
    """What `options` ask for that may change the weights, and what a package computes in, for its provenance."""
    names = ("early_stopping", "precision", "distribute", "tf32")
    found = {name: getattr(options, name) for name in names if getattr(options, name) != getattr(DEFAULT, name)}
    if options.device not in (None, CPU):
        found["device"] = options.device
    return found if export_precision == "float32" else {**found, "export_precision": export_precision}


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
        help="what training computes in, whatever the package does: see --export-precision (float32)",
    )
    parser.add_argument(
        "--distribute",
        choices=get_args(Distribute),
        default=DEFAULT.distribute,
        help="split each batch over this machine's GPUs, or over the machines in $TF_CONFIG (none)",
    )
    add_device(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    """The flags of the device, for a command that trains and has no other options."""
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help=f"what training computes on: {EXPECTED} (cpu: its packages are the same bytes on every machine; with "
        "--distribute: auto)",
    )
    parser.add_argument(
        "--tf32", action="store_true", help="let a GPU round to TF32, 10 bits of mantissa: quicker, less exact"
    )


def add_export_precision(parser: argparse.ArgumentParser) -> None:
    """The flag that says what a package computes in, for a command that writes one."""
    parser.add_argument(
        "--export-precision",
        choices=get_args(ExportPrecision),
        default="float32",
        help="what the package computes in: float16 is for GPUs with tensor cores, and takes up to 1.6 times as "
        "long on a CPU (float32)",
    )


def from_arguments(arguments: argparse.Namespace) -> Options:
    """What the flags of `add_arguments` say.

    Raises:
        TrainingError: one of them makes no sense.
    """
    asked = Options(
        tensorboard=arguments.tensorboard,
        checkpoints=arguments.checkpoints,
        early_stopping=arguments.early_stopping,
        precision=arguments.precision,
        distribute=arguments.distribute,
        device=arguments.device,
        tf32=arguments.tf32,
    )
    refuse_contradictions(asked)
    return asked


def device_of(arguments: argparse.Namespace) -> Options:
    """What the flags of `add_device` say.

    Raises:
        TrainingError: they make no sense.
    """
    asked = Options(device=arguments.device, tf32=arguments.tf32)
    refuse_contradictions(asked)
    return asked


def refuse_contradictions(asked: Options) -> None:
    """See that the device that is asked for goes with the rest.

    Raises:
        TrainingError: it is none, or does not.
    """
    named = indices(asked.computes_on)
    if len(named) > 1 and not asked.is_distributed:
        raise TrainingError(f"--device {asked.device}: several GPUs share batches with --distribute mirrored: add it")
    if asked.distribute == "mirrored" and (asked.device == CPU or len(named) == 1):
        raise TrainingError(
            f"--distribute mirrored splits batches over GPUs, and --device {asked.device} is one device: expected "
            "--device cuda, which is all there are, or several as cuda:0,cuda:1"
        )
    if asked.tf32 and (asked.computes_on == CPU or asked.precision != "float32"):
        raise TrainingError("--tf32 is how a GPU computes in float32: expected --device cuda, and no --precision")
