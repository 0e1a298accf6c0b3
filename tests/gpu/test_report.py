"""The report, for people and for programs."""

import json

from gpu.check import report
from gpu.check.finding import Outcome, Table, text

TABLE = Table(("model", "rows/s"), [("topic|2", 1234567.0), ("x", 0.5)], "A note.")
PASSED = Outcome(
    "load", "speed", "passed", (), 1.25, "2026-11-21", {"clients": 3, "GPU": True}, (TABLE,), ("that it is fast",)
)
FAILED = Outcome("soak", "memory", "failed", ("it grew", "more\nlines"), 600.0)
SKIPPED = Outcome("devices", "sharing", "skipped", ("there is one GPU",), 0.0)


def test_a_verdict_names_what_failed_and_what_a_rehearsal_is_worth():
    assert report.verdict([PASSED, SKIPPED], rehearsal=False) == "passed: 1 passed, 1 skipped"
    assert report.verdict([PASSED, FAILED], rehearsal=False) == "FAILED: 1 passed, 1 failed"
    assert report.verdict([SKIPPED], rehearsal=False) == "NOTHING CHECKED: 1 skipped"
    assert report.verdict([PASSED], rehearsal=True).startswith("Rehearsal on the CPU: proves nothing about a GPU.")


def test_a_page_has_every_step_with_its_figures_and_reasons(tmp_path):
    files = report.write(tmp_path, [PASSED, FAILED, SKIPPED], {"device": "cuda"}, rehearsal=False)
    page = files[1].read_text()
    assert page.startswith(
        "# Check of serving on a GPU\n\n**FAILED: 1 passed, 1 failed, 1 skipped**\n\n- device: cuda\n"
    )
    assert "| load | speed | passed | 2026-11-21 | 1.2 |" in page
    assert "## soak: failed\n\n- **failed**: it grew" in page
    assert "- **skipped**: there is one GPU" in page
    assert "- clients: 3\n- GPU: yes" in page
    assert "| topic\\|2 | 1,234,567 |" in page
    assert "A note." in page
    assert "- not asked on the CPU: that it is fast" in page
    told = json.loads(files[0].read_text())
    assert [step["verdict"] for step in told["steps"]] == ["passed", "failed", "skipped"]
    assert told["steps"][0]["tables"][0]["rows"][1] == ["x", 0.5]
    assert told["rehearsal"] is False


def test_a_report_is_continued_by_runs_of_the_same_things_only(tmp_path):
    about = {"commit": "abc", "device": "cuda", "models": "/models", "date": "today"}
    assert report.earlier(tmp_path, about) == []
    report.write(tmp_path, [PASSED, FAILED], about, rehearsal=False)
    before = report.earlier(tmp_path, about | {"date": "tomorrow"})
    assert [one.as_dict() | {"tables": ()} for one in before] == [
        one.as_dict() | {"tables": ()} for one in (PASSED, FAILED)
    ]
    assert report.aligned(before[0].tables[0]) == report.aligned(TABLE)
    again = Outcome("load", "speed", "failed", ("slow",), 2.0)
    assert report.merged(before, [SKIPPED, again]) == [again, before[1], SKIPPED]
    for other in report.SAME:
        assert report.earlier(tmp_path, about | {other: "another"}) == []
    (tmp_path / "report.json").write_text("[]")
    assert report.earlier(tmp_path, about) == []


def test_a_terminal_is_not_as_wide_as_a_table():
    table = Table(("package", "nodes", "which", "where"), [("topic", 3, " ".join(["MatMul"] * 30), "cpu")])
    lines = report.aligned(table)
    assert len(lines) > 2
    assert max(map(len, lines)) <= report.WIDTH - len(report.INDENT)
    assert " ".join(lines).count("MatMul") == 30
    assert lines[1].endswith("cpu")
    figure = report.figure("versions", ["onnxruntime-gpu 1.31.1"] * 10)
    assert max(map(len, figure.splitlines())) <= report.WIDTH
    assert " ".join(figure.split()).count("onnxruntime-gpu 1.31.1") == 10


def test_a_terminal_gets_columns():
    assert report.aligned(TABLE) == ["model       rows/s", "topic|2  1,234,567", "x              0.5"]
    lines = report.summary([PASSED, FAILED]).splitlines()
    assert lines[0].split() == ["load", "passed", "1.2", "s", "speed"]
    assert [line.strip() for line in lines[1:]] == [
        "not asked on the CPU: that it is fast",
        "soak         failed      600.0 s  memory",
        "it grew",
        "more",
        "lines",
    ]


def test_figures_have_as_many_digits_as_they_deserve():
    figures = (True, None, 12345, 12345.6, 0.012345, float("nan"), {"a": 1, "b": 2.5}, [], ["x", 1])
    told = ["yes", "–", "12,345", "12,346", "0.0123", "–", "a 1, b 2.5", "none", "x, 1"]
    assert [text(one) for one in figures] == told
