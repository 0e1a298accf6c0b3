"""The request log: what stands in a line, and when there is one."""

import json
from typing import Any

import pytest

from serving.logs import configure
from serving.observing.following import Followed, Story
from serving.observing.request_log import RequestLog
from serving.status import Code, StatusError, invalid
from tests.serving.test_logs import root_logger  # noqa: F401 - it is used by its name

pytestmark = pytest.mark.usefixtures("root_logger")

METHOD = "/prediction.v1.PredictionService/PredictHousePrice"
FORGED = 'x\r\n{"event": "forged"}\x1b[2J'


def followed(name: str = METHOD, asked: str = METHOD, *, failed: bool = False, **more: Any) -> Followed:
    made = Followed(name, asked, "", "ipv4:192.0.2.1:5000", "mine", 0.0, **more)
    made.code, made.failed, made.over_at = ("INVALID_ARGUMENT" if failed else "OK"), failed, 0.25
    return made


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    for line in found:
        assert line.pop("seconds") == 0.25
        assert line.pop("level") == "info"
        del line["timestamp"], line["logger"]
    return found


def test_a_line_tells_of_the_request_and_not_what_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    one = followed(story=Story("house_price", "1", 0.0, 3))
    RequestLog(failed_only=False).end(one)
    assert written(capsys) == [
        {
            "event": "request",
            "method": METHOD,
            "code": "OK",
            "model": "house_price",
            "version": "1",
            "rows": 3,
            "peer": "ipv4:192.0.2.1:5000",
            "request_id": "mine",
        }
    ]


def test_only_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    log = RequestLog(failed_only=True)
    stream = followed(streamed=True)
    for failed in (False, True):
        error = invalid("houses: none") if failed else None
        log.end(followed(failed=failed, error=error))
        log.item(stream, Story("house_price", "1", 0.0, error=error, ended=0.25))
    assert [(line["event"], line["code"]) for line in written(capsys)] == [
        ("request", "INVALID_ARGUMENT"),
        ("item", "INVALID_ARGUMENT"),
    ]


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_a_client_made_up_is_one_short_line(capsys: pytest.CaptureFixture[str], form: Any) -> None:
    configure(form, "info")
    RequestLog(failed_only=False).end(followed("", "/" + FORGED * 100))
    [line] = capsys.readouterr().err.splitlines()
    assert "\x1b" not in line.replace("\x1b[0m", "")
    assert len(line) < 600
    assert "unknown" in line


def test_errors_of_clients_are_not_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    """A message may repeat words of the request."""
    configure("json", "info")
    error = StatusError(Code.INVALID_ARGUMENT, "version: 'secret words' is no number")
    RequestLog(failed_only=False).end(followed(failed=True, error=error))
    assert "secret" not in json.dumps(written(capsys))


def test_it_wants_everything() -> None:
    assert RequestLog(failed_only=True).wants(())
