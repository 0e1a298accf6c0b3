"""The READMEs of the examples: none is left without a test that follows it, and their links lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.examples.page import PAGES, blocks

FOLLOWED = {"hotels", "digits"}
"""By test_hotels.py and test_digits.py, block by block."""


def test_every_page_is_followed() -> None:
    assert {page.parent.name for page in PAGES} == FOLLOWED


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_every_block_says_what_it_is(page: Path) -> None:
    assert {block.kind for block in blocks(page)} <= {"sh data", ""}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8"))
    assert links
    for link in links:
        assert "://" in link or (page.parent / link).exists(), link
