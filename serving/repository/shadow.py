"""Shadow mode: a share of the live requests also runs on a candidate version, and the answers are compared.

Nobody waits for that and nothing of it is returned: a copy is made of what was answered already, it goes behind all
else in the candidate's queue, and where that is long it is dropped.
"""

import logging
import time
from random import Random

import numpy as np
import numpy.typing as npt

from serving.engine.request import Outputs, Request
from serving.package.manifest import Manifest
from serving.repository.verify import close
from serving.repository.version import Version
from serving.status import StatusError
from serving.telemetry.bound import ShadowMetrics
from serving.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0
"""After which a copy that still waits is given up."""

SEED = 1
"""Of what decides which requests are copied: the same ones in every run of a test."""

LAST = 1 << 30
"""A priority behind every other."""


class Shadow:
    """The comparison of one version, which answers, with another, which does not."""

    def __init__(self, version: Version, candidate: Version, fraction: float, metrics: ShadowMetrics) -> None:
        self._version = version
        self._candidate = candidate
        self._fraction = fraction
        self._metrics = metrics
        self._random = Random(SEED).random  # noqa: S311 - nobody gains by knowing

    @classmethod
    def between(
        cls, name: str, version: Version, candidate: Version, fraction: float, metrics: Metrics
    ) -> "Shadow | None":
        """A comparison, or None where there is nothing to compare: that is logged."""
        problem = _problem(version.manifest, candidate.manifest)
        about = {"model": name, "version": version.label, "candidate": candidate.label}
        if problem is not None:
            log.error("shadow impossible", extra={**about, "reason": problem})
            return None
        log.info("shadow", extra={**about, "fraction": fraction})
        return cls(version, candidate, fraction, metrics.shadow(name, version.label, candidate.label))

    def compares(self, candidate: Version, fraction: float) -> bool:
        """Is it this comparison already?"""
        return self._candidate is candidate and self._fraction == fraction

    def __call__(self, request: Request, outputs: Outputs) -> None:
        """A request was answered with these outputs; never fails."""
        if self._random() >= self._fraction:  # every third, say, may always be of one kind
            return
        engine = self._candidate.engine
        if engine.queued_rows >= self._candidate.batch_rows:
            self._metrics.dropped.inc(request.rows)
            return

        def done(_: Request, result: Outputs | StatusError) -> None:
            try:
                if isinstance(result, StatusError):
                    raise result
                self._compare(outputs, result)
            except Exception:  # noqa: BLE001 - whatever it is, those of its batch are live, too
                self._metrics.failed.inc(request.rows)

        now = time.monotonic()
        copy = Request(request.inputs, request.rows, request.size, now, done, now + PATIENCE_SECONDS, LAST)
        try:
            engine.submit(copy)
        except Exception:  # noqa: BLE001 - who was answered is not to be disturbed
            self._metrics.dropped.inc(request.rows)

    def _compare(self, outputs: Outputs, others: Outputs) -> None:
        agree = _agree(self._candidate, outputs, others)
        agreed = int(np.count_nonzero(agree))
        self._metrics.agreed.inc(agreed)
        self._metrics.differed.inc(len(agree) - agreed)
        for difference in _largest_differences(outputs, others).tolist():
            self._metrics.difference.observe(difference)


def _problem(ours: Manifest, theirs: Manifest) -> str | None:
    """Why two versions can't be compared: the candidate runs on the very rows that the other did."""
    if ours.inputs != theirs.inputs:
        return "their inputs differ"
    if (ours.outputs, ours.labels, ours.task) != (theirs.outputs, theirs.labels, theirs.task):
        return "their outputs, labels or tasks differ"
    return None


def _agree(candidate: Version, outputs: Outputs, others: Outputs) -> npt.NDArray[np.bool_]:
    """Row by row: is it the same class, or, where there are none, are all outputs the same within tolerance?"""
    manifest = candidate.manifest
    ours, theirs = outputs[0], others[0]
    if manifest.task == "binary-classification" and ours.shape[1:] == (1,):
        return np.asarray((ours[:, 0] >= 0.5) == (theirs[:, 0] >= 0.5))
    if manifest.task == "multiclass-classification" and ours.shape[1:] == (len(manifest.labels),):
        return np.asarray(ours.argmax(axis=1) == theirs.argmax(axis=1))
    tolerance = manifest.golden.tolerance[candidate.provider]
    same = np.ones(len(ours), np.bool_)
    for ours, theirs in zip(outputs, others, strict=True):
        near = close(theirs, ours, tolerance.atol, tolerance.rtol)
        same &= near.reshape(len(near), -1).all(axis=1)
    return same


def _largest_differences(outputs: Outputs, others: Outputs) -> npt.NDArray[np.float64]:
    """Row by row, over all outputs that are numbers."""
    largest = np.zeros(len(outputs[0]))
    for ours, theirs in zip(outputs, others, strict=True):
        if ours.dtype != np.object_:
            with np.errstate(invalid="ignore"):  # of infinities
                difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
            largest = np.fmax(largest, difference.reshape(len(largest), -1).max(axis=1, initial=0.0))
    return largest
