"""Findings are seen where the histories say so, and only there."""

import dataclasses

import pytest

from training.experiments.findings import FINDINGS, Records, Verdict, verdicts
from training.experiments.variants import VARIANTS

from .histories import made_up, valley


def verdict(model: str, says: str, records: Records) -> Verdict:
    found = [each for each in verdicts(FINDINGS[model], records) if each.finding.says.startswith(says)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("model", FINDINGS)
def test_nothing_is_found_where_nothing_was_run(model: str) -> None:
    outcomes = verdicts(FINDINGS[model], {})
    assert {each.outcome for each in outcomes} == {"not run"}
    assert all(each.figures.startswith("needs ") for each in outcomes)


@pytest.mark.parametrize("model", FINDINGS)
def test_findings_are_about_variants_that_there_are(model: str) -> None:
    names = {variant.name for variant in VARIANTS[model]}
    assert {name for finding in FINDINGS[model] for name in finding.needs} == names - {"units-16"} | (
        {"units-16"} if model == "topic" else set()
    )
    sentences = [finding.says for finding in FINDINGS[model]]
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize(
    ("best_epoch", "rise", "outcome"),
    [(4, 0.5, "seen"), (4, 0.1, "not seen"), (9, 0.5, "not seen"), (1, 0.5, "not seen")],
)
def test_more_epochs_overfit(best_epoch: int, rise: float, outcome: str) -> None:
    records = {"book": made_up("sentiment", "book", valley(best_epoch, rise))}
    found = verdict("sentiment", "More epochs overfit", records)
    assert found.outcome == outcome
    assert f"at epoch {best_epoch}, +{100 * rise:.0f} % at epoch 20" in found.figures


@pytest.mark.parametrize(
    ("best_epoch", "rise", "sooner", "steeper"),
    [(2, 2.0, "seen", "seen"), (4, 2.0, "not seen", "seen"), (2, 0.5, "seen", "not seen")],
)
def test_a_far_larger_network(best_epoch: int, rise: float, sooner: str, steeper: str) -> None:
    records = {
        "book": made_up("sentiment", "book", valley(4, 0.5)),
        "units-512": made_up("sentiment", "units-512", valley(best_epoch, rise)),
    }
    assert verdict("sentiment", "A far larger network overfits sooner", records).outcome == sooner
    assert verdict("sentiment", "A far larger network overfits more severely", records).outcome == steeper
    assert verdict("sentiment", "A far larger network's training", records).outcome == "not seen"


def test_a_smaller_network() -> None:
    records = {
        "book": made_up("sentiment", "book", valley(4, 0.5)),
        "units-4": made_up("sentiment", "units-4", valley(9, 0.1)),
    }
    assert verdict("sentiment", "A smaller network overfits later", records).outcome == "seen"
    assert verdict("sentiment", "A smaller network overfits more slowly", records).outcome == "seen"
    records["units-4"] = records["book"]
    assert verdict("sentiment", "A smaller network overfits later", records).outcome == "not seen"
    assert verdict("sentiment", "A smaller network overfits more slowly", records).outcome == "not seen"


@pytest.mark.parametrize(
    ("book", "dropout", "outcome"), [(0.5, 0.2, "seen"), (0.5, 0.3, "not seen"), (0.0, 0.0, "not seen")]
)
def test_dropout_resists(book: float, dropout: float, outcome: str) -> None:
    records = {
        "book": made_up("topic", "book", valley(9, book)),
        "dropout": made_up("topic", "dropout", valley(9, dropout, lowest=2.0)),
    }
    found = verdict("topic", "Dropout", records)
    assert found.outcome == outcome
    assert ("nothing to resist" in found.figures) == (not book)


@pytest.mark.parametrize(
    ("accuracy", "bottleneck", "narrow"),
    [(0.70, "seen", "seen"), (0.78, "not seen", "seen"), (0.80, "not seen", "not seen")],
)
def test_narrow_layers_cost_accuracy(accuracy: float, bottleneck: str, narrow: str) -> None:
    records = {
        "book": made_up("topic", "book", [1, 1], [0.8, 0.7]),
        "bottleneck": made_up("topic", "bottleneck", [1, 1], [0.1, accuracy]),
        "units-16": made_up("topic", "units-16", [1, 1], [0.1, accuracy]),
    }
    assert verdict("topic", "A bottleneck", records).outcome == bottleneck
    assert verdict("topic", "Layers narrower", records).outcome == narrow


@pytest.mark.parametrize(("accuracy", "outcome"), [(0.875, "seen"), (0.869, "not seen"), (0.891, "not seen")])
def test_little_difference_is_either_way(accuracy: float, outcome: str) -> None:
    records = {
        "book": made_up("sentiment", "book", [1], [0.88]),
        "tanh": made_up("sentiment", "tanh", [1], [accuracy]),
    }
    found = verdict("sentiment", "tanh", records)
    assert found.outcome == outcome
    assert f"tanh: {100 * (accuracy - 0.88):+.1f} points" in found.figures


@pytest.mark.parametrize(("off", "outcome"), [(0.0, "seen"), (0.02, "not seen")])
def test_labels_in_either_form_give_the_same(off: float, outcome: str) -> None:
    losses = valley(9, 0.5)
    records = {
        "book": made_up("topic", "book", losses),
        "one-hot": made_up("topic", "one-hot", [*losses[:5], losses[5] - off, *losses[6:]]),
    }
    assert verdict("topic", "One-hot", records).outcome == outcome


def test_houses() -> None:
    falling = [4 - 0.01 * epoch for epoch in range(200)]
    raw = [2 * mae for mae in falling]
    long = [*falling, *(2 + 0.01 * epoch for epoch in range(300))]
    gaps = {"mae": 2.1, "mae_missing": 3.0}
    records = {
        "book": made_up("house_price", "book", falling, falling),
        "long": made_up("house_price", "long", long, long),
        "raw": made_up("house_price", "raw", raw, raw),
        "units-256": made_up("house_price", "units-256", raw, raw),
        "missing": made_up("house_price", "missing", falling, falling, validation=gaps),
    }
    sentences = (
        "The validation MAE stops",
        "Features of different",
        "With so few samples a larger",
        "A network learns",
    )
    assert [verdict("house_price", says, records).outcome for says in sentences] == ["seen"] * 4
    assert verdict("house_price", "With so few samples the folds", records).outcome == "not seen"

    epochs = [
        dataclasses.replace(epoch, figures=epoch.figures | {"val_mae": 3.0 if epoch.stage == "fold 2/4" else 2.0})
        for epoch in records["book"].epochs
    ]
    worse = {
        "book": dataclasses.replace(records["book"], epochs=epochs),
        "long": made_up("house_price", "long", falling, falling),
        "raw": records["book"],
        "units-256": made_up("house_price", "units-256", falling, [mae / 2 for mae in falling]),
        "missing": made_up("house_price", "missing", falling, falling, validation=gaps | {"mae": 3.0}),
    }
    assert [verdict("house_price", says, worse).outcome for says in sentences] == ["not seen"] * 4
    assert verdict("house_price", "With so few samples the folds", worse).outcome == "seen"
