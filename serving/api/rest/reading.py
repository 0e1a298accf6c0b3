"""JSON to messages, and what is wrong with it in words that name the field and the instance."""

import re
from typing import Final, TypeVar

import msgspec

from serving.status import StatusError, invalid

Message = TypeVar("Message")

_PLACE: Final = " - at `$"
_FIELD: Final = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)
_MAX_WORDS: Final = 200


def read(decoder: msgspec.json.Decoder[Message], body: bytes) -> Message:
    """The message that a body holds.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _problem(error) from None


def _problem(error: Exception) -> StatusError:
    if isinstance(error, UnicodeDecodeError):
        return invalid(f"the body can't be read as JSON: not UTF-8 at byte {error.start} of a string")
    if isinstance(error, RecursionError):
        return invalid("the body can't be read as JSON: too many arrays and objects in each other")
    words, _, place = str(error).partition(_PLACE)
    if not isinstance(error, msgspec.ValidationError):
        return invalid(f"the body can't be read as JSON: {_small(words)}")
    place = place.rstrip("`").lstrip(".")
    field = _FIELD.fullmatch(words)
    if field is not None:
        place = f"{place}.{field[2]}" if place else field[2]
        words = "there is no such field" if field[1] == "contains unknown" else "it must be there, and is not"
    else:
        words = _small(words)
    if len(place) > _MAX_WORDS:
        place = place[:_MAX_WORDS] + "…"
    return invalid(f"{place or 'the body'}: {words}")


def _small(words: str) -> str:
    words = words.removeprefix("JSON is malformed: ")
    return words[:1].lower() + words[1:]
