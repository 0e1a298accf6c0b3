"""What was made elsewhere is published whole, under the next number, and only if it is no worse."""

import json
import shutil
from pathlib import Path

import msgspec
import onnx
import pytest

from serving.package.manifest import digest, parse
from training import publishing as module
from training.errors import GateError, TrainingError
from training.models import RECIPES
from training.publishing import publish

SHIPPED = Path(__file__).parents[2] / "models"


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    shutil.copytree(SHIPPED / "house_price" / "1", tmp_path / "staged" / "house_price" / "1")
    return tmp_path / "staged"


def manifest(package: Path) -> dict[str, object]:
    read: dict[str, object] = json.loads((package / "model.json").read_bytes())
    return read


def another(staged: Path) -> None:
    """Make the staged network another one than the shipped, as far as its bytes say."""
    package = staged / "house_price" / "1"
    with (package / "model.onnx").open("ab") as file:
        file.write(b"more")
    sign(package)


def sign(package: Path) -> None:
    """Write the checksum of its network to the manifest of `package`."""
    files = {"model.onnx": msgspec.to_builtins(digest(package / "model.onnx"))}
    (package / "model.json").write_text(json.dumps({**manifest(package), "files": files}))


def test_a_first_version(staged: Path, tmp_path: Path) -> None:
    (published,) = publish(staged, tmp_path / "models", None, force=False)
    place = tmp_path / "models" / "house_price" / "1"
    assert (published.package, published.gate) == (place, "the first version")
    for name in ("model.onnx", "model.json", "run.json"):
        assert (place / name).read_bytes() == (staged / "house_price" / "1" / name).read_bytes()
    assert (staged / "house_price" / "1").exists()


def test_a_version_gets_the_next_number_in_its_manifest_too(staged: Path, tmp_path: Path) -> None:
    place = tmp_path / "models" / "house_price"
    shutil.copytree(staged / "house_price" / "1", place / "7")
    another(staged)
    (published,) = publish_without_data(staged, tmp_path / "models")
    assert published.package == place / "8"
    parse((place / "8" / "model.json").read_bytes())
    assert manifest(place / "8") == {**manifest(staged / "house_price" / "1"), "version": 8}


def test_the_same_network_is_not_published_again(staged: Path, tmp_path: Path) -> None:
    publish(staged, tmp_path / "models", None, force=False)
    (published,) = publish(staged, tmp_path / "models", None, force=False)
    assert published.package == tmp_path / "models" / "house_price" / "1"
    assert "nothing to publish" in published.gate
    assert [path.name for path in (tmp_path / "models" / "house_price").iterdir()] == ["1"]


def test_the_newest_of_several_is_published(staged: Path, tmp_path: Path) -> None:
    shutil.copytree(staged / "house_price" / "1", staged / "house_price" / "12")
    changed = {**manifest(staged / "house_price" / "1"), "version": 12, "labels": []}
    (staged / "house_price" / "12" / "model.json").write_text(json.dumps(changed))
    (published,) = publish(staged, tmp_path / "models", None, force=False)
    assert published.staged == staged / "house_price" / "12"
    assert published.package.name == "1"


def publish_without_data(staged: Path, repository: Path) -> list[module.Published]:
    """As `publish`, where the comparison says that nothing is worse."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_gate", lambda *_: ("compared", False))
        return publish(staged, repository, None, force=False)


@pytest.mark.parametrize("damage", ["content", "missing", "number", "manifest"])
def test_nothing_is_published_if_anything_is_damaged(staged: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(SHIPPED / "topic" / "1", staged / "topic" / "1")
    package = staged / "topic" / "1"
    if damage == "content":
        with (package / "model.onnx").open("ab") as file:
            file.write(b"x")
    elif damage == "missing":
        (package / "model.onnx").unlink()
    elif damage == "number":
        package.rename(staged / "topic" / "2")
    else:
        (package / "model.json").write_text("{}")
    with pytest.raises(TrainingError, match="topic"):
        publish(staged, tmp_path / "models", None, force=False)
    assert not (tmp_path / "models").exists()


def test_a_damaged_package_does_not_count_as_published(staged: Path, tmp_path: Path, real_data: Path) -> None:
    publish(staged, tmp_path / "models", None, force=False)
    (tmp_path / "models" / "house_price" / "1" / "model.json").write_text("{}")
    with pytest.raises(GateError, match="can't be measured"):
        publish(staged, tmp_path / "models", real_data, force=False)
    (healed,) = publish(staged, tmp_path / "models", real_data, force=True)
    assert healed.package.name == "2"


def test_a_graph_that_cannot_run_is_not_published(staged: Path, tmp_path: Path) -> None:
    package = staged / "house_price" / "1"
    (package / "model.onnx").write_bytes(b"junk")
    sign(package)
    with pytest.raises(TrainingError, match="has a graph that can't be run"):
        publish(staged, tmp_path / "models", None, force=False)
    assert not (tmp_path / "models").exists()


def test_files_outside_the_package_are_not_reached_for(staged: Path, tmp_path: Path) -> None:
    package = staged / "house_price" / "1"
    text = (package / "model.json").read_text()
    (package / "model.json").write_text(
        text.replace('"files": {', '"files": {"../../../outside": {"bytes": 0, "sha256": "' + "0" * 64 + '"}, ')
    )
    with pytest.raises(TrainingError, match="is not a plain file name"):
        publish(staged, tmp_path / "models", None, force=False)


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no package"):
        publish(tmp_path, tmp_path / "models", None, force=False)


def test_a_model_that_nothing_can_compare_needs_force(
    staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(RECIPES, "house_price")
    publish(staged, tmp_path / "models", None, force=False)
    another(staged)
    with pytest.raises(GateError, match="no test set is known"):
        publish(staged, tmp_path / "models", None, force=False)
    (published,) = publish(staged, tmp_path / "models", None, force=True)
    assert published.package.name == "2"


def test_a_worse_model_is_refused_and_stops_the_others(real_data: Path, staged: Path, tmp_path: Path) -> None:
    """The graph is changed to say a price of nothing for every house."""
    repository = tmp_path / "models"
    publish(staged, repository, real_data, force=False)
    package = staged / "house_price" / "1"
    graph = onnx.load(package / "model.onnx")
    kernel = next(each for each in reversed(graph.graph.initializer) if list(each.dims) == [64, 1])
    kernel.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(kernel) * 0, kernel.name))
    onnx.save(graph, package / "model.onnx")
    sign(package)
    shutil.copytree(SHIPPED / "topic" / "1", staged / "topic" / "1")

    with pytest.raises(GateError, match="significantly worse than house_price/1"):
        publish(staged, repository, real_data, force=False)
    assert [path.name for path in repository.iterdir()] == ["house_price"]
    assert [path.name for path in (repository / "house_price").iterdir()] == ["1"]

    forced = {each.package.parent.name: each for each in publish(staged, repository, real_data, force=True)}
    assert forced["house_price"].package.name == "2"
    assert "forced" in forced["house_price"].gate
    provenance = parse((repository / "house_price" / "2" / "model.json").read_bytes()).provenance
    assert str(provenance["forced"]).startswith("significantly worse than house_price/1")
