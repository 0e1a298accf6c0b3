import itertools
from xml.etree import ElementTree

import pytest

from benchmarks import transports
from benchmarks.plot import Line, log_chart
from benchmarks.transports_tables import _judge

SVG = "{http://www.w3.org/2000/svg}"


def test_a_chart_is_well_formed_and_labels_do_not_collide():
    lines = [
        Line(f"line {number} <&>", "native", number > 0, [(10, 0.12), (90, 1.3 + number / 100)]) for number in range(3)
    ]
    root = ElementTree.fromstring(log_chart("Title & more", "caption", lines))
    assert len(root.findall(f".//{SVG}polyline")) == 3
    labels = [text for text in root.iter(f"{SVG}text") if text.text and text.text.startswith("line")]
    heights = sorted(float(text.attrib["y"]) for text in labels)
    assert all(after - before >= 12 for before, after in itertools.pairwise(heights))
    ticks = [text.text for text in root.iter(f"{SVG}text") if text.get("text-anchor") == "end"]
    assert ticks == ["0.1", "0.2", "0.5", "1", "2"]


def test_a_chart_of_nothing_is_empty():
    assert (
        ElementTree.fromstring(log_chart("T", "c", [Line("none", "native", False, [])])).findall(f".//{SVG}polyline")
        == []
    )


@pytest.mark.parametrize(
    ("reached", "least", "aim", "sign", "verdict"),
    [
        (7.0, 7.0, 10.0, "×", "reached"),
        (10.0, 7.0, 10.0, "×", "aim reached"),
        (6.99, 7.0, 10.0, "×", "**missed**"),
        (0.21, 0.2, 0.125, "≤", "**missed**"),
        (0.2, 0.2, 0.125, "≤", "reached"),
        (0.1, 0.2, 0.125, "≤", "aim reached"),
        (None, 7.0, 10.0, "×", "not measured"),
    ],
)
def test_a_target_is_judged_in_its_direction(reached, least, aim, sign, verdict):
    assert _judge(reached, least, aim, sign) == verdict


def test_deadlines_of_real_clients_rarely_repeat():
    assert len(set(transports.TIMEOUTS["many"])) == 97
    assert min(transports.TIMEOUTS["many"]) == 0.2
    assert max(transports.TIMEOUTS["many"]) == 5.0
