"""The fleet of one: prepared where control is, committed where requests are."""

import asyncio
import sys
import threading
from collections.abc import Mapping
from typing import cast

import pytest

from serving.courtesy import SWITCH_SECONDS
from serving.repository.local import Local
from serving.repository.models import Models
from serving.repository.routing import Routing, Wanted
from serving.repository.version import Prepared

pytestmark = pytest.mark.asyncio

WANTED = Wanted("models/double/1", "double", 1)


class Scripted:
    """Stands for models: notes on which threads it is changed."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.interval = 0.0
        self.error: Exception | None = None

    def prepare(self, wanted: Wanted) -> Prepared:
        self.threads.append(threading.get_ident())
        self.interval = sys.getswitchinterval()
        return Prepared(wanted.name, fresh=True)

    def commit(self, routings: Mapping[str, Routing | None]) -> None:
        self.threads.append(threading.get_ident())
        if self.error is not None:
            raise self.error


async def test_the_loop_goes_on_while_a_version_is_prepared_and_commits_it() -> None:
    models = Scripted()
    local = Local(cast("Models", models), asyncio.get_running_loop())
    before = sys.getswitchinterval()
    assert await asyncio.to_thread(local.prepare, WANTED) == Prepared("double", fresh=True)
    assert models.interval == pytest.approx(SWITCH_SECONDS)
    assert sys.getswitchinterval() == before
    await asyncio.to_thread(local.commit, {"double": Routing()})
    here = threading.get_ident()
    assert [thread == here for thread in models.threads] == [False, True]


async def test_an_error_of_a_commit_reaches_control() -> None:
    models = Scripted()
    models.error = KeyError("double")
    local = Local(cast("Models", models), asyncio.get_running_loop())
    with pytest.raises(KeyError, match="double"):
        await asyncio.to_thread(local.commit, {})
