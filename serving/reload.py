"""Files that may change while a server runs: looked at again and again, and what was made of them made anew.

They are told apart by their content, not by their times: a Secret or ConfigMap is swapped through links, and what
is copied over may keep its date. They are small.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.25
"""From one look to the next. What changed is taken at the second look that finds it the same."""

THREAD: Final = "reload"

Made = TypeVar("Made", covariant=True)


class Told(Protocol):
    """Who is told when files have changed."""

    def __call__(self, kind: str, /, *, loaded: bool) -> None:
        """What is made of them, and whether it could be."""


class Reloaded(Generic[Made]):
    """What is made of some files: the last that could be."""

    def __init__(
        self,
        kind: str,
        files: Sequence[str],
        make: Callable[[], Made],
        told: Told,
    ) -> None:
        """Make it for the first time.

        Args:
            kind: what it is called, in the log and by metrics.
            files: that it is made of.
            make: reads them; raises ValueError where they can't be used, which is what the first time raises.
            told: called whenever it was to be made anew.
        """
        self.kind = kind
        self._files = tuple(files)
        self._make = make
        self._told = told
        # Before they are read: what changes in between is seen at the next look.
        self._seen = self._tried = self._print()
        self.made: Made = make()

    def look(self) -> None:
        """See whether the files have changed, and are no longer changing."""
        found = self._print()
        changing, self._seen = found != self._seen, found
        if changing or found == self._tried:
            return
        self._tried = found
        problem: Exception | None = None
        try:
            made = self._make()
        except (ValueError, OSError) as error:
            problem = error
        if self._print() != found:
            self._tried = b""  # what was read may be of either: once they have settled, again
        elif problem is not None:
            # What was made before goes on.
            log.error("%s not reloaded", self.kind, extra={"reason": str(problem)})
            self._told(self.kind, loaded=False)
        else:
            self.made = made
            log.info("%s reloaded", self.kind)
            self._told(self.kind, loaded=True)

    def _print(self) -> bytes:
        found = hashlib.sha256()
        for file in self._files:
            try:
                content = Path(file).read_bytes()
            except OSError as error:
                content = repr(error.errno).encode()
            found.update(hashlib.sha256(content).digest())
        return found.digest()


class Looking:
    """A thread that looks at all of them: a file system may hang, and the event loop must not."""

    def __init__(self, watched: Iterable[Reloaded[object]], seconds: float = LOOK_SECONDS) -> None:
        self._watched = tuple(watched)
        self._seconds = seconds
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin, where there is anything to look at."""
        if self._watched:
            threading.Thread(target=self._look, name=THREAD, daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _look(self) -> None:
        while not self._stopped.wait(self._seconds):
            for each in self._watched:
                try:
                    each.look()
                except Exception:
                    log.exception("%s could not be looked at", each.kind)
