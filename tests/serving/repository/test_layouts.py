"""Where packages may lie: behind links of many kinds, but within the models folder; and folders of one model."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from serving.repository.disk import LoadError, RepositoryError, fingerprint, read, scan
from tests.serving import packages


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return packages.copy(tmp_path)


def refusal(models: Path, name: str = "house_price", version: int = 1) -> tuple[str, str]:
    with pytest.raises(LoadError) as caught:
        read(models, models / name / str(version), name, version)
    return caught.value.outcome, str(caught.value)


# Links: anywhere within the models folder, and nowhere else.


def test_links_that_lead_outside_are_refused(tmp_path: Path) -> None:
    models, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    outside = packages.copy(elsewhere)
    inside = packages.copy(models)
    for file in ("model.json", "model.onnx"):
        (inside / file).rename(inside / "kept")
        (inside / file).symlink_to(outside / file)
        expected = f"{inside / file} leads to {outside / file}, outside of the models folder {models}"
        assert refusal(models) == ("load_error", expected)
        (inside / file).unlink()
        (inside / "kept").rename(inside / file)
    read(models, inside, "house_price", 1)
    (models / "house_price" / "2").symlink_to(outside)
    expected = f"{models}/house_price/2 leads to {outside}, outside of the models folder {models}"
    assert refusal(models, version=2) == ("load_error", expected)
    (models / "topic").symlink_to(elsewhere / "house_price")
    assert scan(models)["topic"] == {1: models / "topic" / "1"}
    assert "outside of the models folder" in refusal(models, "topic")[1]


def test_a_folder_beside_of_a_similar_name_is_outside(tmp_path: Path) -> None:
    models = tmp_path / "models"
    inside, outside = packages.copy(models), packages.copy(tmp_path / "models-secret")
    (inside / "model.onnx").unlink()
    (inside / "model.onnx").symlink_to(outside / "model.onnx")
    assert "outside of the models folder" in refusal(models)[1]


def test_a_link_that_is_switched_between_the_look_and_the_reading_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    inside, outside = packages.copy(models), packages.copy(tmp_path / "elsewhere")
    good, model = models / "kept", inside / "model.onnx"
    model.rename(good)
    model.symlink_to(good)
    read(models, inside, "house_price", 1)
    real = os.open

    def switching(path: Any, *arguments: Any, **options: Any) -> int:
        if path != "model.onnx":
            return real(path, *arguments, **options)
        model.unlink()
        model.symlink_to(outside / "model.onnx")
        try:
            return real(path, *arguments, **options)
        finally:
            model.unlink()
            model.symlink_to(good)

    monkeypatch.setattr(os, "open", switching)
    assert "outside of the models folder" in refusal(models)[1]


def test_a_loop_of_links_is_refused(tmp_path: Path, folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("model.onnx")
    assert refusal(tmp_path) == ("load_error", f"{folder / 'model.onnx'}: Too many levels of symbolic links")


def test_no_descriptor_is_left_open(tmp_path: Path, folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    read(tmp_path, folder, "house_price", 1)
    (folder / "model.onnx").unlink()
    refusal(tmp_path)
    (folder / "model.onnx").symlink_to("/dev/zero")
    refusal(tmp_path)
    scan(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def as_volume(folder: Path, files: Path, stamp: str) -> None:
    """Put files there as Kubernetes does: in a folder of their own, behind a link that is switched at once."""
    shutil.copytree(files, folder / f"..{stamp}")
    (folder / "..data_tmp").symlink_to(f"..{stamp}")
    (folder / "..data_tmp").rename(folder / "..data")
    for entry in (folder / "..data").iterdir():
        if not (folder / entry.name).is_symlink():
            (folder / entry.name).symlink_to(f"..data/{entry.name}")


def test_a_volume_of_kubernetes_works_and_so_does_its_switch(tmp_path: Path) -> None:
    first, second = packages.copy(tmp_path / "first"), packages.copy(tmp_path / "second")
    packages.edit(second, lambda manifest: manifest["metrics"].update(better=1))
    models = tmp_path / "models"
    folder = models / "house_price" / "1"
    folder.mkdir(parents=True)
    as_volume(folder, first, "2026_01_01")
    assert scan(models) == {"house_price": {1: folder}}
    digest, mark = read(models, folder, "house_price", 1).digest, fingerprint(folder)
    as_volume(folder, second, "2026_01_02")
    assert read(models, folder, "house_price", 1).digest != digest
    assert fingerprint(folder) != mark
    shutil.rmtree(folder / "..2026_01_01")
    read(models, folder, "house_price", 1)


def test_a_volume_of_kubernetes_may_hold_the_whole_tree(tmp_path: Path) -> None:
    packages.copy(tmp_path / "first")
    models = tmp_path / "models"
    models.mkdir()
    as_volume(models, tmp_path / "first", "2026_01_01")
    assert scan(models) == {"house_price": {1: models / "house_price" / "1"}}
    read(models, models / "house_price" / "1", "house_price", 1)


def test_the_models_folder_may_be_a_link_that_git_sync_switches(tmp_path: Path) -> None:
    trees = tmp_path / ".worktrees"
    packages.copy(trees / "abc")
    packages.copy(trees / "def", version=2)
    current = tmp_path / "current"
    current.symlink_to(".worktrees/abc")
    folder = current / "house_price" / "1"
    assert scan(current) == {"house_price": {1: folder}}
    read(current, folder, "house_price", 1)
    (trees / "abc" / "house_price" / "3").symlink_to("1")
    assert refusal(current, version=3)[1].startswith("model.json is of house_price version 1, but lies in")
    (trees / "abc" / "house_price" / "4").symlink_to(trees / "def" / "house_price" / "2")
    assert "outside of the models folder" in refusal(current, version=4)[1], "it is another tree's"
    (tmp_path / "new").symlink_to(".worktrees/def")
    (tmp_path / "new").rename(current)
    assert scan(current) == {"house_price": {2: current / "house_price" / "2"}}
    read(current, current / "house_price" / "2", "house_price", 2)


def test_versions_may_be_links_within_the_models_folder(tmp_path: Path) -> None:
    packages.copy(tmp_path / ".store")
    store = tmp_path / ".store" / "house_price" / "1"
    link = tmp_path / "house_price" / "1"
    link.parent.mkdir()
    for target in ("../.store/house_price/1", store):
        link.symlink_to(target)
        assert scan(tmp_path) == {"house_price": {1: link}}
        assert read(tmp_path, link, "house_price", 1).manifest.version == 1
        link.unlink()


# The folder of one model, as KServe mounts it.


def test_the_folder_may_itself_be_the_package(tmp_path: Path) -> None:
    models = tmp_path / "mnt"
    packages.copy(tmp_path, version=7).rename(models)
    assert scan(models) == {"house_price": {7: models}}
    assert read(models, models, "house_price", 7).manifest.version == 7
    mark = fingerprint(models)
    (models / "model.onnx").write_bytes(b"")
    assert fingerprint(models) != mark


def test_the_folder_may_be_a_volume_that_is_the_package(tmp_path: Path) -> None:
    models = tmp_path / "mnt"
    models.mkdir()
    as_volume(models, packages.copy(tmp_path), "2026_01_01")
    assert scan(models) == {"house_price": {1: models}}
    read(models, models, "house_price", 1)


def test_the_folder_may_hold_the_versions_of_one_model(tmp_path: Path) -> None:
    for version in (10, 2):
        packages.copy(tmp_path, version=version)
    models = tmp_path / "house_price"
    (models / "3").mkdir()
    assert scan(models) == {"house_price": {2: models / "2", 10: models / "10"}}, "3 may be anything"
    (models / "3" / "model.json").write_text("{")
    assert list(scan(models)["house_price"]) == [2, 3, 10], "it is reported with its neighbours"
    assert read(models, models / "10", "house_price", 10).manifest.version == 10
    with pytest.raises(LoadError, match="truncated"):
        read(models, models / "3", "house_price", 3)


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "../x", "version": 1}', '{"name": "a", "version": 0}'])
def test_a_folder_of_one_model_that_does_not_say_which_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.json").write_text(content)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.json").write_text(content)
    with pytest.raises(RepositoryError, match="no model package"):
        scan(tmp_path)


def test_the_name_of_a_model_is_not_read_from_outside(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "model.json").symlink_to(packages.copy(tmp_path) / "model.json")
    with pytest.raises(RepositoryError, match="no model package"):
        scan(models)


@pytest.mark.parametrize("hidden", [".git", "..data", "..2026_01_01", ".tmp-1"])
def test_hidden_entries_are_no_models_and_no_versions(tmp_path: Path, folder: Path, hidden: str) -> None:
    shutil.copytree(folder.parent, tmp_path / hidden)
    shutil.copytree(folder, folder.parent / hidden)
    assert scan(tmp_path) == {"house_price": {1: folder}}
