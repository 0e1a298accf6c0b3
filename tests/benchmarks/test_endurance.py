"""What half an hour of load is summed up to."""

from typing import Any

from benchmarks import endurance
from benchmarks.tables import text


def minute(number: int, *, p99: float = 2.0, mib: float = 200.0, failed: int = 0) -> dict[str, Any]:
    return {
        "minute": number,
        "per_second": 1000.0,
        "requests": 60_000,
        "failed": failed,
        "server_cores": 0.6,
        "resident_mib": mib,
        "p50_ms": dict.fromkeys(map(", ".join, endurance.SHARES), 1.0),
        "p99_ms": dict.fromkeys(map(", ".join, endurance.SHARES), p99),
    }


def test_the_end_is_compared_with_the_beginning_once_warm() -> None:
    raw = [minute(1, p99=50.0, mib=100.0), minute(2, p99=50.0, mib=100.0)]
    raw += [minute(3 + i, p99=2.0 + (i >= 6), mib=200.0 + 10 * (i >= 6), failed=i == 4) for i in range(9)]
    found = endurance._summary(raw, errors=3.0)
    assert found["p99_ratio"]["sentiment, typed, gRPC"] == 1.5
    assert found["resident_ratio"] == 1.05
    assert (found["requests"], found["failed"], found["errors"]) == (11 * 60_000, 1, 3.0)


def test_only_answers_that_are_not_ok_are_errors() -> None:
    def sample(code: str) -> tuple[str, tuple[tuple[str, str], ...]]:
        return "triptych_requests_total", (("code", code), ("model", "sentiment"))

    before = {sample("OK"): 5.0, sample("INTERNAL"): 1.0}
    after = {sample("OK"): 90.0, sample("INTERNAL"): 3.0, sample("UNAVAILABLE"): 4.0, ("other", ()): 7.0}
    assert endurance._errors(before, after) == 6.0


def test_the_table_has_a_line_for_every_few_minutes_and_one_for_the_change() -> None:
    raw = [minute(number + 1) for number in range(12)]
    settings = {"minutes": 12, "seconds": 60, "utilisation": 0.6, "cores": "two"}
    settings["shares"] = {", ".join(key): share for key, share in endurance.SHARES.items()}
    record = {"settings": settings, "summary": endurance._summary(raw, 0.0), "rounds": raw}
    (table,) = endurance.tables(record)
    assert [row[0] for row in table.rows] == ["1–5", "6–10", "11–12", "end × beginning"]
    assert text(table.rows[-1][1]) == "1.00"


def test_the_shares_are_a_whole() -> None:
    assert round(sum(endurance.SHARES.values()), 9) == 1.0
