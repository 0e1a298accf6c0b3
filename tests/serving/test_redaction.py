"""Faults in the log: where and of what kind, and no words of theirs, which may be a client's."""

import asyncio
import functools
import io
import json
import logging
from collections.abc import Iterator

import pytest
import uvloop

from serving import logs, redaction
from serving.status import fault

SECRET = 'a client\'s words\n{"event": "forged"}\x1b[31m'


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers, root.level = before
    redaction.show_content(False)


def broken() -> None:
    try:
        {}[SECRET]
    except KeyError as error:
        raise ValueError(f"can't: {SECRET}") from error


def logged(form: str, monkeypatch: pytest.MonkeyPatch) -> str:
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    logs.configure(form, "debug")  # type: ignore[arg-type]
    try:
        broken()
    except ValueError as error:
        status = fault("somewhere", error)
    assert "client" not in status.message
    return out.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_where_and_of_what_kind_is_logged_and_no_words(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = logged(form, monkeypatch)
    assert "client's words" not in text
    assert "forged" not in text
    assert "\x1b[31m" not in text
    for told in ("ValueError", "KeyError", "in broken", "raise ValueError", "somewhere"):
        assert told in text
    if form == "json":
        [line] = text.splitlines()
        assert json.loads(line)["event"] == "fault"


def test_they_are_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    redaction.show_content(True)
    [line] = logged("json", monkeypatch).splitlines()
    assert "a client's words" in json.loads(line)["exception"]


@pytest.mark.parametrize("name", ["asyncio", "concurrent.futures", "uvicorn.error", "grpc._server"])
def test_libraries_words_are_left_out_too(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    logs.configure("json", "debug")
    try:
        broken()
    except ValueError:
        logging.getLogger(name).exception("data_received() call failed")
    assert "client's words" not in out.getvalue()
    assert "ValueError" in json.loads(out.getvalue())["exception"]


def test_what_a_loop_says_of_tasks_and_callbacks_ends_before_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: str) -> None:
        raise ValueError(SECRET)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(asyncio.run, SECRET)
        loop.call_soon(functools.partial(asyncio.run, SECRET))
        task = loop.create_task(fail(SECRET))
        await asyncio.wait({task})
        del task  # as nobody asks what came of it, the loop says so

    for loop in (asyncio.new_event_loop, uvloop.new_event_loop):
        out = io.StringIO()
        monkeypatch.setattr("sys.stderr", out)
        logs.configure("json", "warning")
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(run())
        assert "client" not in out.getvalue()
        *callbacks, task = (json.loads(line)["event"] for line in out.getvalue().splitlines())
        assert task == "Task exception was never retrieved"
        assert [each.startswith("Exception in callback") for each in callbacks] == [True, True]


def test_a_chain_without_end_is_cut() -> None:
    error: Exception = ValueError(SECRET)
    for _ in range(10_000):
        outer = ValueError(SECRET)
        outer.__context__ = error
        error = outer
    _, found, _ = redaction.exc_info(error)
    chain = [found]
    while chain[-1].__context__ is not None:
        chain.append(chain[-1].__context__)
    assert len(chain) == 8
    assert not any(each.args for each in chain)


def test_one_that_hides_what_led_to_it_still_does() -> None:
    error = ValueError()
    error.__context__, error.__suppress_context__ = KeyError(SECRET), True
    assert redaction.exc_info(error)[1].__context__ is None
