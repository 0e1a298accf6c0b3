"""Figures of faults: read from pytest's own report, and shown."""

from pathlib import Path

from benchmarks import faults

REPORT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite>
<testcase classname="tests.chaos.test_x" name="test_killed[worker]"><properties>
<property name="fault" value="SIGKILL"/><property name="calls lost" value="{lost}"/></properties></testcase>
<testcase classname="tests.chaos.test_x" name="test_disk"><properties><property name="fault" value="a full disk"/>
</properties><skipped type="pytest.skip" message="no rights">…</skipped></testcase>
<testcase classname="tests.chaos.test_x" name="test_without_figures"/>
</testsuite></testsuites>"""


def test_the_figures_are_those_of_the_tests(tmp_path: Path) -> None:
    rounds = []
    for lost in (1, 5, 3):
        (tmp_path / "report.xml").write_text(REPORT.format(lost=lost))
        rounds.append({"cases": faults.cases(tmp_path / "report.xml")})
    found = faults.summary(rounds)
    assert [case["fault"] for case in found] == ["SIGKILL", "a full disk"]
    assert found[0]["figures"] == {"calls lost": 3.0}
    [table] = faults.tables({"settings": {"rounds": 3}, "summary": found})
    assert list(table.rows) == [
        ["SIGKILL (worker)", "calls lost", 3.0],
        ["a full disk", "not here: no rights", None],
    ]
