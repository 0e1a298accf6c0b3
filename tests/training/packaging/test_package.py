"""A package is on disk whole or not at all."""

import os
from pathlib import Path
from typing import Any

import pytest

from training.errors import TrainingError
from training.packaging.package import target, write

FILES = {"model.onnx": b"graph", "model.json": b"{}"}


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_write(tmp_path: Path) -> None:
    write(tmp_path / "models" / "topic" / "1", FILES)
    assert tree(tmp_path / "models" / "topic") == {"1": None, "1/model.onnx": b"graph", "1/model.json": b"{}"}
    assert (tmp_path / "models" / "topic" / "1").stat().st_mode & 0o444 == 0o444  # others may serve it


def test_replace(tmp_path: Path) -> None:
    write(tmp_path / "1", {**FILES, "old.txt": b""})
    write(tmp_path / "1", FILES | {"model.onnx": b"new"})
    assert tree(tmp_path) == {"1": None, "1/model.onnx": b"new", "1/model.json": b"{}"}


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("function", ["fsync", "rename"])
def test_interrupted_at_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, call: int, exists: bool
) -> None:
    folder = tmp_path / "models" / "topic" / "1"
    if exists:
        write(folder, FILES)
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
        write(folder, {name: b"new " + content for name, content in FILES.items()})
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
    write(tmp_path / "topic" / "1", FILES)
    with pytest.raises(TrainingError, match=r"1 exists\. Leave out --version .* --force"):
        target(tmp_path, "topic", 1, force=False)
    assert target(tmp_path, "topic", 1, force=True) == tmp_path / "topic" / "1"
