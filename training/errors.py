"""What can go wrong in ways that the person at the keyboard can put right; the messages say how."""


class TrainingError(Exception):
    """A failure to be shown as one message, without a traceback."""


class DataError(TrainingError):
    """A file of a data set is missing or is not the file it should be."""


class ExportError(TrainingError):
    """A network that can't be made into a package, or a package that doesn't do what its network does."""
