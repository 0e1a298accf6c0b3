"""Mean and spread over seeds: every seed's package on the whole test set, through the running server.

The packages are made by `python -m training fit … --seeds 5 --recipe RECIPE --out runs/seeds/RECIPE`.
"""

from contextlib import ExitStack
from typing import Any

import grpc
import numpy as np

from benchmarks.answers import HOUSE_PRICE, ROWS, SENTIMENT, TIMEOUT, TOPIC, Values
from benchmarks.payloads import manifest, versions
from benchmarks.servers import REPOSITORY, real_server
from benchmarks.session import Session
from benchmarks.tables import Cell, Table
from training.measure.bootstrap import paired

NAME = "seeds"

RECIPES = ("book", "best")
_ROOT = REPOSITORY / "runs" / "seeds"
_SETS = (SENTIMENT, TOPIC, HOUSE_PRICE)


def run(session: Session) -> dict[str, Any]:
    """Every recipe that has packages, every model of it, every seed."""
    rounds: list[dict[str, Any]] = []
    scores: dict[tuple[str, str], list[Values]] = {}
    found = [recipe for recipe in RECIPES if (_ROOT / recipe).is_dir()]
    data = session.data
    if data is not None:
        steps = sum(len(versions(one.model, _ROOT / recipe)) for recipe in found for one in _SETS)
        with session.reporter.benchmark(NAME, steps):
            for recipe in found:
                with ExitStack() as stack:
                    server = stack.enter_context(real_server(None, None, "--models", str(_ROOT / recipe)))
                    channel = stack.enter_context(grpc.insecure_channel(server.address))
                    grpc.channel_ready_future(channel).result(TIMEOUT)
                    for one in _SETS:
                        for version in versions(one.model, _ROOT / recipe):
                            answers = one.answers(channel, data, str(version), session.quick)
                            scores.setdefault((recipe, one.model), []).append(answers.scores)
                            stated = manifest(one.model, version, _ROOT / recipe)
                            rounds.append(
                                {
                                    "recipe": recipe,
                                    "model": one.model,
                                    "seed": stated["provenance"]["seed"],
                                    "metric": one.metric,
                                    "samples": len(answers.found),
                                    "figure": answers.figure,
                                    "model_sha256": stated["files"]["model.onnx"]["sha256"],
                                    "book": stated["metrics"][f"book_test_{one.metric.lower()}"],
                                }
                            )
                            session.reporter.step(f"{one.model}, {recipe}, seed {version - 1}: {answers.figure:.4f}")
    summary = [
        _summarised([each for each in rounds if (each["recipe"], each["model"]) == (recipe, one.model)], scores)
        for one in _SETS
        for recipe in found
        if (recipe, one.model) in scores
    ]
    return {"settings": {"rows_a_request": ROWS, "quick": session.quick}, "summary": summary, "rounds": rounds}


def tables(record: dict[str, Any]) -> list[Table]:
    """A row for each model and recipe."""
    rows: list[list[Cell]] = []
    for one in record["summary"]:
        digits = 3 if one["metric"] == "MAE" else 4
        figures = [f"{one[name]:.{digits}f}" for name in ("mean", "sd", "lowest", "highest")]
        better = "{:+.4f} ({:+.4f} to {:+.4f})".format(*one["better_by"]) if one["better_by"] else None
        rows.append([one["model"], one["recipe"], one["metric"], one["seeds"], *figures, f"{one['book']:g}", better])
    columns = (
        *("model", "recipe", "measured as", "seeds", "mean", "sd", "lowest", "highest", "the book reports"),
        "better than the book's recipe by",
    )
    note = (
        "Networks that differ in nothing but the seed, each packaged, served, and asked for the whole test set over "
        "gRPC. MAE: mean absolute error in thousand dollars. Recipes: the book's own; the best that is known here, "
        "chosen on validation data only. Better by: accuracy, or the mean absolute error turned round, with the 95 % "
        "interval of the paired bootstrap over test samples, each sample's score the mean over the seeds."
    )
    return [Table("What another seed would have given", columns, rows, note, labels=3)]


def _summarised(seeds: list[dict[str, Any]], scores: dict[tuple[str, str], list[Values]]) -> dict[str, Any]:
    figures = np.array([each["figure"] for each in seeds])
    recipe, model = seeds[0]["recipe"], seeds[0]["model"]
    book = scores.get((RECIPES[0], model))
    better = None
    if recipe != RECIPES[0] and book is not None:
        # Of each sample, the mean over the seeds: what is left to chance is then which samples there are.
        compared = paired(np.mean(scores[recipe, model], axis=0), np.mean(book, axis=0), seed=0)
        better = [compared.difference, compared.low, compared.high]
    return {
        **{name: seeds[0][name] for name in ("model", "recipe", "metric", "book")},
        "seeds": len(seeds),
        "mean": float(figures.mean()),
        "sd": float(figures.std(ddof=1)) if len(figures) > 1 else 0.0,
        "lowest": float(figures.min()),
        "highest": float(figures.max()),
        "better_by": better,
    }
