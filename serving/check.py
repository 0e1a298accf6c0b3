"""`check`: verify every package of a folder as a server would, step by step, and print what was found."""

import time
from collections.abc import Sequence
from pathlib import Path

from serving.api.tasks import TASKS
from serving.engine import device
from serving.engine.batcher import Limits
from serving.engine.device import CPU, DEFAULTS, CudaOptions, Device, DeviceError
from serving.package.manifest import InputSpec, OutputSpec
from serving.repository import disk, policy, trial, verify
from serving.repository.disk import LoadError, RepositoryError
from serving.repository.policy import PolicyError
from serving.repository.rules import tensors

_CONTRACTS = {task.model: task.problem for task in TASKS}


class CheckError(Exception):
    """Nothing could be checked; the message says why."""


def check(models: str, wanted_device: str, cuda: CudaOptions = DEFAULTS) -> int:
    """Check all packages under `models`; returns 1 if any would not be served, else 0.

    Raises:
        CheckError: the folder or the device can't be used.
    """
    folder = Path(models)
    try:
        chosen = device.choose(wanted_device, cuda)
        found = disk.scan(folder)
    except (DeviceError, RepositoryError) as error:
        raise CheckError(str(error)) from error
    if wanted_device == "auto" and chosen[0].provider == CPU:
        print(f"on the CPU: {device.cuda_problem(0) or 'CUDA does not work here, and --device cuda says why'}")
    ready = refused = 0
    started = time.monotonic()
    for name, problem in found.problems.items():
        refused += 1
        print(f"{name:<16}       refused  {problem}")
    for name, folders in found.items():
        if wrong := _policy_problem(folder, folders):
            refused += 1
            print(f"{name:<16}       refused  {wrong}")
        for number, place in folders.items():
            report = _Report(name, number)
            try:
                _check(report, folder, place, chosen)
                ready += 1
            except LoadError as error:
                report.refuse(error)
                refused += 1
    verdict = f"{refused} refused, {ready} ready" if refused else f"{ready} ready"
    print(f"{verdict}, in {time.monotonic() - started:.2f} s on {_places(chosen)}")
    return 1 if refused else 0


def _policy_problem(models: Path, folders: dict[int, Path]) -> str | None:
    """What is wrong with the `serving.toml` of a model of these versions, if there is one."""
    home = next(iter(folders.values()))
    try:
        chosen = policy.read(home if home == models else home.parent, "all")
    except PolicyError as error:
        return str(error)
    missing = {label: number for label, number in chosen.labels.items() if number not in folders}
    if missing:
        named = ", ".join(f"{label} names version {number}" for label, number in missing.items())
        return f"{policy.FILE}: {named}; there are: {', '.join(map(str, folders))}"
    if chosen.candidate is not None and chosen.candidate not in folders:
        return f"{policy.FILE}: the candidate is version {chosen.candidate}; there are: {', '.join(map(str, folders))}"
    return None


class _Report:
    """What is printed of one package: a verdict in one line, and a line for each step before it."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number
        self._started = self._last = time.monotonic()
        self._lines: list[str] = []

    def done(self, step: str, remark: str = "", seconds: float | None = None) -> None:
        """A step has passed, in the time since the last unless it is known better."""
        now = time.monotonic()
        taken = now - self._last if seconds is None else seconds
        self._lines.append(f"    {step:<12}{1000 * taken:>10.1f} ms  {remark}".rstrip())
        self._last = now

    def accept(self, summary: str) -> None:
        self._print(f"ready    {summary}, {time.monotonic() - self._started:.2f} s")

    def refuse(self, error: LoadError) -> None:
        self._print(f"refused  {error.outcome}: {error}")

    def _print(self, verdict: str) -> None:
        print(f"{self.name:<16} {self.number:>4}  {verdict}", *self._lines, sep="\n")


def _places(devices: Sequence[Device]) -> str:
    return ", ".join(found.provider if found.provider == CPU else found.name for found in devices)


def _check(report: _Report, models: Path, place: Path, chosen: Sequence[Device]) -> None:
    """Take a package through every step.

    Raises:
        LoadError: it is not fit to be served.
    """
    package = disk.read(models, place, report.name, report.number)
    manifest = package.manifest
    report.done("checksum", ", ".join(f"{file} {tensors.size(found.bytes)}" for file, found in manifest.files.items()))
    verify.check_contract(manifest, _CONTRACTS.get(manifest.name))
    verify.check_static(package)
    report.done("static", "nothing from outside, nothing that explodes")
    rows = Limits().max_batch_rows
    tried = trial.try_out(models, place, report.name, report.number, package.digest, max_batch_rows=rows)
    report.done("checker", "the ONNX checker, with its shape inference", tried.seconds["checker"])
    trial_seconds = sum(tried.seconds.values())
    report.done("trial", f"all steps in a process of its own, {tensors.size(tried.peak_bytes)} at most", trial_seconds)
    examples = len(next(iter(manifest.golden.inputs.values())))
    for one in chosen:
        _load(report, package, one, rows)
    report.accept(f"{examples} golden examples on {_places(chosen)}, {tensors.size(len(package.model))}")


def _load(report: _Report, package: disk.Package, chosen: Device, rows: int) -> None:
    manifest = package.manifest
    examples = len(next(iter(manifest.golden.inputs.values())))
    remarks = {
        "session": f"loaded by ONNX Runtime for {_places([chosen])}",
        "signature": f"inputs {_named(manifest.inputs)}; outputs {_named(manifest.outputs)}",
        "golden": f"{examples} examples reproduced",
    }

    def done(step: str) -> None:
        if step in remarks:
            report.done(step, remarks[step])

    loaded = verify.load(package, chosen, rows, done)
    report.done("warm-up", f"batches of up to {loaded.batch_rows} rows are worth while")
    if loaded.placement is not None:
        beside = "; ".join(
            f"{why or 'without need'}: {', '.join(ops)}"
            for why, ops in loaded.placement.excuses(chosen.provider).items()
        )
        report.done(
            "placement", f"{loaded.placement.count(chosen.provider)} nodes there, on the CPU {beside or 'none'}"
        )


def _named(specs: Sequence[InputSpec | OutputSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in specs)
