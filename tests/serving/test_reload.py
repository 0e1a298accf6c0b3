"""Files that change: taken when they have settled, refused where they can't be used, however they are swapped."""

import logging
import os
import threading
from pathlib import Path

import pytest

from serving.reload import Looking, Reloaded


class Watched:
    def __init__(self, *files: Path) -> None:
        self.told: list[tuple[str, bool]] = []
        self.files = files
        self.reloaded = Reloaded(
            "words", [str(file) for file in files], self.make, lambda kind, *, loaded: self.told.append((kind, loaded))
        )

    def make(self) -> str:
        text = " ".join(file.read_text() for file in self.files)
        if "bad" in text:
            raise ValueError(f"not {len(text)} good words")
        return text

    def look(self, times: int = 2) -> str:
        for _ in range(times):
            self.reloaded.look()
        return self.reloaded.made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_text("one")
    return file


def test_a_change_is_taken_at_the_second_look_that_finds_it(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watched = Watched(file)
    assert watched.look(5) == "one"
    file.write_text("two")
    assert watched.look(1) == "one"
    file.write_text("three")
    assert watched.look(1) == "one", "it still changes"
    assert watched.look(1) == "three"
    assert watched.told == [("words", True)]
    assert [record.message for record in caplog.records] == ["words reloaded"]


def test_what_can_not_be_used_is_refused_once_and_the_old_goes_on(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(file)
    file.write_text("bad")
    assert watched.look(5) == "one"
    assert watched.told == [("words", False)]
    [record] = caplog.records
    assert (record.levelname, record.message) == ("ERROR", "words not reloaded")
    assert record.__dict__["reason"] == "not 3 good words"
    file.write_text("good")
    assert watched.look() == "good"
    assert watched.told == [("words", False), ("words", True)]


@pytest.mark.parametrize("meanwhile", ["bad", "other", None])
def test_what_changes_while_it_is_read_is_read_again(file: Path, meanwhile: str | None) -> None:
    """Though it may then be what it was before, so that no look sees a change."""

    class Hasty(Watched):
        def make(self) -> str:
            if not self.told and file.read_text() == "two":
                if meanwhile is None:
                    file.unlink()
                else:
                    file.write_text(meanwhile)
            return super().make()

    watched = Hasty(file)
    file.write_text("two")
    assert watched.look() == "one"
    assert not watched.told, "neither the one nor the other"
    watched.told.append(("it is quiet now", True))
    file.write_text("two")
    assert watched.look() == "two"


def test_a_file_of_the_same_date_and_size_is_still_another(file: Path) -> None:
    watched = Watched(file)
    before = file.stat()
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert watched.look() == "two"


def test_a_secret_is_swapped_through_links_as_kubernetes_does_it(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    data = tmp_path / "..data"
    data.symlink_to("first")
    (tmp_path / "file").symlink_to("..data/file")
    watched = Watched(tmp_path / "file")
    assert watched.look() == "first"
    (tmp_path / "..data_tmp").symlink_to("second")
    os.replace(tmp_path / "..data_tmp", data)
    assert watched.look() == "second"


def test_a_file_that_is_taken_away_is_missed_until_it_is_back(file: Path) -> None:
    watched = Watched(file)

    def unreadable() -> str:
        raise ValueError("gone")

    file.unlink()
    make, watched.reloaded._make = watched.reloaded._make, unreadable
    assert watched.look() == "one"
    watched.reloaded._make = make
    file.write_text("one")
    assert watched.look() == "one"
    assert watched.told == [("words", False), ("words", True)]


def test_any_of_several_files_counts(tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    left.write_text("a")
    right.write_text("b")
    watched = Watched(left, right)
    right.write_text("c")
    assert watched.look() == "a c"


def test_the_first_time_must_work(file: Path) -> None:
    file.write_text("bad")
    with pytest.raises(ValueError, match="not 3 good words"):
        Watched(file)


def test_a_thread_looks_until_it_is_stopped(file: Path) -> None:
    made = threading.Event()
    watched = Watched(file)
    looking = Looking([Reloaded("words", [str(file)], watched.make, lambda kind, *, loaded: made.set())], 0.001)
    looking.start()
    file.write_text("two")
    assert made.wait(30)
    looking.stop()
    [thread] = [thread for thread in threading.enumerate() if thread.name == "reload"] or [None]
    if thread is not None:
        thread.join(30)
    Looking([]).start()
    assert not [thread for thread in threading.enumerate() if thread.name == "reload"]
