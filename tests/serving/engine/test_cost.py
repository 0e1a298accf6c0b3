"""The cost model: what is known, what is guessed between, and that one stall does not spoil it; and a queue's pace."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.cost import MAX_STRETCH, CostModel, Pace


def observed(*batches: tuple[int, float]) -> CostModel:
    cost = CostModel()
    for size, seconds in batches:
        cost.observe(size, seconds)
    return cost


def test_nothing_is_known_at_first() -> None:
    assert CostModel().predict(1000) == 0.0


def test_the_first_measurement_is_taken_as_it_is() -> None:
    assert observed((1000, 0.5)).predict(1000) == 0.5


def test_sizes_of_one_power_of_two_are_alike() -> None:
    cost = observed((512, 0.5))
    assert cost.predict(1023) == 0.5
    assert cost.predict(1024) == 1.0
    assert cost.predict(511) == 0.5


def test_larger_sizes_than_any_known_grow_with_their_size() -> None:
    cost = observed((1 << 10, 0.25), (1 << 20, 1.0))
    assert [cost.predict(1 << n) for n in (10, 12, 20, 23)] == [0.25, 1.0, 1.0, 8.0]


def test_smaller_sizes_than_any_known_cost_as_the_cheapest() -> None:
    assert observed((1 << 10, 0.25), (1 << 20, 0.125)).predict(1) == 0.125


def test_one_stall_moves_the_estimate_by_a_fifth_of_itself_and_is_forgotten() -> None:
    cost = observed((100, 0.001), (100, 1.001))
    assert cost.predict(100) == pytest.approx(0.201)
    for _ in range(30):
        cost.observe(100, 0.001)
    assert cost.predict(100) == pytest.approx(0.001, rel=0.3)


def test_an_empty_batch_has_a_size_too() -> None:
    assert observed((0, 0.5)).predict(0) == 0.5


@given(
    st.lists(st.tuples(st.integers(0, 2**40), st.floats(0, 1e3)), min_size=1, max_size=50),
    st.integers(0, 2**40),
)
def test_a_prediction_is_always_a_time(batches: list[tuple[int, float]], size: int) -> None:
    predicted = observed(*batches).predict(size)
    assert predicted >= 0
    assert math.isfinite(predicted)


def test_a_queue_whose_batches_follow_one_another_moves_as_fast_as_they_run() -> None:
    pace = Pace()
    for second in range(20):
        pace.observe(10.0 + second, 1.0, waiting=True)
    assert pace.stretch == 1.0


def test_what_the_loop_does_between_batches_stretches_a_wait_and_is_forgotten() -> None:
    pace = Pace()
    for number in range(60):
        pace.observe(10.0 + 3 * number, 1.0, waiting=True)
    assert pace.stretch == pytest.approx(3.0, rel=0.01)
    for number in range(60):
        pace.observe(1000.0 + 50 * number, 1.0, waiting=False)
    assert pace.stretch == pytest.approx(1.0, rel=0.01), "nobody waited, so nobody was kept waiting"


def test_one_stall_stretches_no_wait_beyond_the_bound() -> None:
    pace = Pace()
    pace.observe(10.0, 1.0, waiting=True)
    pace.observe(10_000.0, 1.0, waiting=True)
    assert 1.0 < pace.stretch < MAX_STRETCH / 4
