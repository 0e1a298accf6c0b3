"""One model's fit or export, in a process of its own, so that its peak memory and its TensorFlow state are its own."""

import contextlib
import multiprocessing
import os
import signal
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.package.manifest import MODEL, digest
from training.data import Data, load
from training.errors import TrainingError
from training.models import Network, Recipe
from training.package import target, write
from training.progress import Display
from training.provenance import peak_memory, run_json
from training.quiet import silent_stderr
from training.saved import load_network, save_network

if TYPE_CHECKING:
    from training.export import Training


@dataclass(frozen=True)
class Job:
    """What to make, of what, and where to put it."""

    recipe: Recipe
    data: Path | None
    out: Path
    version: int | None = None
    force: bool = False
    network: Path | None = None
    """A saved network to export; None means fit one."""
    save_network: Path | None = None
    """A folder that the fitted network is saved to, too."""


@dataclass(frozen=True)
class Outcome:
    """What came of a job."""

    recipe: Recipe
    package: Path
    test: dict[str, float]
    model_bytes: int
    sha256: str
    same_as_before: bool | None
    """Whether `model.onnx` has the same bytes as the one it replaced; None where it replaced none."""
    training_seconds: float | None
    wall_seconds: float
    peak_memory_bytes: int


def run_in_own_process(job: Job) -> Outcome:
    """Run `job` in a new process and wait for it; Ctrl-C is passed on, and waits for the process to tidy up.

    Raises:
        TrainingError: the job failed, with its reason.
        KeyboardInterrupt: it was interrupted; nothing half-written is left.
    """
    # spawn, not fork: TensorFlow's threads don't survive a fork, and a fork would inherit this process's memory.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(job, sender))
    process.start()
    sender.close()
    try:
        result: Outcome | TrainingError | KeyboardInterrupt = receiver.recv()
    except EOFError:
        process.join()
        raise TrainingError(f"{job.recipe.name}: its process ended early, exit code {process.exitcode}") from None
    except KeyboardInterrupt:
        # A terminal has sent it the signal already; `kill -INT` on this process alone has not.
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGINT)
        raise
    finally:
        process.join()
    if isinstance(result, Outcome):
        return result
    raise result


def _child(job: Job, sender: Connection) -> None:
    def interrupt(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough: a second would cut the tidying short
        raise KeyboardInterrupt

    result: Outcome | TrainingError | KeyboardInterrupt
    try:
        signal.signal(signal.SIGINT, interrupt)
        result = run(job)
    except (TrainingError, KeyboardInterrupt) as error:
        result = error
    with contextlib.suppress(BrokenPipeError):  # the parent was interrupted and no longer listens
        sender.send(result)


def run(job: Job) -> Outcome:
    """Fit, or load, the network of `job`, and write its package."""
    started = time.perf_counter()
    recipe = job.recipe
    folder = target(job.out, recipe.name, job.version, job.force)  # refused before the work, not after
    with Display(recipe.name) as display:
        # Data first: reading it takes the most memory, and TensorFlow then reuses what it gave back.
        data = load(recipe.dataset, job.data)
        display.say(f"{len(data.y_train):,} training and {len(data.y_test):,} test samples")
        with silent_stderr():
            import tensorflow  # noqa: F401

        from training.export import export

        network, training, training_seconds = _network(job, data, display)
        display.say("exporting, and holding the graph to Keras on the whole test set")
        exported = export(recipe, data, network, int(folder.name), training)
    if job.save_network is not None:
        save_network(network, job.save_network / f"{recipe.name}.keras")
    before = digest(folder / MODEL) if (folder / MODEL).exists() else None
    wall_seconds = time.perf_counter() - started
    write(folder, {**exported.files, "run.json": run_json(training_seconds, wall_seconds)})
    after = digest(folder / MODEL)
    return Outcome(
        recipe=recipe,
        package=folder,
        test=exported.test,
        model_bytes=after.bytes,
        sha256=after.sha256,
        same_as_before=None if before is None else before == after,
        training_seconds=training_seconds,
        wall_seconds=wall_seconds,
        peak_memory_bytes=peak_memory(),
    )


def _network(job: Job, data: Data, display: Display) -> tuple[Network, "Training", float | None]:
    """The network that `job` asks for, what is known of its training, and the seconds that took."""
    from training.export import Training
    from training.fit import fit, make_deterministic

    recipe = job.recipe
    origin: dict[str, Any]
    if job.network is not None:
        make_deterministic(recipe.seed)
        network = load_network(job.network)
        origin = {"network_sha256": digest(job.network).sha256}
        return network, Training({}, "none, the network was saved earlier", origin), None
    fitted = fit(recipe, data, display.epoch)
    chosen = ("hidden", "activation", "optimizer", "loss", "epochs", "batch_size")
    origin = {"seed": recipe.seed, "hyperparameters": {name: asdict(recipe)[name] for name in chosen}}
    return fitted.network, Training(fitted.validation, fitted.protocol, origin), fitted.training_seconds
