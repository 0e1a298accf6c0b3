import dataclasses

import pytest

from benchmarks import h2load, openloop
from benchmarks.h2load import Counted, Shot, check, framed, parse
from benchmarks.openloop import Orders
from benchmarks.servers import ServerFailed, floor_server

SAID = """\
finished in 2.00s, 1.50 req/s, 4.71MB/s
requests: 3 total, 5 started, 3 done, 3 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 3 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 9.43MB (9885900) total, 2.01MB (2103280) headers (space savings 47.37%), 32B (32) data
"""
LOG = "1795206894619512\t200\t1441\n1795206894619513\t200\t300\n1795206894619514\t200\t500\n"
REPLY = b"abc"
GOOD = Counted(5, 3, 0, 1.5, 32, 0.5, 1.441, 0.0)


def test_what_h2load_says_is_read():
    assert parse(SAID, LOG) == GOOD
    assert parse(SAID, LOG.replace("200\t300", "-1\t300")).bad == 1
    with pytest.raises(ServerFailed, match="h2load logged 1 of 3 requests"):
        parse(SAID, LOG.splitlines()[0])
    with pytest.raises(ServerFailed, match="h2load got no answers: finished"):
        parse(SAID.replace("3 done", "0 done"), LOG)


def test_what_it_counts_is_not_believed():
    check(GOOD, REPLY, 5)
    check(GOOD, REPLY, None)
    with pytest.raises(ServerFailed, match="32 bytes of data, 6 each"):
        check(GOOD, b"a", None)  # more than three replies, and two that were under way, can have
    with pytest.raises(ServerFailed, match="errors of gRPC as successes"):
        check(dataclasses.replace(GOOD, data_bytes=0), REPLY, None)
    with pytest.raises(ServerFailed, match="the server answered 2 with OK"):
        check(GOOD, REPLY, 2)
    with pytest.raises(ServerFailed, match="1 of 3 requests failed"):
        check(dataclasses.replace(GOOD, bad=1), REPLY, 5)


def test_a_message_is_framed_as_grpc_does():
    assert framed(b"ab") == b"\0\0\0\0\x02ab"


def test_h2load_and_the_open_loop_measure_the_floor():
    with floor_server({"/a/B": b"reply"}) as floor:
        orders = Orders(floor.address, "/a/B", b"message".hex(), 10, rate=400.0, seconds=0.25, connections=2)
        found = openloop.run(orders, None)
        assert found["due"] == found["answered"] == 100
        assert found["errors"] == 0
        assert 0 < found["p50_ms"] <= found["p99_ms"]
        wrong = openloop.run(dataclasses.replace(orders, reply_bytes=11), None)
        assert wrong["errors"] == 1
        if reason := h2load.missing():
            pytest.skip(reason)
        shot = Shot(floor.address, "/a/B", b"message", 2, 2)
        h2load.warm_up(shot, None, 20)
        counted = h2load.shoot(shot, None, 1)
        check(counted, b"reply", None)
        with pytest.raises(ServerFailed, match="bytes of data"):
            check(counted, b"another reply", None)


def test_without_h2load_the_reason_is_given(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "apt install nghttp2-client" in str(h2load.missing())
