"""How many instances a message holds, before it is parsed: each becomes an object, and two bytes are enough for one.

What is odd about their fields is left to the parser.
"""

from typing import Final, NamedTuple

from protos.prediction.v1 import prediction_pb2 as pb
from serving.api.fields import fields
from serving.api.tasks import TASKS, Task
from serving.status import StatusError, invalid

SMALL_MESSAGE: Final = 32 * 1024
"""Bytes up to which a message is parsed as it is; instances of a larger one are counted first."""

_INSTANCE: Final = 1 << 3 | 2
"""Every request has its instances in field 1."""

_ITEM: Final = pb.PredictStreamRequest.DESCRIPTOR.fields_by_name
_ID: Final = _ITEM["id"].number << 3 | 2
_TASKS: Final = {_ITEM[task.model].number << 3 | 2: task for task in TASKS}
"""By their tag in a stream's item."""

_MAX_OTHERS: Final = 64
"""Fields beside the instances: no request has as many, and walking past millions would take its time."""


class TooMany(NamedTuple):
    """An item of a stream that is refused unread."""

    id: str
    task: Task | None
    """None where it holds too much of anything."""
    error: StatusError


def check_instances(task: Task, message: bytes, most: int) -> None:
    """Refuse a request of more than `most` instances.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    if _suspicious(message, most) and _count(message, 0, len(message), most) > most:
        raise _too_many(task, most)


def check_item(message: bytes, most: int) -> TooMany | None:
    """The same for an item of a stream: what is wrong with it, or None. Requests of one field add up, as in parsing."""
    if not _suspicious(message, most):
        return None
    name, counts = b"", dict.fromkeys(_TASKS, 0)
    for index, (tag, start, stop) in enumerate(fields(message, 0, len(message))):
        if index == _MAX_OTHERS:
            return TooMany(_text(name), None, invalid(f"request: more than {_MAX_OTHERS} fields in one item"))
        if tag == _ID:
            name = message[start:stop]
        elif tag in counts:
            counts[tag] += _count(message, start, stop, most)
    for tag, count in counts.items():
        if count > most:
            return TooMany(_text(name), _TASKS[tag], _too_many(_TASKS[tag], most))
    return None


def _suspicious(message: bytes, most: int) -> bool:
    """Every instance has its tag: where there are not as many bytes like it, there is nothing to walk."""
    return message.count(_INSTANCE) > most


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _too_many(task: Task, most: int) -> StatusError:
    field = task.request.DESCRIPTOR.fields_by_number[1].name
    return invalid(f"{field}: more than {most} instances in one request (--max-queue-rows)")


def _count(message: bytes, start: int, stop: int, most: int) -> int:
    """The instances that stand there, counted no further than it takes to see that they are more than `most`."""
    count = others = 0
    for tag, _, _ in fields(message, start, stop):
        if tag == _INSTANCE:
            count += 1
        else:
            others += 1
        if count > most or others > _MAX_OTHERS:
            return most + 1
    return count
