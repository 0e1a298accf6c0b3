"""serving.toml: which versions of a model are served, and by what names."""

import re
from pathlib import Path

import pytest

from serving.repository import policy
from serving.repository.policy import FILE, MAX_BYTES, Policy, PolicyError, Shadow


def write(folder: Path, text: str) -> Path:
    (folder / FILE).write_text(text)
    return folder


def test_without_a_file_the_default_holds(tmp_path: Path) -> None:
    assert policy.read(tmp_path, "latest:2") == Policy(versions="latest:2")
    assert policy.read(write(tmp_path, ""), "all") == Policy(versions="all")


def test_a_file_says_it_all(tmp_path: Path) -> None:
    text = 'versions = [1, 3]\n[labels]\nstable = 1\ncanary = 4\n[shadow]\ncandidate = "canary"\nfraction = 0.25\n'
    found = policy.read(write(tmp_path, text), "all")
    assert found == Policy((1, 3), {"stable": 1, "canary": 4}, Shadow("canary", 0.25))
    assert found.candidate == 4
    assert found.pinned == {1, 4}
    assert found.latest is None


def test_the_file_in_the_operators_guide_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "operator.md").read_text("utf-8")
    [text] = [block for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[shadow]" in block]
    found = policy.read(write(tmp_path, text), "all")
    assert found == Policy("latest:2", {"stable": 1, "canary": 2}, Shadow("canary", 0.1))


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [("all", [5, 4, 3, 2, 1]), ("latest:2", [5, 4, 3, 2, 1]), ((1, 3, 9), [4, 3, 1])],
)
def test_versions_are_chosen_highest_first(versions: str | tuple[int, ...], chosen: list[int]) -> None:
    assert Policy(versions, {"canary": 4}).choose([1, 5, 2, 4, 3]) == chosen


def test_latest_says_how_many() -> None:
    assert Policy("latest:12").latest == 12
    assert Policy("all").latest is None


def test_a_candidate_may_be_a_number() -> None:
    found = Policy(shadow=Shadow(7, 1.0))
    assert (found.candidate, found.pinned) == (7, {7})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("versions", "serving.toml: Expected '='"),
        ('versions = "newest"', "$.versions"),
        ('versions = "latest:0"', "$.versions"),
        ("versions = [0]", "$.versions[0]"),
        ("[labels]\nStable = 1", "in `$.labels`"),
        ("[labels]\nstable = 0", "$.labels"),
        ("[labels]\nstable = '1'", "$.labels"),
        ("[shadow]\ncandidate = 2\nfraction = 0.0", "$.shadow.fraction"),
        ("[shadow]\ncandidate = 2\nfraction = 1.5", "$.shadow.fraction"),
        ("[shadow]\ncandidate = 'canary'\nfraction = 1.0", "there is no label 'canary'"),
        ("[shadow]\ncandidate = 2", "fraction"),
        ("version = 2", "unknown field `version`"),
        ("\0", "serving.toml: "),
        ("#" * (MAX_BYTES + 1), "more than 65536 bytes"),
        ("a=" + "[" * 10_000, "serving.toml: "),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        policy.read(write(tmp_path, text), "all")
    assert problem in str(caught.value)


def test_a_file_that_is_not_text_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff")
    with pytest.raises(PolicyError):
        policy.read(tmp_path, "all")
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    with pytest.raises(PolicyError, match="Is a directory"):
        policy.read(tmp_path, "all")


def test_the_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    none = policy.fingerprint(tmp_path)
    one = policy.fingerprint(write(tmp_path, "versions = 'all'"))
    two = policy.fingerprint(write(tmp_path, "versions = 'latest:1'"))
    assert len({none, one, two}) == 3
    assert policy.fingerprint(tmp_path) == two
