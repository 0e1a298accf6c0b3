"""What a request's parameters mean; those that nobody knows are ignored, as Triton does.

Triton's extensions "parameters", "schedule policy", "classification", "sequence" and "shared memory".
"""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from serving.status import Code, StatusError, invalid, shown

Value = bool | int | float | str
Parameters = Mapping[str, Value]

HIGHEST, DEFAULT, LOWEST = 1, 2, 3
"""Levels of priority."""

_SEQUENCE: Final = ("sequence_id", "sequence_start", "sequence_end")
_REGION: Final = "shared_memory_region"
_TIMEOUT: Final = "timeout"
_PRIORITY: Final = "priority"
_CLASSES: Final = "classification"
_MAX_INT64: Final = 2**63 - 1

KNOWN: Final = (_TIMEOUT, _PRIORITY, *_SEQUENCE, _REGION, _CLASSES)
"""Those that are looked at."""


class Schedule(NamedTuple):
    """When an answer is wanted, and before whose."""

    timeout: int = 0
    """Microseconds from arrival; 0: no limit."""
    priority: int = 0
    """As it was sent."""


def schedule(parameters: Parameters) -> Schedule:
    """The timeout and the priority of a request.

    Raises:
        StatusError: INVALID_ARGUMENT for one that is no such number, and for part of a sequence.
    """
    if not parameters:
        return Schedule()
    for name in _SEQUENCE:
        if parameters.get(name):
            raise invalid(f"parameters[{name}]: the models served here keep no state from one request to the next")
    return Schedule(_whole(parameters, _TIMEOUT, "microseconds"), _whole(parameters, _PRIORITY, "a level from 1 to 3"))


def deadline(arrival: float, deadline: float, timeout: int) -> float:
    """The earlier of a call's own deadline and `timeout` microseconds after arrival; seconds, monotonic clock."""
    return min(deadline, arrival + timeout * 1e-6) if timeout else deadline


def rank(priority: int) -> int:
    """The engine's priority, lower first, of a level; of what is no level, that of the default."""
    return (priority if HIGHEST <= priority <= LOWEST else DEFAULT) - DEFAULT


def check_tensor(parameters: Parameters, where: str) -> None:
    """Refuse an input or output that lies in shared memory.

    Raises:
        StatusError: UNIMPLEMENTED.
    """
    if _REGION in parameters:
        raise StatusError(
            Code.UNIMPLEMENTED,
            f"{where}: parameters[{_REGION}]: this server has no shared memory with its clients; "
            "send and receive the data in the messages",
            reason="invalid",
        )


def class_count(parameters: Parameters, where: str) -> int:
    """How many classes are asked of an output; 0 where none are.

    Raises:
        StatusError: INVALID_ARGUMENT for no such number, UNIMPLEMENTED for an output in shared memory.
    """
    if not parameters:
        return 0
    check_tensor(parameters, where)
    return _whole(parameters, _CLASSES, "a number of classes", f"{where}: ")


def _whole(parameters: Parameters, name: str, what: str, where: str = "") -> int:
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        found = "infinity" if isinstance(value, float) and math.isinf(value) else shown(repr(value))
        raise invalid(f"{where}parameters[{name}]: expected {what}, found {found}")
    return min(value, _MAX_INT64)
