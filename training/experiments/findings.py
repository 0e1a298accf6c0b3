"""What the book says of its experiments, as checks on what was recorded.

Each threshold was written down before the first run was looked at; the table states it. A finding is the book's
sentence made measurable, so "not seen" is an answer, not a failure.

Source: Chollet, Deep Learning with Python, 2nd ed., chapters 4 to 6.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from training.experiments import history
from training.experiments.variants import BOOK
from training.runs import Record

Records = Mapping[str, Record]
"""By variant."""
Seen = tuple[bool, str]
"""Whether, and the figures that say so."""


@dataclass(frozen=True)
class Finding:
    """One sentence of the book's, and how it is checked."""

    says: str
    section: str
    threshold: str
    """What counts as seeing it, for people."""
    needs: tuple[str, ...]
    """The variants it is about."""
    check: Callable[[Records], Seen]


@dataclass(frozen=True)
class Verdict:
    """What came of a check."""

    finding: Finding
    outcome: Literal["seen", "not seen", "not run"]
    figures: str


def verdicts(findings: tuple[Finding, ...], records: Records) -> list[Verdict]:
    """Check each of the `findings`; one whose variants are not all there is "not run"."""
    return [_verdict(finding, records) for finding in findings]


def _verdict(finding: Finding, records: Records) -> Verdict:
    absent = [name for name in finding.needs if name not in records]
    if absent:
        return Verdict(finding, "not run", f"needs {', '.join(absent)}")
    seen, figures = finding.check(records)
    return Verdict(finding, "seen" if seen else "not seen", figures)


# Checks: each takes records first, so that a finding is one of them with its thresholds filled in.


def overfits(records: Records, variant: str, rise: float, between: tuple[int, int]) -> Seen:
    """The validation loss is lowest at one of the epochs `between`, and ends at least `rise` above that."""
    loss = history.loss(records[variant])
    seen = between[0] <= loss.best_epoch <= between[1] and loss.rise >= rise
    return seen, f"lowest {loss.best:.3f} at epoch {loss.best_epoch}, {history.percent(loss.rise)} at epoch {loss.end}"


def sooner(records: Records, variant: str, than: str) -> Seen:
    """The validation loss of `variant` is lowest at an earlier epoch than that of `than`."""
    first, second = history.loss(records[variant]).best_epoch, history.loss(records[than]).best_epoch
    return first < second, f"{variant}: epoch {first}; {than}: epoch {second}"


def steeper(records: Records, variant: str, than: str, factor: float) -> Seen:
    """The validation loss of `variant` ends at least `factor` times as far above its lowest, as a share of it."""
    first, second = history.loss(records[variant]).rise, history.loss(records[than]).rise
    return (
        first >= factor * second and first > 0,
        f"{variant}: {history.percent(first)}; {than}: {history.percent(second)}",
    )


def resists(records: Records, variant: str, share: float, least: float = 0.01) -> Seen:
    """The validation loss of `variant` ends at most `share` of the book's rise above its lowest.

    Where the book's rises by less than `least` there is nothing to resist.
    """
    book, other = history.loss(records[BOOK]).rise, history.loss(records[variant]).rise
    nothing = "" if book >= least else ", nothing to resist"
    figures = f"{variant}: {history.percent(other)}; {BOOK}: {history.percent(book)}{nothing}"
    return book >= least and other <= share * book, figures


def learns_faster(records: Records, variant: str, epoch: int, factor: float) -> Seen:
    """The training loss of `variant` after `epoch` is at most `factor` of the book's."""
    first, second = (history.curve(records[name], "loss").at(epoch) for name in (variant, BOOK))
    return first <= factor * second, f"training loss at epoch {epoch}: {variant} {first:.3f}; {BOOK} {second:.3f}"


def close(records: Records, variants: tuple[str, ...], points: float) -> Seen:
    """The best validation accuracy of all `variants` is within `points` percentage points of the book's."""
    book = history.metric(records[BOOK]).best
    gaps = {name: 100 * (history.metric(records[name]).best - book) for name in variants}
    figures = "; ".join(f"{name}: {gap:+.1f}" for name, gap in gaps.items())
    return all(abs(gap) <= points for gap in gaps.values()), f"{figures} points; {BOOK}: {100 * book:.1f} %"


def costs(records: Records, variant: str, points: float) -> Seen:
    """The best validation accuracy of `variant` is at least `points` percentage points below the book's."""
    book, other = history.metric(records[BOOK]).best, history.metric(records[variant]).best
    return 100 * (book - other) >= points, f"{variant}: {100 * other:.1f} %; {BOOK}: {100 * book:.1f} %"


def same(records: Records, variant: str, difference: float) -> Seen:
    """The validation losses of `variant` and of the book's differ nowhere by more than `difference`."""
    first, second = history.curve(records[variant], "val_loss"), history.curve(records[BOOK], "val_loss")
    found = float(abs(first.values - second.values).max())
    return found <= difference, f"largest difference {found:.2g}"


def mae_at_least(records: Records, variant: str, factor: float) -> Seen:
    """The lowest validation MAE of `variant` is at least `factor` of the book's."""
    book, other = history.metric(records[BOOK]), history.metric(records[variant])
    figures = (
        f"{variant}: {other.best:.2f} k$ at epoch {other.best_epoch}; {BOOK}: {book.best:.2f} at {book.best_epoch}"
    )
    return other.best >= factor * book.best, figures


def stops_improving(records: Records, variant: str, rise: float) -> Seen:
    """The validation MAE is lowest in the first half of the epochs, and ends at least `rise` above that."""
    found = history.metric(records[variant])
    seen = found.best_epoch <= found.end / 2 and found.rise >= rise
    return seen, f"lowest {found.best:.2f} k$ at epoch {found.best_epoch}; {found.last:.2f} at epoch {found.end}"


def folds_differ(records: Records, variant: str, factor: float) -> Seen:
    """After the last epoch, the MAE of the worst fold is at least `factor` of that of the best."""
    found = history.folds(records[variant], "val_mae")
    return max(found) >= factor * min(found), ", ".join(f"{mae:.2f}" for mae in found) + " k$"


def learns_gaps(records: Records, variant: str, gain: float, price: float) -> Seen:
    """The MAE of `variant` is at least `gain` below the book's with features hidden, at most `price` above without."""
    book, other = records[BOOK].validation, records[variant].validation
    gained = 1 - other["mae_missing"] / book["mae_missing"]
    paid = other["mae"] / book["mae"] - 1
    figures = (
        f"hidden: {other['mae_missing']:.2f} against {book['mae_missing']:.2f} k$; "
        f"complete: {other['mae']:.2f} against {book['mae']:.2f} k$"
    )
    return gained >= gain and paid <= price, figures


def _resistance(variant: str, says: str) -> Finding:
    return Finding(
        says=says,
        section="§5.4.4",
        threshold="loss ends above its lowest by at most half of what the book's does, and that by 1 % or more",
        needs=(BOOK, variant),
        check=partial(resists, variant=variant, share=0.5),
    )


def _larger(variant: str) -> tuple[Finding, ...]:
    return (
        Finding(
            "A far larger network overfits sooner",
            "§5.4.4",
            "its loss is lowest at an earlier epoch",
            (BOOK, variant),
            partial(sooner, variant=variant, than=BOOK),
        ),
        Finding(
            "A far larger network overfits more severely",
            "§5.4.4",
            "its loss ends above its lowest by at least 1.25 times what the book's does",
            (BOOK, variant),
            partial(steeper, variant=variant, than=BOOK, factor=1.25),
        ),
        Finding(
            "A far larger network's training loss nears zero faster",
            "§5.4.4",
            "at epoch 10 at most half of the book's",
            (BOOK, variant),
            partial(learns_faster, variant=variant, epoch=10, factor=0.5),
        ),
    )


def _little_difference(says: str, section: str, variants: tuple[str, ...], points: float) -> Finding:
    threshold = f"best accuracy at most {points:g} {'point' if points == 1 else 'points'} from the book's"
    return Finding(says, section, threshold, (BOOK, *variants), partial(close, variants=variants, points=points))


SENTIMENT = (
    Finding(
        "More epochs overfit: validation is best after about four",
        "§4.1.4",
        "loss is lowest at epoch 2 to 6 and ends at least 20 % above that",
        (BOOK,),
        partial(overfits, variant=BOOK, rise=0.2, between=(2, 6)),
    ),
    Finding(
        "A smaller network overfits later",
        "§5.4.4",
        "the loss of 4 units is lowest at a later epoch",
        (BOOK, "units-4"),
        partial(sooner, variant=BOOK, than="units-4"),
    ),
    Finding(
        "A smaller network overfits more slowly",
        "§5.4.4",
        "the book's loss ends above its lowest by at least 1.25 times what that of 4 units does",
        (BOOK, "units-4"),
        partial(steeper, variant=BOOK, than="units-4", factor=1.25),
    ),
    *_larger("units-512"),
    _little_difference("One or three hidden layers do about as well", "§4.1.6", ("layers-1", "layers-3"), 1),
    _little_difference("32 or 64 units do about as well", "§4.1.6", ("units-32", "units-64"), 1),
    _little_difference("Mean squared error does about as well as cross-entropy", "§4.1.6", ("mse",), 1),
    _little_difference("tanh does about as well as relu", "§4.1.6", ("tanh",), 1),
    _resistance("l1", "An L1 penalty resists overfitting"),
    _resistance("l2", "An L2 penalty resists overfitting"),
    _resistance("l1-l2", "Both penalties together resist overfitting"),
    _resistance("dropout", "Dropout resists overfitting"),
)

TOPIC = (
    Finding(
        "More epochs overfit: validation is best after about nine",
        "§4.2.4",
        "loss is lowest at epoch 6 to 12 and ends at least 5 % above that",
        (BOOK,),
        partial(overfits, variant=BOOK, rise=0.05, between=(6, 12)),
    ),
    Finding(
        "A bottleneck of 4 units costs several points of accuracy",
        "§4.2.7",
        "best accuracy at least 5 points below the book's",
        (BOOK, "bottleneck"),
        partial(costs, variant="bottleneck", points=5),
    ),
    Finding(
        "Layers narrower than the 46 topics lose information",
        "§4.2.7",
        "best accuracy of 16 units at least 1 point below the book's",
        (BOOK, "units-16"),
        partial(costs, variant="units-16", points=1),
    ),
    Finding(
        "One-hot labels and numbers give the same",
        "§4.2.6",
        "losses differ at no epoch by more than 0.01",
        (BOOK, "one-hot"),
        partial(same, variant="one-hot", difference=0.01),
    ),
    _little_difference("32 or 128 units do about as well", "§4.2.8", ("units-32", "units-128"), 2),
    _little_difference("One or three hidden layers do about as well", "§4.2.8", ("layers-1", "layers-3"), 2),
    *_larger("units-512"),
    _resistance("l2", "An L2 penalty resists overfitting"),
    _resistance("dropout", "Dropout resists overfitting"),
)

HOUSE_PRICE = (
    Finding(
        "The validation MAE stops improving, then overfitting sets in",
        "§4.3.4",
        "lowest within the first 250 of 500 epochs, and at least 2 % above that at the end",
        ("long",),
        partial(stops_improving, variant="long", rise=0.02),
    ),
    Finding(
        "With so few samples the folds differ much",
        "§4.3.4",
        "MAE of the worst fold at least 1.2 times that of the best",
        (BOOK,),
        partial(folds_differ, variant=BOOK, factor=1.2),
    ),
    Finding(
        "Features of different ranges must be scaled",
        "§4.3.2",
        "lowest MAE without at least 1.25 times the book's",
        (BOOK, "raw"),
        partial(mae_at_least, variant="raw", factor=1.25),
    ),
    Finding(
        "With so few samples a larger network is no better",
        "§4.3.3",
        "lowest MAE of 256 units at least 0.95 of the book's",
        (BOOK, "units-256"),
        partial(mae_at_least, variant="units-256", factor=0.95),
    ),
    _resistance("l2", "An L2 penalty resists overfitting"),
    _resistance("dropout", "Dropout resists overfitting"),
    Finding(
        "A network learns to do without a feature if some are missing in training",
        "§6.2.1",
        "MAE with a fifth of the features hidden at least 5 % below the book's, with all of them at most 10 % above",
        (BOOK, "missing"),
        partial(learns_gaps, variant="missing", gain=0.05, price=0.1),
    ),
)

FINDINGS = {"sentiment": SENTIMENT, "topic": TOPIC, "house_price": HOUSE_PRICE}
"""By model."""
