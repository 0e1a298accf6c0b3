"""`check`: the verdict on every package, one line each, and an exit code for scripts."""

import re
from pathlib import Path

import pytest

from serving.check import CheckError, check
from serving.engine.device import CPU
from tests.serving import packages


def verdicts(out: str) -> list[str]:
    return [line for line in out.splitlines()[:-1] if re.match(r"\w+ +\d+  (ready|refused) ", line)]


def test_the_shipped_models_are_ready(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(str(packages.SHIPPED), "cpu") == 0
    out = capsys.readouterr().out
    assert "refused" not in out, "who looks for the word finds the bad only"
    assert [line.split()[:3] for line in verdicts(out)] == [[name, str(n), "ready"] for name, n in packages.EVERY]
    assert all(f"golden examples on {CPU}, " in line for line in verdicts(out))
    lines = out.splitlines()
    steps = [line for line in lines if line.startswith(" ")]
    names = ["checksum", "static", "checker", "trial", "session", "signature", "golden", "warm-up"]
    assert [line.split()[0] for line in steps] == names * len(packages.EVERY)
    assert all(re.match(r"    \S+ +\d+\.\d ms  \S", line) for line in steps)
    assert "    model.onnx 22 kB" in re.sub(r"checksum +[\d.]+ ms", "  ", lines[1])
    assert re.fullmatch(rf"{len(packages.EVERY)} ready, in \d+\.\d\d s on {CPU}", lines[-1])


def test_every_version_is_judged_and_one_refusal_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packages.copy(tmp_path, version=2)
    (packages.copy(tmp_path, version=10) / "model.onnx").write_bytes(b"")
    packages.edit(packages.copy(tmp_path, version=1), lambda manifest: manifest["outputs"][0].update(name="cost"))
    assert check(str(tmp_path), "cpu") == 1
    out = capsys.readouterr().out
    lines = verdicts(out)
    assert [line.split()[:3] for line in lines] == [
        ["house_price", "1", "refused"],
        ["house_price", "2", "ready"],
        ["house_price", "10", "refused"],
    ]
    assert "load_error: model.json: golden.outputs and outputs name different tensors" in lines[0]
    assert "checksum: model.onnx has 0 bytes" in lines[2]
    assert out.splitlines()[-1].startswith("2 refused, 1 ready, in ")


def test_what_only_a_trial_finds_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packages.change_graph(packages.copy(tmp_path), lambda graph: graph.node.reverse())
    assert check(str(tmp_path), "cpu") == 1
    out = capsys.readouterr().out
    assert "refused  checker: the ONNX checker refuses it: Nodes in a graph must be topologically sorted" in out
    steps = [line.split()[0] for line in out.splitlines() if line.startswith("    ")]
    assert steps[:2] == ["checksum", "static"]
    assert "session" not in steps, "it stays out of this process"


def test_the_folder_of_one_model_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = packages.copy(tmp_path, version=3)
    assert check(str(folder), "cpu") == 0
    assert verdicts(capsys.readouterr().out)[0].split()[:3] == ["house_price", "3", "ready"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[labels]\nstable = \n", "serving.toml: Invalid value"),
        ("[labels]\nstable = 9\ncanary = 1\n", "serving.toml: stable names version 9; there are: 1"),
        ("[shadow]\ncandidate = 2\nfraction = 0.5\n", "serving.toml: the candidate is version 2; there are: 1"),
    ],
)
def test_a_policy_that_can_not_be_kept_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, problem: str
) -> None:
    packages.copy(tmp_path)
    (tmp_path / "house_price" / "serving.toml").write_text(text)
    assert check(str(tmp_path), "cpu") == 1
    out = capsys.readouterr().out
    assert f"refused  {problem}" in out
    assert out.splitlines()[-1].startswith("1 refused, 1 ready")


def test_what_the_api_could_not_serve_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = packages.copy(tmp_path, "sentiment")
    packages.edit(folder, lambda manifest: manifest.update(labels=["bad", "good"]))
    assert check(str(tmp_path), "cpu") == 1
    assert "refused  signature: the typed API can't serve it: labels must be" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("folder", "device", "message"),
    [
        ("missing", "cpu", "does not exist"),
        (".", "cpu", "no model package in"),
        (".", "tpu", "device 'tpu': expected auto, cpu, cuda, cuda:I or "),
    ],
)
def test_what_can_not_be_checked_at_all_is_an_error(tmp_path: Path, folder: str, device: str, message: str) -> None:
    with pytest.raises(CheckError, match=message):
        check(str(tmp_path / folder), device)
