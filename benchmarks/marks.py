"""Pages of which some parts stand between marks and are made from results; the rest is written by hand."""

import re

_PART = re.compile(r"(<!-- made: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str, made: dict[str, str]) -> str:
    """The page with its parts, by the names of their marks, made anew.

    Raises:
        ValueError: a part has no mark, or a mark no part.
    """
    marks = [match[2] for match in _PART.finditer(text)]
    if sorted(marks) != sorted(made):
        raise ValueError(f"the page has the marks {marks}, and there are {list(made)}")
    return _PART.sub(lambda match: f"{match[1]}{made[match[2]]}\n{match[3]}", text)
