"""How long epochs take is training alone, the first epoch of a stage apart."""

import itertools

import pytest

from training.callbacks import Reports
from training.runs import Epoch
from training.speed import duration, speeds


def test_measuring_on_what_is_held_out_is_not_timed() -> None:
    told: list[Epoch] = []
    times = itertools.chain([10.0, 14.0], [20.0, 21.0], [30.0, 33.0])
    reports = Reports("fold 1/2", 3, 40, told.append, lambda: next(times))
    for epoch, is_measured in enumerate((True, True, False)):
        reports.on_epoch_begin(epoch)
        if is_measured:
            reports.on_test_begin()
        reports.on_epoch_end(epoch, {"loss": 0.5})
    assert told == [
        Epoch("fold 1/2", done, 3, {"loss": 0.5}, seconds, 40) for done, seconds in ((1, 4.0), (2, 1.0), (3, 3.0))
    ]


def test_the_first_epoch_is_apart_and_the_rest_have_a_median() -> None:
    epochs = [
        Epoch(stage, done, 4, {}, seconds, 100)
        for stage, times in (("validation", (9.0,)), ("final", (8.0, 0.5, 0.4, 7.0)))
        for done, seconds in enumerate(times, start=1)
    ]
    once, final = speeds([*epochs, Epoch("untimed", 1, 1, {})])
    assert (final.stage, final.samples, final.epochs, final.first, final.median) == ("final", 100, 4, 8.0, 0.5)
    assert final.samples_per_second == 200
    assert str(final) == "500 ms an epoch, 200 samples/s (the median; the first, with compilation, 8 s)"
    assert (once.median, once.samples_per_second) == (None, None), "compilation is no measure of a device"
    assert str(once) == "9 s for its one epoch, compilation included"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.00123, "1.23 ms"), (0.9994, "999 ms"), (0.9996, "1 s"), (12.34, "12.3 s"), (1234.5, "1,234 s")],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected
