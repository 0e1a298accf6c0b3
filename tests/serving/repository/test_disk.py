"""Packages on disk: what is found, and every way in which a package can be damaged before it is loaded."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.package.manifest import digest
from serving.repository.disk import LoadError, RepositoryError, fingerprint, read, scan
from tests.serving import packages


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return packages.copy(tmp_path)


def refusal(models: Path, name: str = "house_price", version: int = 1) -> tuple[str, str]:
    with pytest.raises(LoadError) as caught:
        read(models, models / name / str(version), name, version)
    return caught.value.outcome, str(caught.value)


def test_a_shipped_package_is_read_whole() -> None:
    for name, version in packages.EVERY:
        folder = packages.SHIPPED / name / str(version)
        package = read(packages.SHIPPED, folder, name, version)
        assert (package.manifest.name, package.manifest.version) == (name, version)
        assert package.model == (folder / "model.onnx").read_bytes()


def test_versions_are_found_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name, version in (("b", "10"), ("b", "9"), ("b", "1"), ("a", "2")):
        (tmp_path / name / version).mkdir(parents=True)
    found = scan(tmp_path)
    assert found == {"a": {2: tmp_path / "a/2"}, "b": {n: tmp_path / f"b/{n}" for n in (1, 9, 10)}}
    assert [(name, list(versions)) for name, versions in found.items()] == [("a", [2]), ("b", [1, 9, 10])]


def test_what_is_no_package_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a" / "1").mkdir(parents=True)
    for other in ("a/01", "a/0", "a/-1", "a/1.tmp", "a/v2", "a/.2", "a/٣", "A/1", "1a/1", ".git/1", "a b/1", "empty"):
        (tmp_path / other).mkdir(parents=True)
    (tmp_path / "a" / "3").write_text("a file")
    (tmp_path / "notes").write_text("a file")
    assert scan(tmp_path) == {"a": {1: tmp_path / "a" / "1"}}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing", "does not exist"),
        ("file", "does not exist"),
        ("empty", "no model package in .*: expected <name>/<version>/model.json"),
    ],
)
def test_a_folder_that_holds_nothing_is_an_error(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty" / "sentiment").mkdir(parents=True)
    with pytest.raises(RepositoryError, match=message):
        scan(tmp_path / path)


@pytest.mark.parametrize("position", [0, 1000, -1])
def test_one_changed_byte_is_a_wrong_checksum(tmp_path: Path, folder: Path, position: int) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[position] ^= 1
    (folder / "model.onnx").write_bytes(data)
    assert refusal(tmp_path) == ("checksum", "the SHA-256 of model.onnx is not the one in its manifest")


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b""])
def test_a_changed_length_is_a_wrong_checksum(tmp_path: Path, folder: Path, change: Callable[[bytes], bytes]) -> None:
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(change(data))
    outcome, message = refusal(tmp_path)
    assert outcome == "checksum"
    assert message.startswith(f"model.onnx has {len(change(data))} bytes")
    assert str(len(data)) in message


@pytest.mark.parametrize("file", ["model.onnx", "model.json"])
def test_a_missing_file_is_named(tmp_path: Path, folder: Path, file: str) -> None:
    (folder / file).unlink()
    assert refusal(tmp_path) == ("load_error", f"{folder / file}: No such file or directory")


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path, folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    assert refusal(tmp_path) == ("load_error", "model.onnx is not a regular file")


@pytest.mark.parametrize("file", ["model.onnx", "model.json"])
def test_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path: Path, folder: Path, file: str) -> None:
    (folder / file).unlink()
    os.mkfifo(folder / file)
    assert refusal(tmp_path) == ("load_error", f"{file} is not a regular file")
    (folder / file).unlink()
    (folder / file).symlink_to("/dev/zero")
    expected = f"{folder / file} leads to /dev/zero, outside of the models folder {tmp_path}"
    assert refusal(tmp_path) == ("load_error", expected)


@pytest.mark.parametrize("file", ["model.onnx", "model.json"])
def test_a_huge_file_is_refused_without_being_read(tmp_path: Path, folder: Path, file: str) -> None:
    os.truncate(folder / file, 200 * 10**9)
    outcome, message = refusal(tmp_path)
    assert outcome == "checksum"
    assert message.startswith(f"{file} has 200000000000 bytes, more than")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "model.json: Input data was truncated"),
        (b"version: 1", "model.json: JSON is malformed"),
        (b"[1, 2]", "model.json: Expected `object`, got `array`"),
        (b'{"name": "\xff"}', "model.json: 'utf-8' codec can't decode"),
        (b"{", "model.json: Input data was truncated"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, folder: Path, content: bytes, message: str) -> None:
    (folder / "model.json").write_bytes(content)
    outcome, found = refusal(tmp_path)
    assert outcome == "load_error"
    assert found.startswith(message)


def test_a_manifest_nested_without_end_is_refused(tmp_path: Path, folder: Path) -> None:
    text = (folder / "model.json").read_text()
    deep = '"metrics": {"x": ' + "[" * 100_000 + "]" * 100_000 + ", "
    (folder / "model.json").write_text(text.replace('"metrics": {', deep, 1))
    outcome, message = refusal(tmp_path)
    assert outcome == "load_error"
    assert "recursion" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, "model.json: Object contains unknown field `surprise`"),
        ({"format": 2}, "model.json: Invalid enum value 2 - at `$.format`"),
        (
            {"name": "topic"},
            "model.json is of topic version 1, but lies in house_price/1: "
            "rename the folder, or change name and version there",
        ),
        (
            {"version": 2},
            "model.json is of house_price version 2, but lies in house_price/1: "
            "rename the folder, or change name and version there",
        ),
        ({"version": "1"}, "model.json: Expected `int`, got `str` - at `$.version`"),
        ({"files": {}}, "model.json: files: model.onnx is missing"),
    ],
)
def test_a_manifest_at_odds_with_its_package_is_refused(
    tmp_path: Path, folder: Path, change: dict[str, Any], message: str
) -> None:
    packages.edit(folder, lambda manifest: manifest.update(change))
    assert refusal(tmp_path) == ("load_error", message)


@pytest.mark.parametrize("file", ["../secret", "sub/secret", "/etc/hostname", ".", "./secret", "secret/"])
def test_no_file_outside_the_package_is_read(tmp_path: Path, folder: Path, file: str) -> None:
    (folder.parent / "secret").write_text("secret")
    found = digest(folder.parent / "secret")
    packages.edit(
        folder, lambda manifest: manifest["files"].update({file: {"bytes": found.bytes, "sha256": found.sha256}})
    )
    assert refusal(tmp_path) == ("load_error", f"model.json: files: {file!r} is not a plain file name")


@pytest.mark.parametrize("file", ["", "..", "a\0b", "x" * 300])
def test_a_file_name_that_no_file_can_have_is_refused(tmp_path: Path, folder: Path, file: str) -> None:
    packages.edit(folder, lambda manifest: manifest["files"].update({file: {"bytes": 1, "sha256": "0" * 64}}))
    assert refusal(tmp_path)[0] == "load_error"


def test_every_file_that_the_manifest_names_is_verified(tmp_path: Path, folder: Path) -> None:
    words = folder / "words.txt"
    words.write_text("earn")
    found = digest(words)
    packages.edit(
        folder, lambda manifest: manifest["files"].update({"words.txt": {"bytes": found.bytes, "sha256": found.sha256}})
    )
    assert read(tmp_path, folder, "house_price", 1).model == (folder / "model.onnx").read_bytes()
    words.write_text("earm")
    assert refusal(tmp_path) == ("checksum", "the SHA-256 of words.txt is not the one in its manifest")


def test_files_for_people_are_outside_of_every_checksum(tmp_path: Path, folder: Path) -> None:
    (folder / "run.json").write_text(json.dumps({"seconds": -1}))
    assert read(tmp_path, folder, "house_price", 1).manifest.version == 1


def test_the_digest_is_that_of_the_manifest(tmp_path: Path, folder: Path) -> None:
    first = read(tmp_path, folder, "house_price", 1).digest
    assert first == hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()
    (folder / "run.json").write_text("{}")
    assert read(tmp_path, folder, "house_price", 1).digest == first
    packages.edit(folder, lambda manifest: manifest["metrics"].update(more=1))
    assert read(tmp_path, folder, "house_price", 1).digest != first


def test_a_package_larger_than_any_model_is_refused_without_being_read(tmp_path: Path, folder: Path) -> None:
    os.truncate(folder / "model.onnx", 3 * 1024**3)
    packages.edit(folder, lambda manifest: manifest["files"]["model.onnx"].update(bytes=3 * 1024**3))
    assert refusal(tmp_path) == ("load_error", "model.json: files have 3221225472 bytes, more than 2147483648")


def test_many_names_of_one_large_file_are_refused_without_being_read(tmp_path: Path, folder: Path) -> None:
    (folder / "large").touch()
    os.truncate(folder / "large", 10**9)
    many = {f"l{i}": {"bytes": 10**9, "sha256": "0" * 64} for i in range(1000)}
    for name in many:
        (folder / name).symlink_to("large")
    packages.edit(folder, lambda manifest: manifest["files"].update(many))
    assert "more than 2147483648" in refusal(tmp_path)[1]


def test_a_half_copied_folder_is_refused_until_it_is_whole(tmp_path: Path, folder: Path) -> None:
    whole = {file: (folder / file).read_bytes() for file in ("model.json", "model.onnx")}
    for file in whole:
        (folder / file).unlink()
    assert scan(tmp_path) == {"house_price": {1: folder}}
    assert refusal(tmp_path)[0] == "load_error"
    for file, data in whole.items():
        for part in (0, len(data) // 2, len(data) - 2):
            (folder / file).write_bytes(data[:part])
            assert refusal(tmp_path)[0] in ("load_error", "checksum")
        (folder / file).write_bytes(data)
    read(tmp_path, folder, "house_price", 1)


# Fingerprints.


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "model.onnx").write_bytes(b""),
        lambda folder: os.utime(folder / "model.onnx", ns=(0, 1)),
        lambda folder: (folder / "model.json").unlink(),
        lambda folder: (folder / "words.txt").write_text(""),
        lambda folder: (folder / "model.json").rename(folder / "model.jso"),
        lambda folder: replace_alike(folder / "model.json"),
        lambda folder: link_to_copy(folder / "model.json"),
        shutil.rmtree,
    ],
)
def test_a_fingerprint_changes_with_the_package(folder: Path, change: Callable[[Path], object]) -> None:
    mark = fingerprint(folder)
    assert hash(mark) == hash(fingerprint(folder))
    change(folder)
    assert fingerprint(folder) != mark


def replace_alike(path: Path) -> None:
    """Another file of the same size and time."""
    status = path.stat()
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    copy.rename(path)


def link_to_copy(path: Path) -> None:
    path.rename(path.with_name(".kept"))
    path.symlink_to(".kept")


def test_a_fingerprint_does_not_change_by_itself_or_by_what_is_hidden(folder: Path) -> None:
    mark = fingerprint(folder)
    (folder / ".tmp").write_text("")
    (folder / "model.onnx").read_bytes()
    assert fingerprint(folder) == mark


def test_a_fingerprint_of_anything_is_one(tmp_path: Path, folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    (folder / "gone").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    for path in (folder, tmp_path / "missing", folder / "model.json", folder / "loop"):
        assert hash(fingerprint(path)) == hash(fingerprint(path))


def test_a_model_that_can_not_be_read_keeps_no_other_from_being_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages.copy(tmp_path, "topic")
    packages.copy(tmp_path)
    iterdir = Path.iterdir

    def closed(folder: Path) -> Iterator[Path]:
        if folder.name == "topic":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", closed)
    found = scan(tmp_path)
    assert found.keys() == {"house_price"}
    assert found.problems == {"topic": f"{tmp_path / 'topic'} can't be read: Permission denied"}
