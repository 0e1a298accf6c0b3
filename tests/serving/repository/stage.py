"""A folder, its control, and a fleet that serves nothing and remembers what it was told."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from serving.repository import disk
from serving.repository.control import Control, Mode
from serving.repository.disk import LoadError
from serving.repository.routing import Routing, Wanted
from serving.repository.version import Prepared
from serving.telemetry.metrics import Metrics
from tests.serving.packages import copy, value

PRICE = "house_price"


class Fleet:
    """Those who would serve: reads packages, verifies nothing, and remembers what it was told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prepared: list[tuple[str, int]] = []
        self.routings: dict[str, Routing] = {}
        self.commits = 0
        self.refusing: set[int] = set()
        self.failing: set[int] = set()
        """For reasons that are not theirs."""
        self.lacking: dict[tuple[str, int], str] = {}
        self._digests: dict[tuple[str, int], str] = {}

    def prepare(self, wanted: Wanted) -> Prepared:
        key = (wanted.name, wanted.version)
        package = disk.read(self.folder, Path(wanted.folder), *key)
        if wanted.version in self.refusing:
            raise LoadError("golden", "its answers are wrong")
        if wanted.version in self.failing:
            raise LoadError("load_error", "there is no memory just now", lasting=False)
        fresh = self._digests.get(key) != package.digest
        self._digests[key] = package.digest
        self.prepared += [key] if fresh else []
        self.lacking.pop(key, None)
        return Prepared(package.digest, fresh)

    def commit(self, routings: Mapping[str, Routing | None]) -> None:
        self.commits += 1
        for name, routing in routings.items():
            if routing is None:
                del self.routings[name]
            else:
                self.routings[name] = routing

    def versions(self, name: str = PRICE) -> tuple[int, ...]:
        return self.routings[name].versions


class Stage:
    """A folder, its control, and the fleet that it has."""

    def __init__(self, folder: Path, mode: Mode = "poll", versions: str = "all") -> None:
        self.folder = folder
        self.fleet = Fleet(folder)
        self.metrics = Metrics()
        self.tried: list[int] = []
        self.unfit: set[int] = set()
        self.under_way: set[int] = set()
        self.starving: set[int] = set()
        """Those whose trials can't be started."""
        self.now = 0.0
        self.control = Control(
            folder,
            self.fleet,
            self.metrics,
            mode=mode,
            versions=versions,
            try_out=self._try_out,
            clock=lambda: self.now,
        )

    def _try_out(self, folder: Path, name: str, version: int, digest: str) -> bool:
        if version in self.starving:
            raise LoadError("load_error", "its trial could not be started", lasting=False)
        self.tried.append(version)
        if version in self.under_way:
            return False
        if version in self.unfit:
            raise LoadError("checker", "no such operator")
        return True

    def add(self, *versions: int, name: str = PRICE) -> None:
        for version in versions:
            copy(self.folder, name, version)

    def policy(self, text: str) -> None:
        (self.folder / PRICE / "serving.toml").write_text(text)

    def remove(self, *parts: str) -> None:
        shutil.rmtree(self.folder.joinpath(*parts))

    def look(self, times: int = 2) -> None:
        """Twice, by default: once to see it, and once to see that it stays so."""
        for _ in range(times):
            self.control.look()

    def routing(self, name: str = PRICE) -> Routing:
        return self.fleet.routings[name]

    def loads(self, outcome: str) -> float:
        return value(self.metrics, "triptych_model_loads_total", model=PRICE, outcome=outcome) or 0


def damage(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def explicit(folder: Path, *names: str) -> Stage:
    stage = Stage(folder, mode="explicit")
    stage.add(1)
    stage.add(1, name="topic")
    stage.control.start(names)
    return stage
