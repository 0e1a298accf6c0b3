import argparse
import dataclasses
import functools
import html as entities
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.training.report.conftest import RECORD, Predicted, binary, multiclass, regression
from training.commands import report as command
from training.commands.common import parents
from training.errors import TrainingError
from training.report.content import Content, content
from training.report.render import html, literal, markdown, write
from training.runs import Mistake, Record
from training.runs import write as write_run

HOSTILE = "</td></svg><script>alert(1)</script><img src=x onerror=alert(1)> $\\frac{ --> &amp; |a|`b` \x00 日本 \u202e"


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the page's text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_kind_of_run_has_a_page(run: tuple[Record, Predicted], tmp_path: Path) -> None:
    record, predicted = run
    write_run(tmp_path, record, *predicted)
    page, beside = write(tmp_path)
    assert (page, beside) == (tmp_path / "report.html", tmp_path / "report.md")
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    outcome = (
        {"scatter.svg", "bands.svg", "residuals.svg"} if not record.labels else {"calibration.svg", "confusion.svg"}
    )
    assert drawn == {"curve-loss.svg", f"curve-{record.metric}.svg"} | outcome
    assert set(re.findall(r"\(figures/(.*?)\)", beside.read_text())) == drawn
    assert page.read_text().count("<svg ") == len(drawn)
    for text in (Elements(page.read_text()).text, beside.read_text()):
        for told in ("reviews/4", "not significantly worse than version 3", "3 test samples are also in training"):
            assert told in text
        for told in ("sha256:abc123", "3.15.1", "16, 16", "cosine", "2.5 min (151 s)", "1.50 GiB"):
            assert told in text
        assert record.mistakes[0].text in text


@pytest.mark.parametrize("kind", [binary, regression])
def test_an_experiment_has_a_page_without_what_follows_from_the_test_set(
    kind: Callable[[], tuple[Record, Predicted]],
) -> None:
    record = dataclasses.replace(
        kind()[0], test={}, baselines={}, book=None, mistakes=[], duplicates="", package="", gate=""
    )
    made = content(record, None)
    assert [picture.name for picture in made.pictures] == ["curve-loss", f"curve-{record.metric}"]
    assert made.headline.title.endswith(", validation")
    for text in (html(made), markdown(made)):
        assert "no predictions of the test set" in text
        for absent in ("Worst mistakes", "Duplicates", "Published", "Publishing gate", "is best of"):
            assert absent not in text


def test_a_run_that_says_nothing_has_a_page() -> None:
    made = content(dataclasses.replace(RECORD, epochs=[], test={}, validation={}, baselines={}, book=None), None)
    assert "None were measured" in html(made)
    assert "None were measured" in markdown(made)


def test_predictions_that_are_not_numbers_leave_the_curves() -> None:
    record, (predictions, targets) = binary()
    made = content(record, (np.full_like(predictions, np.nan), targets))
    assert [picture.name for picture in made.pictures] == ["curve-loss", "curve-accuracy"]
    assert "diverged" in Elements(html(made)).text


@functools.cache
def hostile() -> tuple[Record, Predicted]:
    record, predicted = multiclass(10)
    return dataclasses.replace(
        record,
        model=HOSTILE,
        recipe=HOSTILE,
        labels=[HOSTILE, *record.labels[1:]],
        protocol=HOSTILE,
        hyperparameters={HOSTILE: HOSTILE},
        provenance={HOSTILE: {HOSTILE: [HOSTILE]}},
        baselines={HOSTILE: {HOSTILE: 1.0}},
        mistakes=[Mistake(0, HOSTILE, HOSTILE, HOSTILE, 1.0), Mistake(1, HOSTILE * 20, HOSTILE, HOSTILE, 1.0)],
        duplicates=HOSTILE,
        package=HOSTILE,
        gate=HOSTILE,
    ), predicted


@functools.cache
def hostile_content() -> Content:
    return content(*hostile())


def test_hostile_text_stays_text_on_the_page() -> None:
    page = html(hostile_content())
    tags = {tag for tag, _ in Elements(page).found}
    assert not tags & {"script", "img", "iframe", "object", "link", "base", "form"}
    assert "onerror=alert(1)" in Elements(page).text
    assert not [key for _, attributes in Elements(page).found for key in attributes if key.startswith("on")]
    assert "\x00" not in page


def test_hostile_text_stays_text_in_markdown() -> None:
    text = markdown(hostile_content())
    assert not re.search(r"<(?!/?(?:details|summary)>)", text)
    assert len(re.findall(r"(?m)^!\[", text)) == text.count("](") == 4
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(re.search(r"(?<!\\)\|$", row) for row in rows)
    assert all(len(re.findall(r"(?<!\\)\|", row)) in {3, 5, 6, 7} for row in rows)


def test_hostile_text_stays_text_in_pictures(tmp_path: Path) -> None:
    record, predicted = hostile()
    write_run(tmp_path, record, *predicted)
    write(tmp_path)
    for path in sorted((tmp_path / "figures").iterdir()):
        tree = ElementTree.parse(path)
        assert not [each for each in tree.iter() if each.tag.endswith(("script", "image", "foreignObject"))]
    assert "</td></svg><" in "".join(ElementTree.parse(tmp_path / "figures" / "confusion.svg").getroot().itertext())


def test_the_page_asks_for_nothing_from_elsewhere(made: Content) -> None:
    page = html(made)
    for tag, attributes in Elements(page).found:
        assert "src" not in attributes
        for name in ("href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page
    assert set(re.findall(r"https?://[^\"']*", page)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_ids_are_unique_and_every_reference_has_its_target(made: Content) -> None:
    page = html(made)
    ids = re.findall(r'\bid="(.*?)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', page)) <= set(ids)


def test_pictures_take_the_colour_of_the_page(made: Content) -> None:
    for picture in made.pictures:
        assert "currentColor" in picture.svg
        assert not re.search(r"(fill|stroke): #000000\b|stroke: #ffffff\b|path [^>]*fill: #ffffff\b", picture.svg)
        assert "<style" not in picture.svg  # it would hold for the whole page


@pytest.mark.parametrize("kind", [binary, regression])
def test_the_same_run_gives_the_same_bytes(kind: Callable[[], tuple[Record, Predicted]], tmp_path: Path) -> None:
    record, predicted = kind()
    write_run(tmp_path, record, *predicted)
    for out in ("one", "two"):
        write(tmp_path, tmp_path / out)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*")]
    assert len(files) >= 6
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_a_long_text_is_folded_and_none_of_it_is_lost() -> None:
    text = " ".join(f"word{number}" for number in range(400))
    record = dataclasses.replace(RECORD, mistakes=[Mistake(0, text, "negative", "positive", 0.9)])
    page = html(content(record, None))
    assert "<details>" in page
    assert re.findall(r"word\d+", entities.unescape(page)) == text.split()
    assert "<details>" not in html(content(RECORD, None))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a *b* _c_ `d`", r"a \*b\* \_c\_ \`d\`"),
        ("![x](y)", r"\!\[x\](y)"),
        ("<b> & |", r"&lt;b&gt; &amp; \|"),
        ("# one\n# two", r"\# one \# two"),
    ],
)
def test_markdown_is_escaped(text: str, expected: str) -> None:
    assert literal(text) == expected


def parsed(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers(), parents())
    return parser.parse_args(["report", *map(str, arguments)])


def test_the_command_says_where_the_pages_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", *regression()[:1])
    options = parsed(tmp_path / "run", "--out", tmp_path / "out" / "deep")
    assert options.run(options) == 0
    out = tmp_path / "out" / "deep"
    assert capsys.readouterr().out.split() == [str(out / "report.html"), str(out / "report.md")]
    assert (out / "report.html").exists()
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"is not a run: it holds no record\.json"):
        write(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()
