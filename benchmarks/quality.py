"""How right the shipped models are: whole test sets through the running server, every version of each."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from benchmarks.answers import ROWS, TEST_SETS, TIMEOUT, Answers, TestSet
from benchmarks.datasets import ENVIRONMENT, DataMissing, raw_texts
from benchmarks.payloads import manifest, versions
from benchmarks.servers import real_server
from benchmarks.session import Session
from benchmarks.tables import Cell, Table
from training.measure.bootstrap import paired

NAME = "quality"

_SEED = 0


def run(session: Session) -> dict[str, Any]:
    """Every test set there is data for, answered by every version."""
    data = session.data
    if data is None:
        reason = f"no data: --data or {ENVIRONMENT} says where the test sets are"
        names = [f"{one.model}, {one.what}" for one in TEST_SETS]
        return {"settings": {}, "summary": {"measured": [], "skipped": dict.fromkeys(names, reason)}, "rounds": []}
    skipped: dict[str, str] = {}
    raw: list[dict[str, Any]] = []
    steps = sum(len(versions(one.model)) for one in TEST_SETS)
    with ExitStack() as stack:
        stack.enter_context(session.reporter.benchmark(NAME, steps))
        server = stack.enter_context(real_server(every_version=True))
        channel = stack.enter_context(grpc.insecure_channel(server.address))
        grpc.channel_ready_future(channel).result(TIMEOUT)
        whole: dict[tuple[str, int], Answers] = {}
        for one in TEST_SETS:
            try:
                raw += _measure(one, channel, data, session, whole)
            except DataMissing as missing:
                skipped[f"{one.model}, {one.what}"] = str(missing)
                session.reporter.step(f"{one.model}, {one.what}: skipped, {missing}")
    settings = {"rows_a_request": ROWS, "quick": session.quick}
    return {"settings": settings, "summary": {"measured": raw, "skipped": skipped}, "rounds": raw}


def _measure(
    one: TestSet, channel: grpc.Channel, data: Path, session: Session, whole: dict[tuple[str, int], Answers]
) -> list[dict[str, Any]]:
    """One test set, answered by every version; `whole` keeps the answers to the whole sets."""
    measured: list[dict[str, Any]] = []
    before: Answers | None = None
    for version in versions(one.model):
        answers = one.answers(channel, data, str(version), session.quick)
        entry = {
            "model": one.model,
            "version": version,
            "what": one.what,
            "metric": one.metric,
            "samples": len(answers.found),
            "figure": answers.figure,
            "rows_per_second": len(answers.found) / answers.seconds,
            **_stated(one.model, version),
        }
        if before is not None:
            compared = paired(answers.scores, before.scores, seed=_SEED)
            entry["better_by"] = [compared.difference, compared.low, compared.high]
        before = answers
        if one.what != "raw":
            whole[one.model, version] = answers
        elif not session.quick:
            rows = [sample.position for sample in raw_texts(data, "imdb" if one.model == "sentiment" else "reuters")]
            entry["same"] = int((whole[one.model, version].found[rows] == answers.found).sum())
        measured.append(entry)
        session.reporter.step(f"{one.model} version {version}, {one.what}: {answers.figure:.4f}")
    return measured


def tables(record: dict[str, Any]) -> list[Table]:
    """Measured beside stated, and what was left out."""
    rows: list[list[Cell]] = []
    for one in record["summary"]["measured"]:
        digits = 3 if one["metric"] == "MAE" else 4
        same = f"{one['same']:,} of {one['samples']:,}" if "same" in one else None
        better = one.get("better_by")
        rows.append(
            [
                *(one["model"], one["version"], one["what"], one["metric"], one["samples"]),
                *(f"{one['figure']:.{digits}f}", _figure(one["package"], digits), _figure(one["book"], 3)),
                None if better is None else "{:+.4f} ({:+.4f} to {:+.4f})".format(*better),
                *(same, one["rows_per_second"]),
            ]
        )
    for name, reason in record["summary"]["skipped"].items():
        model, _, what = name.partition(", ")
        rows.append([model, None, what, f"skipped: {reason}", *[None] * 7])
    columns = (
        *("model", "version", "test set", "measured as", "samples", "through the server", "package states", "book"),
        *("better than the version before by", "as rebuilt text", "instances/s"),
    )
    note = (
        f"Over gRPC, {ROWS} instances a request, one request after the other. Rebuilt: the texts put together again "
        "from Keras's sequences, rare words included; raw: as they were published, of which there are 1,000, none of "
        "them also in the training set, so that their figure is one of another sample. As rebuilt text: raw texts "
        "answered with the same class. Better by: accuracy, or the mean absolute error turned round, with the 95 % "
        "interval of the paired bootstrap over test samples. MAE: mean absolute error in thousand dollars. The book: "
        "Chollet, Deep Learning with Python."
    )
    return [Table("How right the models are", columns, rows, note, labels=4)]


def _figure(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _stated(model: str, version: int) -> dict[str, Any]:
    metrics = manifest(model, version)["metrics"]
    name = "mae" if "test_mae" in metrics else "accuracy"
    return {"package": metrics.get(f"test_{name}"), "book": metrics.get(f"book_test_{name}")}
