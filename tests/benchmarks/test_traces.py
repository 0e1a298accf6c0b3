import itertools

import pytest

from benchmarks import results, traces
from benchmarks.arrivals import MAX_ROWS, SHAPES, Arrival, trace
from benchmarks.simulation import Cost, this_policy, window
from benchmarks.stats import percentile

COST = Cost(0.001, 0.0001)
PATIENT = 1_000.0


def arrivals(*requests: tuple[float, int]) -> list[Arrival]:
    return [Arrival(at, rows, at + PATIENT) for at, rows in requests]


@pytest.mark.parametrize("name", SHAPES)
def test_a_trace_is_the_same_every_time_and_has_the_load_it_claims(name):
    made = trace(name, 5_000, 10_000.0, (0.1, 0.01))
    assert made == trace(name, 5_000, 10_000.0, (0.1, 0.01))
    assert made != trace(name, 5_000, 10_000.0, (0.1, 0.01), seed=1)
    assert len(made) == 5_000
    assert all(before.at <= after.at for before, after in itertools.pairwise(made))
    assert max(one.rows for one in made) <= MAX_ROWS
    load = sum(one.rows for one in made) / made[-1].at / 10_000
    assert load == pytest.approx({"bursty": 0.48, "diurnal": 0.55}.get(name, 0.6), rel=0.02)
    hurried = sum(one.deadline - one.at < 0.05 for one in made)
    assert 0.08 < hurried / len(made) < 0.12


def test_bursts_are_bursts_and_tails_are_heavy():
    bursty = trace("bursty", 6_000, 10_000.0, (0.1, 0.01))
    length = bursty[-1].at / 6
    assert sum(one.at % length < 0.2 * length for one in bursty) / len(bursty) > 0.8
    sizes = sorted(one.rows for one in trace("heavy-tailed sizes", 6_000, 10_000.0, (0.1, 0.01)))
    assert percentile(sizes, 50) <= 2
    assert sum(sizes[-600:]) > sum(sizes) / 2


def test_a_window_makes_the_first_one_wait_and_takes_along_who_came_meanwhile():
    found = window(arrivals((0.0, 1), (0.004, 1), (0.02, 1)), COST, 0.005)
    assert found.batches == 2
    assert found.latencies == pytest.approx([0.005 + 0.0012, 0.001 + 0.0012, 0.005 + 0.0011])


def test_a_full_batch_does_not_wait_and_the_rest_of_a_split_request_leaves_with_the_next():
    found = window(arrivals((0.0, 200), (0.001, 100)), COST, 0.5)
    assert found.batches == 2
    assert found.rows == 300
    assert found.latencies[0] == pytest.approx(0.001 + COST.seconds(256))


def test_without_splitting_a_request_that_does_not_fit_waits_for_the_next_batch():
    found = window(arrivals((0.0, 200), (0.0, 100)), COST, 0.0, splits=False)
    assert found.latencies == pytest.approx([COST.seconds(200), COST.seconds(200) + COST.seconds(100)])


def test_a_preferred_size_leaves_at_once_and_any_other_waits_as_triton_does():
    eight = arrivals(*[(0.0001 * number, 1) for number in range(8)])
    found = window(eight, COST, 0.005, (8, 64), splits=False)
    assert (found.batches, found.rows) == (1, 8)
    assert found.latencies[-1] == pytest.approx(COST.seconds(8))
    found = window(eight[:7], COST, 0.005, (8, 64), splits=False)
    assert found.latencies[0] == pytest.approx(0.005 + COST.seconds(7))


def test_this_policy_pays_no_delay_when_idle_and_batches_what_came_while_it_ran():
    found = this_policy(arrivals((0.0, 1), (0.0005, 1), (0.0006, 1)), COST, 8)
    assert found.batches == 2
    assert found.latencies == pytest.approx([0.0011, 0.0018, 0.0017])


def test_this_policy_serves_who_is_in_a_hurry_first_and_drops_who_can_not_be_served():
    # One full batch computes, one is in the pipe, one waits: 26.6 ms each.
    late = [Arrival(0.0, MAX_ROWS, 10.0), Arrival(0.001, MAX_ROWS, 10.0), Arrival(0.001, MAX_ROWS, 10.0)]
    hurried = Arrival(0.002, 1, 0.0805)
    found = this_policy([*late, hurried], COST, 8)
    assert found.in_time == 4
    assert window([*late, hurried], COST, 0.0).in_time == 3
    hopeless = Arrival(0.002, 1, 0.0021)
    found = this_policy([*late, hopeless], COST, 8)
    assert len(found.latencies) == found.in_time == 3
    assert len(window([*late, hopeless], COST, 0.0).latencies) == 4


@pytest.mark.parametrize("name", SHAPES)
def test_the_study_is_deterministic_and_nothing_is_lost(name):
    found = traces.study("house price", name, 1_000)
    assert found == traces.study("house price", name, 1_000)
    assert [one["policy"] for one in found] == list(traces.POLICIES)
    for one in found:
        assert one["answered"] == 1_000 or one["policy"] == "this policy"
        assert 0 <= one["missed"] <= 1
    ours = found[0]
    assert all(ours["missed"] <= one["missed"] for one in found)


def test_the_saved_study_is_the_one_that_this_code_makes():
    saved = results.load(traces.NAME)
    if saved is None:
        pytest.skip("traces has no results yet")
    settings = saved["settings"]
    again = traces.study("house price", "steady", settings["requests"])
    for before, now in zip(saved["summary"], again, strict=False):
        assert before == {
            key: value if isinstance(value, str) else pytest.approx(value, rel=1e-4) for key, value in now.items()
        }
