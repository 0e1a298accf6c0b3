"""Loads that are asked for, and whose answer depends on a trial that is under way."""

from collections.abc import Callable
from typing import Protocol

from serving.repository.state import Model
from serving.status import Code, StatusError


class Loads(Protocol):
    """The part of control that is asked."""

    def load(self, name: str, *, afresh: bool) -> None:
        """Serve a model; raises NotYetError where a trial is under way."""

    def knows(self, name: str, model: Model) -> bool:
        """Is it still this one, not unloaded and loaded again?"""


class NotYetError(Exception):
    """A trial is under way on which the answer depends: ask again when it is over."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model


def loading(name: str) -> Callable[[Loads], None]:
    """Asks for a model to be loaded, however often until it is known; given another chance is what failed before."""
    waiting: Model | None = None

    def ask(control: Loads) -> None:
        nonlocal waiting
        if waiting is not None and not control.knows(name, waiting):
            raise StatusError(Code.FAILED_PRECONDITION, f"model {name}: it was unloaded, or removed, meanwhile")
        try:
            control.load(name, afresh=waiting is None)
        except NotYetError as error:
            waiting = error.model
            raise

    return ask
