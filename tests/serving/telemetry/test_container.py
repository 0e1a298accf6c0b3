"""The memory limit of both kinds of control groups, and of none."""

from pathlib import Path

import pytest

from serving.telemetry.container import memory_limit

GIB = 2**30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def limit(root: Path, own: str, files: dict[str, str]) -> int | None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    told = root.parent / "own"
    told.write_text(own)
    return memory_limit(root, told)


def test_the_least_limit_on_the_way_to_the_root_counts(root: Path) -> None:
    files = {"memory.max": "max", "pods/memory.max": str(GIB), "pods/a/memory.max": "max"}
    assert limit(root, "0::/pods/a\n", files) == GIB
    assert limit(root, "0::/pods/a\n", {"pods/a/memory.max": str(GIB // 2)}) == GIB // 2


def test_a_container_that_sees_its_own_group_as_the_root(root: Path) -> None:
    assert limit(root, "0::/kubepods/pod1/abc\n", {"memory.max": str(GIB)}) == GIB


def test_version_1(root: Path) -> None:
    own = "5:cpu,cpuacct:/a\n4:memory:/a\n1:name=systemd:/a\n0::/\n"
    files = {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/a/memory.limit_in_bytes": str(GIB)}
    assert limit(root, own, files) == GIB
    assert limit(root, own, {"memory/a/memory.limit_in_bytes": "9223372036854771712"}) is None


@pytest.mark.parametrize("own", ["", "0::/\n", "4:memory:/\n0::/\n"])
def test_where_there_are_no_groups_there_is_no_limit(root: Path, own: str) -> None:
    root.mkdir()
    assert limit(root, own, {}) is None
    assert memory_limit(root, root / "absent") is None
