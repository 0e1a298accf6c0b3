"""Sampled stacks to stages of a request."""

from benchmarks import profiles
from benchmarks.profiles import LOOP, REST, stages

_OUTSIDE = "main (serving/__main__.py:35);run (uvloop/__init__.py:92);Runner.run (asyncio/runners.py:118)"
_LINK = f"{_OUTSIDE};Link.data_received (serving/transport/native/link.py:121)"
_API = f"{_LINK};PredictionService._unary (serving/api/prediction.py:68)"


def test_a_sample_belongs_to_the_innermost_stage():
    stacks = "\n".join(
        [
            f"{_OUTSIDE} 4",
            f"{_LINK} 3",
            f"{_LINK};FieldDecoder.decode (serving/transport/native/fields.py:60) 2",
            f"{_API};HousePriceTask.read (serving/api/tasks.py:180);isfinite (numpy/core.py:1) 5",
            f"{_API};Engine.submit (serving/engine/engine.py:66);Session.run (serving/engine/session.py:40) 6",
            "Thread (threading.py:1);_worker (concurrent/futures/thread.py:81) 100",
        ]
    )
    assert stages(stacks) == {
        LOOP: 4,
        "frames, streams, windows": 3,
        "header blocks": 2,
        "request to rows, outputs to reply": 5,
        "ONNX Runtime": 6,
    }


def test_the_table_has_microseconds_that_add_up():
    one = {"load": "a", "cpu_us": 20.0, "kernel_us": 5.0, "samples": 4, "shares": {LOOP: 0.75, REST: 0.25}}
    [table] = profiles.tables({"settings": {"seconds": 5}, "summary": {"loads": [one]}})
    assert [list(row) for row in table.rows] == [
        [LOOP, 15.0],
        [REST, 5.0],
        ["**all**", 20.0],
        ["of it in the kernel", 5.0],
    ]


def test_without_its_tools_it_says_so():
    [table] = profiles.tables({"settings": {"skipped": "no py-spy"}, "summary": {}})
    assert table.rows == [["skipped: no py-spy"]]
