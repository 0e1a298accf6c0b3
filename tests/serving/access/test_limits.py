"""Limits of one client: no more in flight than allowed, no faster than allowed, and never less than that."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.access.limits import BUSY_SECONDS, Allowance, Client, Clients, host
from serving.status import Code


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_in_flight_is_bounded_and_what_ends_makes_room() -> None:
    client = Client(Allowance(requests=2), 0.0)
    assert [client.take(0.0) for _ in range(3)] == [0, 0, BUSY_SECONDS]
    client.release()
    assert client.take(0.0) == 0
    assert client.take(1e9) == BUSY_SECONDS, "time alone makes none"


def test_a_burst_of_one_second_may_come_at_once_and_then_one_by_one() -> None:
    client = Client(Allowance(rate=10), 0.0)
    assert [client.take(0.0) for _ in range(10)] == [0] * 10
    assert client.take(0.0) == pytest.approx(0.1)
    assert client.take(0.05) == pytest.approx(0.05)
    assert client.take(0.1) == 0
    assert client.take(0.1) > 0


def test_less_than_one_a_second_is_a_rate_too() -> None:
    client = Client(Allowance(rate=0.1), 0.0)
    assert client.take(0.0) == 0
    assert client.take(0.0) == pytest.approx(10)
    assert client.take(10.0) == 0


@given(
    rate=st.floats(0.1, 1000),
    steps=st.lists(st.tuples(st.floats(0, 10), st.integers(1, 30)), max_size=30),
)
def test_no_span_of_time_ever_sees_more_than_burst_and_rate_allow(rate: float, steps: list[tuple[float, int]]) -> None:
    allowance = Allowance(rate=rate)
    client = Client(allowance, 0.0)
    now, taken = 0.0, list[float]()
    for pause, attempts in steps:
        now += pause
        taken += [now for _ in range(attempts) if client.take(now) == 0]
    for first, start in enumerate(taken):
        allowed = allowance.burst + (taken[-1] - start) * rate
        assert len(taken) - first <= allowed + 1e-6 * allowed


@given(rate=st.floats(0.1, 1000), attempts=st.integers(1, 50))
def test_who_waits_as_told_is_let_in(rate: float, attempts: int) -> None:
    client = Client(Allowance(rate=rate), 0.0)
    now = 0.0
    for _ in range(attempts):
        wait = client.take(now)
        if wait:
            now += wait * (1 + 1e-9)
            assert client.take(now) == 0
    assert now <= attempts / rate * (1 + 1e-6)


@given(st.lists(st.sampled_from(["take", "release"]), max_size=200), st.integers(1, 5))
def test_what_is_in_flight_never_passes_the_limit(steps: list[str], limit: int) -> None:
    client = Client(Allowance(requests=limit), 0.0)
    held = 0
    for step in steps:
        if step == "take":
            admitted = client.take(0.0) == 0
            assert admitted == (held < limit)
            held += admitted
        elif held:
            client.release()
            held -= 1
        assert client.in_flight == held <= limit


def test_time_that_goes_back_takes_nothing_and_gives_nothing() -> None:
    client = Client(Allowance(rate=1), 100.0)
    assert client.take(100.0) == 0
    assert client.take(50.0) == pytest.approx(1.0)
    assert client.take(100.5) == pytest.approx(0.5)
    assert client.take(101.0) == 0


def test_refusals_say_what_is_too_much_and_when_to_try_again() -> None:
    client = Client(Allowance(requests=1, rate=5), 0.0)
    client.take(0.0)
    error = client.refusal(client.take(0.0))
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "client_limit")
    assert error.retry_after == BUSY_SECONDS
    assert "1 requests of this client are in flight" in error.message
    client.release()
    assert "5 times a second" in client.refusal(0.5).message


@given(st.lists(st.integers(0, 40), max_size=300))
def test_only_so_many_clients_are_remembered_the_last_heard_of_among_them(names: list[int]) -> None:
    clients = Clients(Allowance(requests=1), Clock(), most=8)
    for name in names:
        clients.client(str(name))
        assert len(clients) <= 8
    recent = list(dict.fromkeys(reversed(names)))[:8]
    before = {name: clients.client(str(name)) for name in recent}
    assert {name: clients.client(str(name)) for name in recent} == before


def test_who_has_something_in_flight_is_remembered_longer() -> None:
    clients = Clients(Allowance(requests=1), Clock(), most=3)
    busy = clients.client("busy")
    busy.take(0.0)
    for name in range(50):
        clients.client(str(name))
    assert clients.client("busy") is busy
    assert busy.take(0.0) == BUSY_SECONDS


def test_all_being_busy_there_are_still_no_more() -> None:
    clients = Clients(Allowance(requests=1), Clock(), most=3)
    for name in range(50):
        clients.client(str(name)).take(0.0)
        assert len(clients) <= 3


@pytest.mark.parametrize(
    ("address", "known"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("somewhere", "somewhere"),
    ],
)
def test_an_address_stands_for_a_client(address: str, known: str) -> None:
    assert host(address) == known


def test_rates_add_up_exactly_over_a_long_time() -> None:
    """A bucket is a float: a day of it is still no request too many."""
    client = Client(Allowance(rate=3.0), 0.0)
    taken = sum(client.take(float(Fraction(step, 10))) == 0 for step in range(10_000))
    assert taken + 1 >= 3 + 3 * 999
    assert taken <= 3 + 3 * 1000
