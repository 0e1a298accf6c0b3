"""`check`: verify every package of a folder as a server would, and print what was found."""

import time
from pathlib import Path

from serving.api.tasks import TASKS
from serving.engine import device
from serving.engine.batcher import Limits
from serving.engine.device import DeviceError
from serving.repository import disk, verify
from serving.repository.disk import LoadError, RepositoryError


class CheckError(Exception):
    """Nothing could be checked; the message says why."""


def check(models: str, wanted_device: str) -> int:
    """Check all packages under `models`; returns 1 if any would not be served, else 0.

    Raises:
        CheckError: the folder or the device can't be used.
    """
    folder = Path(models)
    try:
        chosen = device.choose(wanted_device)
        found = disk.scan(folder)
    except (DeviceError, RepositoryError) as error:
        raise CheckError(str(error)) from error
    contracts = {task.model: task.problem for task in TASKS}
    refused = 0
    for name, numbers in found.items():
        for number in numbers:
            started = time.monotonic()
            try:
                package = disk.read(folder, name, number)
                verify.check_contract(package.manifest, contracts.get(name))
                runner = verify.load(package, chosen, Limits().max_batch_rows).runner
            except LoadError as error:
                refused += 1
                print(f"{name:<16} {number:>4}  refused  {error.outcome}: {error}")
                continue
            golden = len(next(iter(package.manifest.golden.inputs.values())))
            print(
                f"{name:<16} {number:>4}  ready    {golden} golden examples on {runner.session.provider}, "
                f"{len(package.model) / 1e6:.1f} MB, {time.monotonic() - started:.2f} s"
            )
    return 1 if refused else 0
