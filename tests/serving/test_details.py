"""Details of errors, read back with the messages that they are."""

from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import error_details_pb2 as pb
from google.rpc.status_pb2 import Status

from serving import details
from serving.status import MAX_MESSAGE, Code, Resource, StatusError, fault, invalid

LEAST_TRAILERS = 8 * 1024
"""Bytes of trailers that every client takes: the default of gRPC's core."""


def read(error: StatusError, request_id: str = "it") -> tuple[Status, dict[str, Any]]:
    """The status, and its details by the names of their types."""
    status = Status.FromString(details.encode(error, request_id))
    found = {}
    packed: Packed
    for packed in status.details:
        name = packed.TypeName().removeprefix("google.rpc.")
        found[name] = getattr(pb, name)()
        assert packed.Unpack(found[name])
    assert len(found) == len(status.details)
    return status, found


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK], ids=lambda code: code.name)
def test_every_error_tells_its_code_its_reason_and_its_request(code: Code) -> None:
    status, found = read(StatusError(code, "why · ü"))
    assert (status.code, status.message) == (code, "why · ü")
    assert (found["ErrorInfo"].reason, found["ErrorInfo"].domain) == (code.name, "triptych")
    assert found["RequestInfo"].request_id == "it"
    assert not {"BadRequest", "RetryInfo", "ResourceInfo", "QuotaFailure"} & found.keys()


@pytest.mark.parametrize("length", [1, 16, 100, 127, 128])
def test_ids_of_any_length(length: int) -> None:
    assert read(invalid("houses: none"), "x" * length)[1]["RequestInfo"].request_id == "x" * length


@pytest.mark.parametrize(
    ("message", "field", "description"),
    [
        (
            "houses[1].tax_rate: expected a finite number, got nan",
            "houses[1].tax_rate",
            "expected a finite number, got nan",
        ),
        ("reviews: at least one is needed", "reviews", "at least one is needed"),
        ("inputs[0] (features): shape [13]: no", "inputs[0]", "(features): shape [13]: no"),
        ("parameters[timeout]: expected 1", "parameters[timeout]", "expected 1"),
        ("Request-Timeout-Ms: expected a number", "Request-Timeout-Ms", "expected a number"),
        ("'houses: x' is no name", None, None),
        ("5 instances in one request: too many", None, None),
        ("the message can't be read as x: y", None, None),
    ],
)
def test_the_field_is_what_the_message_begins_with(message: str, field: str | None, description: str | None) -> None:
    found = read(invalid(message))[1]
    if field is None:
        assert "BadRequest" not in found
    else:
        [violation] = found["BadRequest"].field_violations
        assert (violation.field, violation.description) == (field, description)


def test_only_what_is_invalid_has_a_field() -> None:
    assert "BadRequest" not in read(StatusError(Code.NOT_FOUND, "version: there is none"))[1]


@pytest.mark.parametrize(("seconds", "told"), [(0.0, 0), (0.0121, 0.013), (1.0, 1), (61.5, 61.5)])
def test_when_to_come_back(seconds: float, told: float) -> None:
    error = StatusError(Code.RESOURCE_EXHAUSTED, "full", reason="queue_full", retry_after=seconds)
    found = read(error)[1]
    assert found["RetryInfo"].retry_delay.ToTimedelta().total_seconds() == told
    assert found["ErrorInfo"].reason == "QUEUE_FULL"
    assert found["QuotaFailure"].violations[0].subject == "queue"


@pytest.mark.parametrize(("reason", "subject"), [("too_late", "queue"), ("client_limit", "client")])
def test_whose_quota_it_is(reason: str, subject: str) -> None:
    found = read(StatusError(Code.RESOURCE_EXHAUSTED, "enough", reason=reason))[1]
    assert [violation.subject for violation in found["QuotaFailure"].violations] == [subject]


def test_what_was_not_found() -> None:
    found = read(StatusError(Code.NOT_FOUND, "none", resource=Resource("model", "x")))[1]
    assert (found["ResourceInfo"].resource_type, found["ResourceInfo"].resource_name) == ("model", "x")
    assert found["ErrorInfo"].reason == "MODEL_NOT_FOUND"


def test_a_fault_is_told_from_other_errors() -> None:
    assert read(fault("here", ZeroDivisionError()))[1]["ErrorInfo"].reason == "FAULT"


@pytest.mark.parametrize("letter", ["x", "ü", "\n", "\U0001f600"])
def test_trailers_are_smaller_than_any_client_takes(letter: str) -> None:
    error = invalid(f"houses[1].{'a' * 200}: {letter * 100_000}")
    assert len(error.message.encode()) <= MAX_MESSAGE
    # Of three bytes for each of the message, and four for three of the details.
    assert 3 * MAX_MESSAGE + len(details.encode(error, "x" * 128)) * 4 / 3 + 500 < LEAST_TRAILERS


def test_a_message_is_text() -> None:
    assert StatusError(Code.INTERNAL, "half of a pair: \ud83d").message == "half of a pair: ?"
