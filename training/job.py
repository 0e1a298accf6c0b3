"""One model's fit or export, from the data set to the package on disk and the run's record."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.package.manifest import MODEL, digest
from training import runs
from training.cluster import is_chief
from training.data import Array, Data, load
from training.device import CPU
from training.errors import GateError
from training.models import Network, Recipe
from training.options import DEFAULT, ExportPrecision, Options, changed
from training.packaging.package import check_writable, target, write
from training.packaging.saved import load_network, save_network
from training.placement import home, settle
from training.progress import Display, Log
from training.provenance import peak_memory, run_json
from training.quiet import silent_stderr
from training.runs import Device
from training.speed import Speed, speeds

if TYPE_CHECKING:
    from training.gate import Verdict
    from training.packaging.export import Training
    from training.recording import Made


@dataclass(frozen=True)
class Job:
    """What to make, of what, and where to put it."""

    recipe: Recipe
    data: Path | None
    out: Path
    version: int | None = None
    force: bool = False
    gate: bool = True
    """Whether it must not be significantly worse than the version before it."""
    network: Path | None = None
    """A saved network to export; None means fit one."""
    save_network: Path | None = None
    """A folder that the fitted network is saved to, too."""
    runs: Path | None = None
    """The folder of run records; None means none is written."""
    options: Options = DEFAULT
    """How the fit runs, beside its recipe."""
    export_precision: ExportPrecision = "float32"
    """What the package computes in."""


@dataclass(frozen=True)
class Outcome:
    """What came of a job."""

    recipe: Recipe
    package: Path
    test: dict[str, float]
    gate: str
    """How it compares with the version before it."""
    model_bytes: int
    sha256: str
    same_as_before: bool | None
    """Whether `model.onnx` has the same bytes as the one it replaced; None where it replaced none."""
    training_seconds: float | None
    wall_seconds: float
    peak_memory_bytes: int
    run: Path | None
    """The run's folder, where there is one."""
    devices: list[Device]
    """What it was trained on; none where nothing was."""
    speed: Speed | None
    """Of the final network's epochs."""


def run(job: Job) -> Outcome | None:
    """Fit, or load, the network of `job`, hold it to the version before it, and publish its package.

    Of several workers that train together the chief alone goes on after the fit; the others get None.

    Raises:
        TrainingError: the data, the network or the folder is not as it should be; the message says how.
    """
    started = time.perf_counter()
    recipe = job.recipe
    for wanted in (job.out, job.runs, job.save_network, job.options.tensorboard, job.options.checkpoints):
        if wanted is not None:
            check_writable(wanted)  # before the work, not after
    folder = target(job.out, recipe.name, job.version, job.force)  # refused before the work, not after
    with Display(recipe.name) as display:
        log = Log(display)
        if job.network is None:
            job = replace(job, options=settle(job.options, recipe, display.say))
        # Data first: reading it takes the most memory, and TensorFlow then reuses what it gave back.
        data = load(recipe.dataset, job.data)
        display.say(f"{len(data.y_train):,} training and {len(data.y_test):,} test samples")
        with silent_stderr():
            import tensorflow  # noqa: F401

        from training.evaluate import predict
        from training.gate import judge
        from training.packaging.export import export, graph_of
        from training.recording import Made

        trained = _network(job, data, log)
        network, training = trained.network, trained.training
        speed = next((each for each in speeds(log.epochs) if each.stage == "final"), None)
        if speed is not None:
            display.say(f"trained on {' and '.join(map(str, trained.devices))}: {speed}")
        if not is_chief(job.options.distribute):
            display.say("done; the chief publishes")
            return None
        if job.save_network is not None:
            save_network(network, job.save_network / f"{recipe.name}.keras")
        with home(job.options):
            display.say("exporting, and holding the graph to Keras on the whole test set")
            graph = graph_of(recipe, data, network, predict(recipe, network, data.x_test), job.export_precision)
            if graph.told:
                display.say(graph.told)
            predictions = graph.predictions
            try:
                verdict = (
                    judge(recipe, data, predictions, folder, job.force, job.export_precision) if job.gate else None
                )
            except GateError as refusal:  # the record of a run that was refused is the one that people want to study
                seconds = time.perf_counter() - started
                made = Made("", "", f"refused: {refusal}", seconds, trained.seconds, peak_memory(), trained.devices)
                _record(job, data, predictions, training, log, made)
                raise
            if verdict is not None:
                display.say(f"{verdict}")
                training = _forced(training, verdict)
            exported = export(recipe, data, network, graph, int(folder.name), training)
    before = digest(folder / MODEL) if (folder / MODEL).exists() else None
    wall_seconds = time.perf_counter() - started
    run_files = {"run.json": run_json(trained.seconds, wall_seconds, trained.devices, speed)}
    write(folder, {**exported.files, **run_files}, replace=job.force)
    after = digest(folder / MODEL)
    outcome = Outcome(
        recipe=recipe,
        package=folder,
        test=exported.test,
        gate="" if verdict is None else str(verdict),
        model_bytes=after.bytes,
        sha256=after.sha256,
        same_as_before=None if before is None else before == after,
        training_seconds=trained.seconds,
        wall_seconds=wall_seconds,
        peak_memory_bytes=peak_memory(),
        run=_run_folder(job),
        devices=trained.devices,
        speed=speed,
    )
    made = Made(
        package=str(folder),
        model_sha256=outcome.sha256,
        gate=outcome.gate,
        seconds=wall_seconds,
        training_seconds=trained.seconds,
        peak_memory_bytes=outcome.peak_memory_bytes,
        devices=trained.devices,
    )
    _record(job, data, predictions, training, log, made)
    return outcome


def _run_folder(job: Job) -> Path | None:
    recipe = job.recipe
    if job.runs is None:
        return None
    return runs.folder(job.runs, recipe.name, recipe.variant, recipe.seed, changed(job.options, job.export_precision))


def _record(job: Job, data: Data, predictions: Array, training: "Training", log: Log, made: "Made") -> None:
    from training.recording import record

    folder = _run_folder(job)
    if folder is not None:
        record(folder, job.recipe, data, predictions, training, log.epochs, made)


@dataclass(frozen=True)
class _Trained:
    """A network, what is known of its training, the seconds that took, and what it was done on."""

    network: Network
    training: "Training"
    seconds: float | None
    devices: list[Device]


def _network(job: Job, data: Data, log: Log) -> _Trained:
    """The network that `job` asks for."""
    from training.fit import fit, make_deterministic
    from training.packaging.convert import check
    from training.packaging.export import Training

    recipe = job.recipe
    origin: dict[str, Any]
    if job.network is not None:
        make_deterministic(recipe.seed)
        network = load_network(job.network)
        check(recipe, network)
        origin = {"network_sha256": digest(job.network).sha256}
        return _Trained(network, Training({}, "none, the network was saved earlier", origin), None, [])
    fitted = fit(recipe, data, log, job.options)
    origin = {
        "recipe": recipe.variant,
        "seed": recipe.seed,
        "hyperparameters": {**recipe.hyperparameters, "epochs": fitted.epochs},
    }
    if (asked := changed(job.options, job.export_precision)) != {}:
        origin["options"] = asked
    if job.options.device != CPU:  # of the CPU nothing is said: any gives the same package, or should
        origin["devices"] = [asdict(device) for device in fitted.devices]
    training = Training(fitted.validation, fitted.protocol, origin, fitted.splits)
    return _Trained(fitted.network, training, fitted.training_seconds, fitted.devices)


def _forced(training: "Training", verdict: "Verdict") -> "Training":
    """`training`, with the verdict that was overridden in its provenance, if one was."""
    if not verdict.forced:
        return training
    return replace(training, provenance={**training.provenance, "forced": str(verdict)})
