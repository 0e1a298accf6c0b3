"""`check`: the verdict on every package, one line each, and an exit code for scripts."""

from pathlib import Path

import pytest

from serving.check import CheckError, check
from serving.engine.device import CPU
from tests.serving import packages


def test_the_shipped_models_are_ready(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(str(packages.SHIPPED), "cpu") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [[name, "1", "ready"] for name in packages.NAMES]
    assert all(f"golden examples on {CPU}, " in line for line in lines)


def test_every_version_is_judged_and_one_refusal_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packages.copy(tmp_path, version=2)
    (packages.copy(tmp_path, version=10) / "model.onnx").write_bytes(b"")
    packages.edit(packages.copy(tmp_path, version=1), lambda manifest: manifest["outputs"][0].update(name="cost"))
    assert check(str(tmp_path), "cpu") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["house_price", "1", "refused"],
        ["house_price", "2", "ready"],
        ["house_price", "10", "refused"],
    ]
    assert "load_error: model.json: golden.outputs and outputs name different tensors" in lines[0]
    assert "checksum: model.onnx has 0 bytes" in lines[2]


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
        (".", "tpu", "device 'tpu': expected auto, cpu, cuda or cuda:I"),
    ],
)
def test_what_can_not_be_checked_at_all_is_an_error(tmp_path: Path, folder: str, device: str, message: str) -> None:
    with pytest.raises(CheckError, match=message):
        check(str(tmp_path / folder), device)
