"""What can go wrong in ways that the person at the keyboard can put right; the messages say how."""

import re

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class TrainingError(Exception):
    """A failure to be shown as one message, without a traceback."""


class DataError(TrainingError):
    """A file of a data set is missing or is not the file it should be."""


class ExportError(TrainingError):
    """A network that can't be made into a package, or a package that doesn't do what its network does."""


class EndedEarlyError(TrainingError):
    """A process ended without saying why; trying again may help."""


class GateError(TrainingError):
    """A network that is significantly worse than the package that it would take over from."""


def one_line(error: Exception) -> str:
    """What a library says of a failure, without line breaks and without colours."""
    return " ".join(_COLOURS.sub("", str(error)).split())
