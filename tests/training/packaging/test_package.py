"""A package is on disk whole or not at all."""

import os
from pathlib import Path
from typing import Any

import pytest

from training.errors import TrainingError
from training.packaging.package import check_writable, target, versions, write

FILES = {"model.onnx": b"graph", "model.json": b"{}"}


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_write(tmp_path: Path) -> None:
    write(tmp_path / "models" / "topic" / "1", FILES, replace=True)
    assert tree(tmp_path / "models" / "topic") == {"1": None, "1/model.onnx": b"graph", "1/model.json": b"{}"}
    assert (tmp_path / "models" / "topic" / "1").stat().st_mode & 0o444 == 0o444  # others may serve it


def test_replace(tmp_path: Path) -> None:
    write(tmp_path / "1", {**FILES, "old.txt": b""}, replace=True)
    write(tmp_path / "1", FILES | {"model.onnx": b"new"}, replace=True)
    assert tree(tmp_path) == {"1": None, "1/model.onnx": b"new", "1/model.json": b"{}"}


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("function", ["fsync", "rename"])
def test_interrupted_at_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, call: int, exists: bool
) -> None:
    folder = tmp_path / "models" / "topic" / "1"
    if exists:
        write(folder, FILES, replace=True)
    before = tree(tmp_path)
    owner: Any = os if function == "fsync" else Path
    real, calls = getattr(owner, function), []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(owner, function, interrupted)
    try:
        write(folder, {name: b"new " + content for name, content in FILES.items()}, replace=True)
    except KeyboardInterrupt:
        assert tree(tmp_path) == before
    else:
        assert len(calls) < call  # so few such steps are taken


def test_next_version(tmp_path: Path) -> None:
    assert target(tmp_path, "topic", None, force=False) == tmp_path / "topic" / "1"
    for entry in ("2", "10", "notes", ".11-temporary"):
        (tmp_path / "topic" / entry).mkdir(parents=True)
    assert target(tmp_path, "topic", None, force=False) == tmp_path / "topic" / "11"


def test_an_existing_version_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "topic" / "1", FILES, replace=True)
    with pytest.raises(TrainingError, match=r"1 exists\. Leave out --version .* --force"):
        target(tmp_path, "topic", 1, force=False)
    assert target(tmp_path, "topic", 1, force=True) == tmp_path / "topic" / "1"


def test_what_somebody_else_published_meanwhile_is_left_alone(tmp_path: Path) -> None:
    folder = target(tmp_path, "model", None, force=False)
    write(folder, {"a": b"theirs"}, replace=False)
    with pytest.raises(TrainingError, match="was published by somebody else meanwhile"):
        write(folder, {"a": b"ours"}, replace=False)
    assert (folder / "a").read_bytes() == b"theirs"
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_what_is_in_the_way_is_named_before_the_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder")
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="file is not a folder"):
        check_writable(tmp_path / "file" / "models")
    with pytest.raises(TrainingError, match="can't be written: "):
        write(tmp_path / "file" / "model" / "1", {"a": b""}, replace=True)


def test_only_what_a_server_takes_for_versions_counts(tmp_path: Path) -> None:
    for name in ("1", "02", "x", "٣", ".3"):
        (tmp_path / "model" / name).mkdir(parents=True)
    (tmp_path / "model" / "7").write_text("a file")
    assert versions(tmp_path / "model") == [1]
    with pytest.raises(TrainingError, match="1 to 18 digits"):
        target(tmp_path, "model", 10**18, force=False)
