"""Which versions are to be served, found out from the folder: at the start, whenever it is looked at, or when asked.

One change at a time, on a thread that may take as long as it takes: those who serve notice nothing but the commits.
A version that is refused changes nothing for those that are served.
"""

import logging
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal

from serving.repository import disk, policy
from serving.repository.disk import LoadError, RepositoryError
from serving.repository.later import NotYetError
from serving.repository.loader import Loader, TryOut
from serving.repository.observed import Versions, complain, home_of, marks_of
from serving.repository.policy import PolicyError
from serving.repository.relapse import Relapses
from serving.repository.routing import Fleet, Routing, Wanted
from serving.repository.state import POLICY, Entry, Model
from serving.status import SHOWN, Code, Resource, StatusError, shown
from serving.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

Mode = Literal["none", "poll", "explicit"]

ALL = "*"


class Control:
    """Keeps those who serve in line with a models folder."""

    def __init__(
        self,
        folder: Path,
        fleet: Fleet,
        metrics: Metrics,
        *,
        mode: Mode,
        versions: str,
        try_out: TryOut,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._fleet = fleet
        self._metrics = metrics
        self._mode = mode
        self._versions = versions
        self._clock = clock
        self._loader = Loader(folder, fleet, metrics, try_out, clock)
        self._models: dict[str, Model] = {}
        self._complaint = ""
        self._relapses = Relapses(fleet, metrics, lambda name, model: self._update(name, model, {}), clock)

    def start(self, names: Collection[str] = (ALL,)) -> None:
        """Serve what is there: all models, or in explicit mode those named.

        Packages are verified here, but not tried out first, which would take longer than all else: see `try_out`.

        Raises:
            RepositoryError: there is nothing to serve.
        """
        found = disk.scan(self._folder)
        if missing := set(names) - {ALL} - found.keys() - found.problems.keys():
            raise RepositoryError(f"{', '.join(sorted(missing))} not in {self._folder}, which has: {', '.join(found)}")
        for name in [*found, *found.problems]:
            wanted = self._mode != "explicit" or ALL in names or name in names
            model = self._models[name] = Model(needed=wanted, wanted=wanted, routing=Routing(needed=wanted))
            if name in found.problems:
                model.complaint = complain("", found.problems[name], {"model": name})
            elif wanted:
                model.marks = marks_of(self._folder, found[name])
                self._read_policy(name, model, found[name])
                self._update(name, model, found[name], trial=False)
        self._fleet.commit(self.routings)
        self._metrics.folder(found=True)
        for name, model in self._models.items():
            self._count_ready(name, model)

    def look(self) -> None:
        """See what has changed.

        What is new is let be until it stays the same from one look to the next: it may still be written. What is
        missing twice is gone.
        """
        try:
            found = disk.scan(self._folder)
        except RepositoryError as error:
            # A mount that is gone must not take with it the models that are in memory.
            self._metrics.folder(found=False)
            self._complaint = complain(self._complaint, str(error), {})
            return
        self._metrics.folder(found=True)
        self._complaint = complain(self._complaint, "", {})
        for name, problem in found.problems.items():
            # What can't be read is not gone.
            model = self._models.setdefault(name, Model())
            model.complaint = complain(model.complaint, problem, {"model": name})
        for name in [*found, *(self._models.keys() - found.keys() - found.problems.keys())]:
            model = self._models.setdefault(name, Model())
            if model.wanted:
                self._look_at(name, model, found.get(name, {}))

    def hear(self) -> None:
        """A trial has ended: see to the versions that were waiting for it, and to nothing else."""
        for name, model in list(self._models.items()):
            if model.pending:
                same = {n: one.folder for n, one in model.pending.items() if disk.fingerprint(one.folder) == one.mark}
                self._update(name, model, same)

    def failed(self, name: str, number: int, digest: str, reason: str) -> None:
        """A version that is served fails: serve it no more, until a fresh session of it is sound."""
        model = self._models.get(name)
        if model is not None:
            self._relapses.take_out(name, number, model, digest, reason)
            self._relapses.recover(self._models)

    def mend(self) -> bool:
        """Have those load what is served who could not when they came, and bring back what failed while it served.

        Returns whether something is still lacking.
        """
        self._relapses.recover(self._models)
        for name, number in list(self._fleet.lacking):
            model = self._models.get(name)
            if model is None or not model.ready(number):
                continue
            seen = model.seen[number]
            try:
                self._fleet.prepare(Wanted(str(seen.folder), name, number, seen.digest))
            except LoadError:
                continue  # it was said when they came
            self._fleet.commit({name: model.routing})
            log.info("model mended", extra={"model": name, "version": number})
        return bool(self._fleet.lacking or self._relapses)

    def knows(self, name: str, model: Model) -> bool:
        """Is it still this one, not unloaded and loaded again?"""
        return self._models.get(name) is model

    def load(self, name: str, *, afresh: bool = True) -> None:
        """Serve a model, or what has changed of it; `afresh`: what was refused before gets another chance.

        Raises:
            StatusError: NOT_FOUND, or FAILED_PRECONDITION where it, or part of it, can't be served.
            NotYetError: a trial is under way.
        """
        self._may_be_asked()
        versions = self._scan().get(name)
        if versions is None:
            raise _not_found(name)
        model = self._models.setdefault(name, Model())
        model.wanted = True
        self.mend()
        for number, seen in list(model.seen.items()):
            if number not in versions:
                self._forget(name, model, number)
            elif seen.reason and afresh:
                seen.mark, seen.retry_at, seen.reason = None, 0.0, ""
        self._read_policy(name, model, versions)
        self._update(name, model, versions)
        if model.pending:
            raise NotYetError(model)
        if (problems := model.failures()) or model.routing.default is None:
            why = "; ".join(problems) or "no version answers by default"
            raise StatusError(Code.FAILED_PRECONDITION, f"model {name}: {why}")

    def unload(self, name: str) -> None:
        """Serve a model no more; what it was asked it still answers.

        Raises:
            StatusError: NOT_FOUND, or FAILED_PRECONDITION where that is not how models are controlled.
        """
        self._may_be_asked()
        if name not in self._models:
            raise _not_found(name)
        for number in list(self._models[name].seen):
            self._forget(name, self._models[name], number)
        model = self._models[name] = Model(wanted=False)
        self._commit(name, model, Routing(needed=False))
        log.info("model unloaded", extra={"model": name})

    def try_out(self) -> bool:
        """Try out one of the versions that the start could not wait for; whether some are still to be tried."""
        now = self._clock()
        for name, model in self._models.items():
            for number, seen in model.seen.items():
                if seen.ready and not seen.tried_out and seen.retry_at <= now:
                    if not self._loader.try_served(name, number, seen):
                        self._update(name, model, {})
                    break
        return any(s.ready and not s.tried_out for model in self._models.values() for s in model.seen.values())

    def index(self) -> list[Entry]:
        """Every version that is there."""
        entries = [entry for name, model in self._models.items() for entry in model.index(name)]
        for name in self._scan().keys() - self._models.keys():
            entries += Model().index(name)
        lacking = {key: f"some workers lack it: {reason}" for key, reason in self._fleet.lacking.items()}
        return sorted(
            one._replace(reason=lacking.get((one.name, int(one.version or 0)), one.reason)) for one in entries
        )

    @property
    def served(self) -> list[Wanted]:
        """The packages that are served, and ..."""
        return [wanted for name, model in self._models.items() for wanted in model.served(name)]

    @property
    def routings(self) -> dict[str, Routing]:
        """... how: for those who come to serve later."""
        return {name: model.routing for name, model in self._models.items()}

    @property
    def failures(self) -> list[str]:
        """What was refused, and why."""
        return [f"{name} {problem}" for name, model in self._models.items() for problem in model.failures()]

    def _may_be_asked(self) -> None:
        if self._mode != "explicit":
            raise StatusError(
                Code.FAILED_PRECONDITION,
                f"models are not loaded or unloaded by request: --model-control is {self._mode}, not explicit",
            )

    def _scan(self) -> disk.Found:
        try:
            return disk.scan(self._folder)
        except RepositoryError:
            return disk.Found({}, {})

    def _forget(self, name: str, model: Model, number: int) -> None:
        """A version is there no more, or is not wanted."""
        del model.seen[number]
        self._metrics.removed(name, number)

    def _look_at(self, name: str, model: Model, versions: Versions) -> None:
        before, marks = model.marks, marks_of(self._folder, versions)
        model.marks = marks
        gone = [number for number in model.seen if number not in marks and number not in before]
        for number in gone:
            self._forget(name, model, number)
        if not (versions or model.seen):
            del self._models[name]
            self._fleet.commit({name: None})
            log.info("model removed", extra={"model": name})
            return
        if versions and before.get(POLICY) == marks[POLICY]:
            self._read_policy(name, model, versions)
        # Versions that are served and were not found this time have no folder to be tried from, and need none.
        steady = {number: folder for number, folder in versions.items() if before.get(number) == marks[number]}
        self._update(name, model, steady)

    def _read_policy(self, name: str, model: Model, versions: Versions) -> None:
        home = home_of(self._folder, versions)
        problem = ""
        try:
            if home is not None:
                model.policy = policy.read(home, self._versions)
        except PolicyError as error:
            problem = str(error)
        model.complaint = complain(model.complaint, problem, {"model": name})

    def _update(self, name: str, model: Model, versions: Versions, *, trial: bool = True) -> None:
        """Try those of `versions` that may be served and have not been tried as they are; commit what comes of it."""
        if model.complaint and not model.seen:
            self._commit(name, model, Routing(needed=model.needed, note=model.complaint))
            return  # whoever wrote a policy did not mean that there is none
        chosen = model.policy
        serve: list[int] = []
        changed = False
        before, model.pending = model.pending, {}
        for number in chosen.choose(versions.keys() | model.seen.keys()):
            if chosen.latest is not None and len(serve) >= chosen.latest and number not in chosen.pinned:
                continue
            if number in versions:
                changed |= self._loader.bring(name, model, number, versions[number], before.get(number), trial=trial)
            if model.ready(number):
                serve.append(number)
        serve += model.held - {*serve}
        if not serve:
            serve = [number for number in model.routing.versions if model.ready(number)]
        for number in [number for number in model.seen if model.ready(number) and number not in serve]:
            self._forget(name, model, number)
        if (waiting := model.waiting()) != model.waited:
            model.waited = waiting
            for label, number in waiting.items():
                about = {"model": name, "label": label, "wants": number, "stays": model.routing.labels.get(label)}
                log.warning("label waits for its version", extra=about)
        routing = model.route(sorted(serve))
        model.needed = routing.needed
        if changed or routing != model.routing:
            if trial:
                self._commit(name, model, routing)
            else:
                model.routing = routing

    def _commit(self, name: str, model: Model, routing: Routing) -> None:
        if (routing.default, routing.labels) != (model.routing.default, model.routing.labels):
            about = {"model": name, "default": routing.default, "versions": routing.versions, "labels": routing.labels}
            log.info("model routed", extra=about)
        model.routing = routing
        self._fleet.commit({name: routing})
        self._count_ready(name, model)

    def _count_ready(self, name: str, model: Model) -> None:
        for number, seen in model.seen.items():
            self._metrics.readiness(name, number, ready=seen.ready)


def _not_found(name: str) -> StatusError:
    return StatusError(
        Code.NOT_FOUND, f"model {shown(name)} is not in the repository", resource=Resource("model", name[:SHOWN])
    )
