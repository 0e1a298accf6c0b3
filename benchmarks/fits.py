"""What a fit costs: every model from nothing to its package, and an epoch beside that of the usual way.

It trains, and so measures `training`, not the server.
"""

import contextlib
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from benchmarks.datasets import ENVIRONMENT
from benchmarks.epochs import WAYS, memory
from benchmarks.machine import Others
from benchmarks.payloads import manifest, versions
from benchmarks.servers import REPOSITORY, ServerFailed
from benchmarks.session import Session
from benchmarks.stats import median, ratio
from benchmarks.tables import Cell, Table

NAME = "fits"

RECIPES = ("book", "best")
MODELS = ("sentiment", "topic", "house_price")
MEMORY_GIB = 1.5
"""Less than this much resident memory is what a model may take to fit."""

BOOK_EPOCHS = 4
"""Epochs of the book's sentiment model."""

ALL = "all, the command"

_LIBRARIES = ("tensorflow", "keras")
_SECONDS = ("wall_seconds", "cpu_seconds", "package_seconds", "training_seconds")
_SAMPLE_SECONDS = 0.05


def run(session: Session) -> dict[str, Any]:
    """Rounds of fits, each recipe in turn; then rounds of epochs, each way in turn."""
    if session.data is None:
        reason = f"no data: --data or {ENVIRONMENT} says where the data sets are"
        return {"settings": {"skipped": reason}, "summary": {}, "rounds": []}
    models = ("topic",) if session.quick else MODELS
    rounds = int(session.pick(2, 1))
    turns, epochs = int(session.pick(5, 1)), int(session.pick(6, BOOK_EPOCHS))
    raw: list[dict[str, Any]] = []
    steps = rounds * len(models) * len(RECIPES) + turns * len(WAYS)
    with session.reporter.benchmark(NAME, steps):
        for number in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                for recipe in RECIPES:
                    step = partial(_step, session, f"round {number + 1} of {rounds}, {recipe}")
                    one = _fit(Path(folder), recipe, models, session.data, step)
                    raw.append({"round": number + 1, "recipe": recipe, **one})
        for number in range(turns):
            for way in WAYS if number % 2 else reversed(WAYS):
                one = _epochs(way, epochs, session.data)
                raw.append({"round": number + 1, "way": way, **one})
                session.reporter.step(
                    f"turn {number + 1} of {turns}, {way}: {median(one['epoch_seconds'][1:]):.2f} s an epoch, "
                    f"at most {one['peak_mib']:,.0f} MiB"
                )
    settings = {"rounds": rounds, "turns": turns, "epochs": epochs, "libraries": _libraries()}
    return {"settings": settings, "summary": summarised(raw), "rounds": raw}


def summarised(raw: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds; peaks are the highest of them.

    Args:
        raw: the rounds, of fits (they have a `recipe`) and of epochs (they have a `way`).
    """
    fits = [one for one in raw if "recipe" in one]
    models = []
    for recipe in dict.fromkeys(one["recipe"] for one in fits):
        its = [one["models"] for one in fits if one["recipe"] == recipe]
        for model in its[0]:
            same = [one[model] for one in its]
            models.append(
                {
                    "model": model,
                    "recipe": recipe,
                    **{name: median(one[name] for one in same) for name in _SECONDS},
                    **{name: max(one[name] for one in same) for name in ("peak_gib", "stated_gib")},
                    "shipped": sorted({version for one in same for version in one.get("shipped", ())}),
                    "same_bytes": len({one.get("sha256") for one in same}) == 1,
                }
            )
    return {"models": models, "epochs": _compared([one for one in raw if "way" in one])}


def _compared(raw: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each way, its ratio to our own with the spread over the rounds."""
    ours = {one["round"]: one for one in raw if one["way"] == WAYS[0]}
    found = []
    for way in WAYS:
        its = [one for one in raw if one["way"] == way]
        times = [ratio(_epoch(one), _epoch(ours[one["round"]])) for one in its]
        found.append(
            {
                "way": way,
                "epoch_seconds": median(map(_epoch, its)),
                "times": median(times),
                "lowest": min(times),
                "highest": max(times),
                "first_seconds": median(one["epoch_seconds"][0] for one in its),
                **{name: median(one[name] for one in its) for name in ("encode_seconds", "before_mib", "loss")},
                "whole_seconds": median(map(_whole, its)),
                "whole_times": median(ratio(_whole(one), _whole(ours[one["round"]])) for one in its),
                "peak_mib": max(one["peak_mib"] for one in its),
                "peak_times": median(ratio(one["peak_mib"], ours[one["round"]]["peak_mib"]) for one in its),
            }
        )
    return found


def _step(session: Session, what: str, model: str) -> None:
    session.reporter.step(f"{what}: {model} begins")


def _epoch(one: dict[str, Any]) -> float:
    """Seconds an epoch, without the first, in which TensorFlow traces the step."""
    return median(one["epoch_seconds"][1:])


def _whole(one: dict[str, Any]) -> float:
    """Seconds of the book's training, with all that comes before it."""
    return float(one["encode_seconds"]) + sum(one["epoch_seconds"][:BOOK_EPOCHS])


def tables(record: dict[str, Any]) -> list[Table]:
    """Fits, and epochs."""
    settings, summary = record["settings"], record["summary"]
    if not summary:
        return [Table("What a fit takes", ("",), [[f"skipped: {settings['skipped']}"]])]
    fits: list[list[Cell]] = [
        [
            *(one["model"], one["recipe"], _bytes(one), one["wall_seconds"], one["cpu_seconds"]),
            *(one["package_seconds"], one["training_seconds"], f"{one['peak_gib']:.2f}", f"{one['stated_gib']:.2f}"),
        ]
        for one in summary["models"]
    ]
    names = {"batches": "ours: each batch encoded when it is due", "dense": "one dense float32 array of all samples"}
    epochs: list[list[Cell]] = [
        [
            *(names[one["way"]], one["epoch_seconds"], one["times"], f"{one['lowest']:.2f} – {one['highest']:.2f}"),
            *(one["encode_seconds"], one["first_seconds"], one["whole_seconds"], one["whole_times"]),
            *(one["before_mib"], one["peak_mib"], one["peak_times"]),
        ]
        for one in summary["epochs"]
    ]
    return [
        Table(
            "What a fit takes",
            (
                *("model", "recipe", "model.onnx has the bytes of", "wall, s", "CPU, s", "to the package, s"),
                *("training, s", "peak, GiB", "run.json says"),
            ),
            fits,
            _fits_note(settings, summary["models"]),
            labels=3,
        ),
        Table(
            "An epoch of sentiment",
            (
                *("training data", "s an epoch", "×", "over rounds", "encoding before all, s", "first epoch, s"),
                *(f"all of {BOOK_EPOCHS} epochs, s", "× all", "memory before, MiB", "peak, MiB", "× peak"),
            ),
            epochs,
            _epochs_note(settings),
        ),
    ]


def _bytes(one: dict[str, Any]) -> str:
    """Which shipped versions a fit gave again."""
    if one["model"] == ALL:
        return "–"
    again = ", ".join(f"version {number}" for number in one["shipped"]) or "no shipped version"
    return again if one["same_bytes"] else f"{again}; not the same each time"


def _fits_note(settings: dict[str, Any], models: Sequence[dict[str, Any]]) -> str:
    most = max(models, key=lambda one: one["peak_gib"])
    libraries = ", ".join(f"{name} {version}" for name, version in settings["libraries"].items())
    return (
        "`python -m training fit … --recipe RECIPE`, first the book's, then the best, into an empty folder; the median "
        f"of {settings['rounds']} rounds, peaks the highest, on all cores. Each model has a process of its own: it "
        "reads the data, validates, trains on all samples, exports, holds the graph to Keras on the whole test set "
        "and, where there is a version before it, is compared with that; then it writes the run's record, with "
        "baselines, which the book's measures first and the best finds there. Wall, CPU and peak are of the whole "
        "process, seen from outside; up to the package, and training of the final network alone, are wall time as "
        f"run.json has it. *{ALL.capitalize()}*: by the clock, from start to end. The same command gives the same "
        "bytes on one machine; on another kind of CPU sums are rounded otherwise, and no shipped version may come out "
        "again. Asked "
        f"for: less than {MEMORY_GIB} GiB; the most is {most['peak_gib']:.2f}, {most['model']}, {most['recipe']}. "
        f"{libraries}."
    )


def _epochs_note(settings: dict[str, Any]) -> str:
    return (
        "The book's network on all 25,000 training reviews, in batches of 512, operations deterministic, each time in "
        f"a process of its own, turn about; medians of {settings['turns']} rounds of the median of "
        f"{settings['epochs'] - 1} epochs, without the first, in which TensorFlow traces the step. The dense array is "
        "filled once, before the first epoch, row by row, and copied in the first. All: the encoding and the book's "
        f"{BOOK_EPOCHS} epochs. Memory is resident memory: before, with TensorFlow and the "
        "reviews as word ids; peak, the highest round. × is against ours in the same round."
    )


def _fit(out: Path, recipe: str, models: Sequence[str], data: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """One command, as a user would give it.

    Raises:
        ServerFailed: it failed; the message has its last words.
    """
    command = [sys.executable, "-m", "training", "fit", *models, "--recipe", recipe, "--data", str(data)]
    command += ["--out", str(out / "models"), "--runs", str(out / "runs")]
    others, started, used = Others(), time.monotonic(), _children_seconds()
    with (out / f"{recipe}.txt").open("w+") as said:
        with subprocess.Popen(command, cwd=REPOSITORY, stdout=said, stderr=subprocess.STDOUT) as process:
            try:
                watched = _watch(process, say, models)
            except BaseException:
                process.send_signal(signal.SIGINT)  # the fit tidies up, and ends
                raise
        wall, used = time.monotonic() - started, _children_seconds() - used
        if process.returncode:
            said.seek(0)
            raise ServerFailed(f"{' '.join(command[1:])} failed: {said.read().strip()[-500:]}")
    found: dict[str, Any] = {}
    for model, seen in zip(models, watched, strict=True):
        folder = max((out / "models" / model).iterdir(), key=lambda path: int(path.name))
        took = json.loads((folder / "run.json").read_bytes())
        sha256 = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
        found[model] = {
            **seen,
            "package_seconds": took["wall_seconds"],
            "training_seconds": took["training_seconds"],
            "stated_gib": took["peak_memory_bytes"] / 2**30,
            "sha256": sha256,
            "shipped": shipped(model, sha256),
        }
    found[ALL] = {
        "wall_seconds": wall,
        "cpu_seconds": used,
        **{name: sum(one[name] for one in found.values()) for name in ("package_seconds", "training_seconds")},
        **{name: max(one[name] for one in found.values()) for name in ("peak_gib", "stated_gib")},
    }
    return {"models": found, "other_cores": others.cores(used)}


def shipped(model: str, sha256: str, models: Path = REPOSITORY / "models") -> list[int]:
    """The versions of `model` in the folder `models` whose graph has this hash."""
    return [
        number
        for number in versions(model, models)
        if manifest(model, number, models)["files"]["model.onnx"]["sha256"] == sha256
    ]


def _watch(
    process: "subprocess.Popen[bytes]", say: Callable[[str], None], models: Sequence[str]
) -> list[dict[str, float]]:
    """Wait for a fit to end; returns what each model's process took, to about the time between two looks."""
    command = psutil.Process(process.pid)
    seen: dict[int, dict[str, float]] = {}
    while process.poll() is None:
        # One may end between two lines; its last moment is all that is missed.
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            for child in command.children():
                if "spawn_main" in " ".join(child.cmdline()):  # else multiprocessing's own tracker
                    if child.pid not in seen:
                        say(models[len(seen)])
                    times, peak = child.cpu_times(), memory("VmHWM", child.pid)
                    seen[child.pid] = {
                        "wall_seconds": time.time() - child.create_time(),
                        "cpu_seconds": times.user + times.system + times.children_user + times.children_system,
                        "peak_gib": peak / 2**10,
                    }
        time.sleep(_SAMPLE_SECONDS)
    return list(seen.values())


def _children_seconds() -> float:
    """CPU time of all processes that were started from here and are over, with theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _epochs(way: str, epochs: int, data: Path) -> dict[str, Any]:
    """Epochs in a process of their own."""
    command = [sys.executable, "-m", "benchmarks.epochs", way, str(epochs), str(data)]
    others, used = Others(), _children_seconds()
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerFailed(f"an epoch, {way}, failed: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "other_cores": others.cores(_children_seconds() - used)}


def _libraries() -> dict[str, str]:
    """Versions of what trains."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
