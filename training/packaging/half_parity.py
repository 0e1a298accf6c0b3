"""The parity bound of float16 packages, and how far their graphs are from the networks.

Every rounding to float16 is off by at most one part in 2,048, its unit roundoff (IEEE 754 binary16, 11 bits of
significand; Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., §2.1); how roundings add up depends on the
network, so the bound is measured: see `docs/model-developer.md`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx

from serving.package.manifest import Task, Tolerance
from training.data import Array
from training.errors import ExportError, one_line
from training.evaluate import PROVIDER, Feeds, check_parity, open_session, run
from training.packaging.rounding import rounded

ROUNDOFF = 2.0**-11
PARITY = Tolerance(atol=4 * ROUNDOFF, rtol=4 * ROUNDOFF)
"""From the float32 network, on the CPU and with every rounding: twice what the shipped models need."""
OTHER_DEVICES = 2
"""How much further a GPU may be: it adds up in another order, and may round the parts of a long sum."""


@dataclass(frozen=True)
class Held:
    """What a float16 graph answers, and how far that is from the float32 network."""

    answers: dict[str, Array]
    """By output, on the CPU."""
    difference: float
    """The largest of any output, on the CPU or with every rounding."""
    changed: int | None
    """Rows whose decision (the class) is another, the more of the two; None for a regression."""
    rows: int


def tolerance(parity: Tolerance = PARITY) -> dict[str, Tolerance]:
    """The golden tolerance of a float16 package, by execution provider."""
    wider = Tolerance(atol=OTHER_DEVICES * parity.atol, rtol=OTHER_DEVICES * parity.rtol)
    return {PROVIDER: parity, "CUDAExecutionProvider": wider}


def hold(
    what: str,
    model: onnx.ModelProto,
    expected: dict[str, Array],
    feeds: Callable[[], Iterable[Feeds]],
    task: Task,
    parity: Tolerance = PARITY,
    source: str = "Keras",
) -> Held:
    """Hold a float16 graph to `expected`, as ONNX Runtime's CPU computes it and with every result rounded to float16.

    Args:
        what: for errors.
        model: the graph.
        expected: the float32 network's outputs by name, axis 0 the rows; the first is the one that decides.
        feeds: makes the batches that go in; called twice.
        task: says what a decision is.
        parity: how far it may be.
        source: whose outputs `expected` are, for errors.

    Raises:
        ExportError: it is further somewhere; names the output and the worst row. Or it can't be run.
    """
    differences, changes, answers = [], [], {}
    for way, graph in (("with every result rounded to float16", rounded(model)), ("on the CPU", model)):
        try:
            answers = run(open_session(graph.SerializeToString()), feeds())
        except Exception as error:  # ONNX Runtime's own have no common ancestor
            raise ExportError(f"{what}: can't be run in float16: {one_line(error)}") from error
        try:
            check_parity(f"{what}, float16 {way}", expected, answers, parity, source)
        except ExportError as error:
            raise ExportError(f"{error} Expected a network that float16 is enough for, or float32.") from error
        for name, wanted in expected.items():
            difference = np.abs(answers[name].astype(np.float64) - wanted)
            differences.append(float(difference.max(initial=0)))
        if task != "regression":
            first = next(iter(expected))
            changes.append(int((_decision(answers[first]) != _decision(expected[first])).sum()))
    rows = len(next(iter(expected.values())))
    return Held(answers, max(differences), max(changes) if changes else None, rows)


def metrics_of(held: Held, float32: dict[str, float]) -> dict[str, float | int]:
    """What a float16 package's manifest says of it, beside the figures that `float32`, its network, has."""
    return {
        **{f"float32_test_{name}": round(value, 6) for name, value in float32.items()},
        "float16_largest_difference": float(f"{held.difference:.3g}"),
        **({} if held.changed is None else {"float16_changed_decisions": held.changed}),
    }


def told(held: Held, source: str = "Keras", unit: str = "") -> str:
    """What people are told of it; `unit` is that of the outputs, where they have one."""
    changed = "" if held.changed is None else f", {held.changed:,} of {held.rows:,} decisions changed"
    return f"float16: at most {held.difference:.2g}{unit and f' {unit}'} from {source}{changed}"


def _decision(outputs: Array) -> Array:
    """Each row's class: the larger half of one probability, the largest of several."""
    flat = outputs.reshape(len(outputs), -1)
    decided: Array = flat[:, 0] >= 0.5 if flat.shape[1] == 1 else flat.argmax(axis=1)
    return decided
