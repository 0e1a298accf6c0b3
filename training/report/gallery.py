"""The pictures of a report, chosen and captioned."""

from dataclasses import dataclass

from training.data import Array
from training.measure.calibration import reliability
from training.measure.metrics import ClassificationReport, RegressionReport
from training.measure.outputs import values
from training.report import heatmap, pictures, wording
from training.report.curves import FACTOR, LEFT_OUT, Curves, curves
from training.runs import Record


@dataclass(frozen=True)
class Picture:
    """A picture and what is said under it."""

    name: str
    """Of its file, without the ending."""
    title: str
    caption: str
    svg: str
    is_wide: bool = False
    """Whether it is to be scrolled on a narrow screen, and not shrunk."""


def learning(record: Record, unit: str) -> tuple[Picture, ...]:
    """The loss and the metric by epoch, where the run has them."""
    found = [curves(record.epochs, figure) for figure in dict.fromkeys(("loss", record.metric))]
    return tuple(
        Picture(
            f"curve-{wording.slug(each.figure)}",
            wording.figure(each.figure).title,
            _curve_caption(each),
            pictures.learning(each, unit if each.figure != "loss" else ""),
        )
        for each in found
        if each is not None
    )


def _curve_caption(found: Curves) -> str:
    said = []
    if found.best is not None:
        which = "highest" if wording.figure(found.figure).better == "high" else "lowest"
        said.append(f"On validation samples {which} after epoch {found.best}{' (smoothed)' * found.is_smoothed}.")
    if found.folds:
        said.append("Thin lines are folds, thick lines their mean.")
    if found.is_smoothed:
        said.append(
            f"The first {LEFT_OUT} epochs are left out and all lines smoothed (exponential moving average, "
            f"factor {FACTOR:g}), as in the book's §4.3."
        )
    return " ".join(said)


def classification(report: ClassificationReport, probabilities: Array, targets: Array) -> tuple[Picture, ...]:
    """Calibration, and where each class went."""
    labels = [each.label for each in report.classes]
    is_large = len(labels) > heatmap.MANY
    # Many classes are easier to read with the large ones together; a few have an order of their own, such as digits.
    order = sorted(range(len(labels)), key=lambda place: -report.classes[place].support if is_large else place)
    bins = reliability(probabilities, targets, report.ece_bins)
    return (
        Picture(
            "calibration",
            "Calibration",
            f"ECE {wording.share(report.ece, 2)}: the mean gap between the probability of the guessed class and how "
            f"often it was right, over {report.samples:,} samples in {report.ece_bins} bins.",
            pictures.reliability(bins),
        ),
        Picture(
            "confusion",
            "Confusion matrix",
            "Each row is the share of a true class's samples that went to each guessed class"
            + ("; classes with most samples first." if is_large else ", in per cent."),
            heatmap.confusion(report.confusion, labels, order),
            is_wide=is_large,
        ),
    )


def regression(
    report: RegressionReport, predictions: Array, targets: Array, target: wording.Target
) -> tuple[Picture, ...]:
    """Predicted against true, and what the errors look like."""
    found, wanted = values(predictions, targets)
    shown = f"{pictures.POINTS:,} of {len(wanted):,} samples are shown." if len(wanted) > pictures.POINTS else ""
    bias = wording.value("bias", report.bias, target.unit)
    over = int((found > wanted).sum())
    return (
        Picture(
            "scatter",
            f"Predicted and true {target.name}",
            f"{over:,} of {len(wanted):,} predictions are above the line: too high. {shown}".rstrip(),
            pictures.scatter(found, wanted, target),
        ),
        Picture(
            "bands",
            f"Error by {target.name} band",
            f"Mean absolute error of the samples in each band of true {target.name}.",
            pictures.bands(report.bands, report.mae, target),
        ),
        Picture(
            "residuals",
            "How large errors are",
            f"Mean {bias}; half of them are within {wording.value('mae', report.median_absolute_error, target.unit)}.",
            pictures.residuals(found, wanted, target),
        ),
    )
