"""Logs: every line is one event, in either form, whatever is in it."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from serving.logs import configure

FORGED = 'x\n12:00:00 [error    ] forged\r\n{"event": "forged"}\u2028\x1b[2Jforged'


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Configuring logs is for a whole process: it is undone after each test."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = []
    yield
    root.handlers = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == "", "standard output is not for logs"
    assert err.endswith("\n")
    return err[:-1].split("\n")


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(capsys)]


def test_json_lines_hold_what_was_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    logging.getLogger("serving.test").warning("model refused", extra={"model": "topic", "version": 3, "ratio": 0.5})
    [event] = events(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", event.pop("timestamp"))
    assert event == {
        "event": "model refused",
        "level": "warning",
        "logger": "serving.test",
        "model": "topic",
        "version": 3,
        "ratio": 0.5,
    }


def test_text_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "info")
    logging.getLogger("serving.test").warning("model refused", extra={"model": "topic", "version": 3})
    [line] = lines(capsys)
    assert re.match(r"\d\d:\d\d:\d\d(\.\d+)? \[warning *\] model refused +", line)
    assert line.index("model='topic'") < line.index("version=3")
    assert "\x1b" not in line, "no colours where there is no terminal"


def test_auto_is_json_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure("auto", "info")
    logging.getLogger("serving.test").info("serving")
    assert events(capsys)[0]["event"] == "serving"


@pytest.mark.parametrize("form", ["text", "json"])
def test_lower_levels_are_left_out(capsys: pytest.CaptureFixture[str], form: Literal["text", "json"]) -> None:
    configure(form, "warning")
    log = logging.getLogger("serving.test")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert len(lines(capsys)) == 2


def test_configuring_again_replaces_and_does_not_double(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    configure("json", "info")
    logging.getLogger("serving.test").info("once")
    assert len(lines(capsys)) == 1


def test_other_libraries_write_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    logging.getLogger("grpc").error("%s of %d", "two", 3)
    [event] = events(capsys)
    assert (event["event"], event["logger"]) == ("two of 3", "grpc")


@pytest.mark.parametrize("value", [FORGED, [FORGED], {FORGED: FORGED}, (FORGED,), FORGED.encode()])
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_value_can_not_pass_for_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], form: Literal["text", "json"], value: object
) -> None:
    configure(form, "info")
    logging.getLogger("serving.test").info("refused", extra={"reason": value})
    out = lines(capsys)
    assert len(out) == 1
    assert not set(out[0]) & set("\r\x1b\u2028")


def test_a_text_can_not_pass_for_a_json_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    logging.getLogger("serving.test").info(FORGED)
    [event] = events(capsys)
    assert event["event"] == FORGED


def fail() -> None:
    raise ZeroDivisionError(FORGED)


def test_an_exception_is_one_json_line_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    try:
        fail()
    except ZeroDivisionError as error:
        logging.getLogger("serving.test").error("fault", exc_info=error, extra={"fault": 7})
    [event] = events(capsys)
    assert (event["event"], event["fault"]) == ("fault", 7)
    assert "in fail" in event["exception"]
    assert "ZeroDivisionError: x" in event["exception"]


def test_an_exception_is_shown_in_text_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "info")
    try:
        fail()
    except ZeroDivisionError:
        logging.getLogger("serving.test").exception("fault")
    text = "\n".join(lines(capsys))
    assert "fault" in text
    assert "ZeroDivisionError" in text


def test_what_json_has_no_word_for_is_still_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    logging.getLogger("serving.test").info("odd", extra={"what": object(), "lone": "\udc80", "set": {1}})
    [event] = events(capsys)
    assert event["what"].startswith("<object object")
