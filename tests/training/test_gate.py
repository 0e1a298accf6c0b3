"""What is significantly worse than the version before it is not published, unless it is forced."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from serving.package.manifest import MANIFEST, MODEL, parse
from training.data import Array, Data, load
from training.errors import GateError
from training.evaluate import answers
from training.gate import SAME, judge
from training.job import Job, run
from training.models import Recipe
from training.packaging.package import versions
from training.runs import folder, read

from .conftest import Tiny

BETTER, WORSE = 0.1, 10.0


@pytest.fixture(scope="module")
def published(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Data, Path]:
    """A repository with version 1 of the houses, trained for two epochs, so that it is easily beaten."""
    recipe = tiny.recipes["house_price"]
    out = tmp_path_factory.mktemp("published")
    first = run(Job(recipe, data=tiny.data, out=out))
    assert first.gate == "the first version"
    return recipe, load(recipe.dataset, tiny.data), out / "house_price"


def off_by(data: Data, error: float) -> Array:
    """Predictions that are each `error` from the truth, give or take."""
    return (data.y_test + error * np.random.default_rng(0).normal(size=len(data.y_test)))[:, None].astype(np.float32)


def test_a_better_network_may_follow(published: tuple[Recipe, Data, Path]) -> None:
    recipe, data, model = published
    verdict = judge(recipe, data, off_by(data, BETTER), model / "2", force=False)
    assert verdict.against == "house_price/1"
    assert verdict.comparison is not None
    assert verdict.comparison.significantly_better
    assert str(verdict).startswith("significantly better than house_price/1: MAE -")
    assert not verdict.forced


@pytest.mark.parametrize("target", ["1", "2"], ids=["in place of it", "after it"])
def test_a_worse_one_must_not(published: tuple[Recipe, Data, Path], target: str) -> None:
    recipe, data, model = published
    worse = off_by(data, 1e3)
    with pytest.raises(GateError, match=r"significantly worse than house_price/1: MAE \+.*--force"):
        judge(recipe, data, worse, model / target, force=False)
    verdict = judge(recipe, data, worse, model / target, force=True)
    assert verdict.forced
    assert str(verdict).endswith(", forced")


def test_what_float16_rounds_off_is_no_worse(published: tuple[Recipe, Data, Path]) -> None:
    recipe, data, model = published
    before = answers(recipe, data, model / "1" / MODEL, "before")
    sign = np.sign(before - data.y_test[:, None])
    rounded = (before + sign * SAME * (1 + np.abs(before) / 2)).astype(np.float32)  # each price a little worse
    with pytest.raises(GateError, match="significantly worse"):
        judge(recipe, data, rounded, model / "2", force=False)
    verdict = judge(recipe, data, rounded, model / "2", force=False, precision="float16")
    assert str(verdict).startswith("not significantly different")
    with pytest.raises(GateError, match="significantly worse"):
        judge(recipe, data, off_by(data, 1e3), model / "2", force=False, precision="float16")


def test_the_same_network_again_is_no_worse(tiny: Tiny, published: tuple[Recipe, Data, Path]) -> None:
    recipe, _, model = published
    again = run(Job(recipe, data=tiny.data, out=model.parent))
    assert again.gate.startswith("not significantly different from house_price/1: MAE ")
    assert again.package == model / "2"


def test_a_package_that_cannot_be_measured_is_not_passed_over(
    published: tuple[Recipe, Data, Path], tmp_path: Path
) -> None:
    recipe, data, _ = published
    broken = tmp_path / "house_price" / "3"
    broken.mkdir(parents=True)
    (broken / MANIFEST).write_text("{}")
    with pytest.raises(GateError, match=f"{broken} can't be measured"):
        judge(recipe, data, off_by(data, BETTER), broken.parent / "4", force=False)
    verdict = judge(recipe, data, off_by(data, BETTER), broken.parent / "4", force=True)
    assert str(verdict) == "not compared with house_price/3, forced"


def test_a_worse_fit_leaves_the_repository_alone_and_force_is_recorded(
    tiny: Tiny, published: tuple[Recipe, Data, Path], tmp_path: Path
) -> None:
    recipe, _, _ = published
    good = dataclasses.replace(recipe, epochs=60, folds=0, validation_samples=10)
    run(Job(good, data=tiny.data, out=tmp_path))
    bad = dataclasses.replace(recipe, epochs=1, folds=0, validation_samples=10)
    with pytest.raises(GateError, match="not published"):
        run(Job(bad, data=tiny.data, out=tmp_path, runs=tmp_path / "runs"))
    refused = read(folder(tmp_path / "runs", "house_price", "book", 0))
    assert refused.gate.startswith("refused: not published")
    assert (refused.package, refused.test["mae"] > 0) == ("", True)
    assert versions(tmp_path / "house_price") == [1]
    forced = run(Job(bad, data=tiny.data, out=tmp_path, force=True))
    manifest = parse((forced.package / MANIFEST).read_bytes())
    assert str(manifest.provenance["forced"]).startswith("significantly worse than house_price/1")
    assert "forced" not in parse((tmp_path / "house_price" / "1" / MANIFEST).read_bytes()).provenance
