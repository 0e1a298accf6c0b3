"""The documentation is true: every command and example in it is run."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.end_to_end.server import MODELS, ROOT, ServerProcess

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {"sh", "sh data", "sh notest", "python", "proto", "toml", "json", "yaml", ""}


class Block(NamedTuple):
    page: Path
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, match[1].strip(), match[2]))
    return found


BLOCKS = blocks()


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with ServerProcess(models=MODELS) as server:
        server.wait_ready()
        yield {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TRIPTYCH_ADDRESS": server.address,
            "TRIPTYCH_HTTP": server.http,
            "TRIPTYCH_DATA": os.environ.get("TRIPTYCH_DATA") or str(ROOT / "../shared/data"),
        }


def run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_block_says_what_it_is() -> None:
    assert [block for block in BLOCKS if block.kind not in KINDS] == []


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind in ("sh", "sh data")], ids=str)
def test_commands_run(block: Block, environment: dict[str, str]) -> None:
    if block.kind == "sh data" and not (Path(environment["TRIPTYCH_DATA"]) / "imdb.npz").exists():
        pytest.skip("the data sets are not here: set TRIPTYCH_DATA to their folder")
    if "kubectl" in block.text and not any(
        (Path(folder) / "kubectl").exists() for folder in environment["PATH"].split(":")
    ):
        pytest.skip("kubectl is not here")
    # The verbs of make are the tests' own caller: of them it is shown that they are there.
    script = re.sub(r"^make ", "make --dry-run ", block.text, flags=re.MULTILINE)
    run(["bash", "-euo", "pipefail", "-c", script], environment)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.kind == "python"], ids=str)
def test_examples_run(block: Block, environment: dict[str, str]) -> None:
    run([sys.executable, "-W", "error", "-c", block.text], environment)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link
