"""The disk under the models: full, gone, and back. What is in memory is served on."""

import contextlib
import errno
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.conftest import Figure
from tests.chaos.load import Load, ask
from tests.chaos.packages import one_model
from tests.end_to_end.server import ServerProcess
from tests.end_to_end.test_workers import metric
from tests.serving.packages import SHIPPED, copy
from training.errors import TrainingError
from training.packaging import package

QUICK = ("--model-poll-seconds", "0.05")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a full disk: this machine lets nobody mount one ({mounted.stderr.decode().strip()})")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while filler.write(b"x" * size):
                    pass


def test_a_full_disk_changes_nothing_for_what_is_served(small_disk: Path, figure: Figure) -> None:
    """The disk of the models folder is full, and somebody publishes."""
    models = one_model(small_disk)
    with ServerProcess(*QUICK, models=models) as server, Load(server.wait_ready().address) as load:
        fill(small_disk)
        calm = time.monotonic()
        files = {path.name: path.read_bytes() for path in (SHIPPED / "house_price" / "1").iterdir()}
        with pytest.raises(TrainingError, match=os.strerror(errno.ENOSPC)):
            package.write(models / "house_price" / "2", files, replace=False)
        assert sorted(p.name for p in (models / "house_price").iterdir()) == ["1"], "nothing of it stays"
        # One who copies straight into its place leaves a part of a package.
        with pytest.raises(shutil.Error):
            shutil.copytree(SHIPPED / "house_price" / "1", models / "house_price" / "3")
        refused = server.wait_for("model refused")
        assert refused["version"] == 3
        load.wait_for(30)
        assert metric(server, 'triptych_model_ready{model="house_price",version="3"}') == 0
        (small_disk / "filler").unlink()
        shutil.rmtree(models / "house_price" / "3")
        copy(models, version=4)
        routed = server.wait_for("model routed")
        assert routed["default"] == 4, "and once there is room, all goes on"
        assert load.lost == 0
        figure("calls lost", load.lost)
        figure("others' median before, ms", load.median_ms(end=calm))
        figure("others' median meanwhile, ms", load.median_ms(begin=calm))


@pytest.mark.parametrize("how", ["renamed", "emptied"])
def test_a_models_folder_that_vanishes_takes_nothing_with_it(tmp_path: Path, how: str, figure: Figure) -> None:
    """The models folder vanishes under the server."""
    models = one_model(tmp_path / "models")
    aside = tmp_path / "aside"
    with ServerProcess(*QUICK, models=models) as server, Load(server.wait_ready().address) as load:
        assert metric(server, "triptych_models_folder_found") == 1
        if how == "renamed":
            models.rename(aside)
        else:
            shutil.copytree(models, aside)
            shutil.rmtree(models / "house_price")
        problem = server.wait_for("repository problem")
        assert problem["level"] == "error"
        assert str(models) in problem["reason"]
        assert metric(server, "triptych_models_folder_found") == 0
        load.wait_for(60)
        with urllib.request.urlopen(server.metrics.replace("/metrics", "/health/ready"), timeout=10) as answer:
            assert answer.status == 200, "were it not, one lost share would take every server of it out of service"
        if how == "emptied":
            models.rmdir()
        aside.rename(models)
        server.wait_for("repository problem solved")
        assert metric(server, "triptych_models_folder_found") == 1
        assert ask(server) == "OK"
        assert load.lost == 0
        figure("calls lost", load.lost)
        assert not [line for line in server.lines if line["event"] in ("model removed", "model released")]
