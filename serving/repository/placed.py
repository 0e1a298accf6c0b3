"""A package on every device that is to serve it: verified on each, and what it takes of a GPU's memory."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from serving.engine.cost import CostModel
from serving.engine.device import Device
from serving.engine.engine import Runner
from serving.engine.placement import Placement
from serving.repository import verify
from serving.repository.disk import Package

log = logging.getLogger(__name__)


class Placed(NamedTuple):
    """One version, ready on all devices."""

    runners: tuple[Runner, ...]
    """One for each device, in order."""
    cost: CostModel
    """What batches cost on the first."""
    batch_rows: int
    """Rows of the largest batch that is worth while on all."""
    gpu_memory: dict[int, int]
    """Bytes by GPU, as CUDA counts them: what loading and warming took of what was free, whoever else came or went.

    Without those of which the driver does not say it.
    """


def load(package: Package, devices: Sequence[Device], max_batch_rows: int) -> Placed:
    """Load a package onto each of `devices`, one after the other, and verify it there.

    Raises:
        LoadError: what `verify.load` raises, of any of them.
    """
    loaded: list[verify.Loaded] = []
    memory: dict[int, int] = {}
    for device in devices:
        before = device.memory()
        loaded.append(verify.load(package, device, max_batch_rows))
        after = device.memory()
        if device.index is not None and before is not None and after is not None:
            memory[device.index] = max(0, before.free - after.free)
    placement = loaded[0].placement
    if placement is not None:
        _tell(package, devices[0], placement)
    return Placed(
        tuple(one.runner for one in loaded),
        loaded[0].cost,
        min(one.batch_rows for one in loaded),
        memory,
    )


def _tell(package: Package, device: Device, placement: Placement) -> None:
    """Say which of its nodes run on the CPU although it is on a GPU, and warn of those that need not."""
    excuses = placement.excuses(device.provider)
    manifest = package.manifest
    about = {"model": manifest.name, "version": manifest.version, "device": device.name}
    without = excuses.pop("", None)
    log.info(
        "nodes placed",
        extra={
            **about,
            "on_device": placement.count(device.provider),
            "on_cpu": {why: dict(ops) for why, ops in excuses.items()},
        },
    )
    if without:
        log.warning("nodes run on the CPU that could run on the GPU", extra={**about, "nodes": dict(without)})


def described(gpu_memory: dict[int, int]) -> str:
    """For people, in the repository index; empty where there is no GPU."""
    if not gpu_memory:
        return ""
    return "GPU memory: " + ", ".join(f"cuda:{gpu} {bytes_ / 1e6:.1f} MB" for gpu, bytes_ in gpu_memory.items())
