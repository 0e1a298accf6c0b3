"""Laying a report out: the HTML page, the Markdown page, and the pictures beside that."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from training.report.content import Content, content
from training.report.gallery import Picture
from training.report.svg import standalone
from training.runs import read, read_predictions

HTML, MARKDOWN, FIGURES = "report.html", "report.md", "figures"


def write(run: Path, out: Path | None = None) -> tuple[Path, Path]:
    """Write the report of the run in the folder `run`; returns the HTML page and the Markdown page.

    Args:
        run: a run's folder.
        out: where the report goes, made where it is missing; None means into the run's folder.

    Raises:
        TrainingError: there is no run there, or its record can't be read.
    """
    made = content(read(run), read_predictions(run))
    folder = run if out is None else out
    figures = folder / FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    for picture in made.pictures:
        (figures / f"{picture.name}.svg").write_bytes(standalone(picture.svg))
    pages = (folder / HTML, html(made)), (folder / MARKDOWN, markdown(made))
    for path, text in pages:
        path.write_text(text, encoding="utf-8", newline="\n")
    return folder / HTML, folder / MARKDOWN


def html(made: Content) -> str:
    """The report as one HTML page that needs nothing beside it."""
    environment = _environment()
    environment.filters["svg"] = _named
    return environment.get_template("report.html.j2").render(report=made)


def markdown(made: Content) -> str:
    """The report as Markdown, its pictures in the folder `FIGURES` beside it."""
    environment = _environment(finalize=literal)
    text = environment.get_template("report.md.j2").render(report=made, figures=FIGURES)
    return re.sub(r"\n{3,}", "\n\n", text)


def literal(value: Any) -> Any:
    """`value` so that Markdown shows it letter by letter: no markup of its own, no HTML, no line breaks."""
    if isinstance(value, Markup):
        return value
    line = " ".join(str(value).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markup(re.sub(r"([\\`*_{}\[\]|~$#!@])", r"\\\1", line))  # noqa: S704


def _named(picture: Picture) -> Markup:
    """The picture's `<svg>`, with its title for those who can't see it; Matplotlib has escaped what it drew."""
    return Markup(picture.svg.replace("<svg ", f'<svg aria-label="{escape(picture.title)}" ', 1))  # noqa: S704


def _environment(**more: Any) -> Environment:
    return Environment(
        loader=PackageLoader("training.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **more,
    )
