"""The float16 twin of a shipped package: made without Keras, published, and served as it is."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from serving.client import House, PredictionClient
from serving.package.manifest import MANIFEST, MODEL, digest, dump, golden_array, parse
from tests.end_to_end.server import ServerProcess
from training.__main__ import main
from training.errors import ExportError, TrainingError
from training.evaluate import open_session
from training.packaging import twin as module
from training.packaging.package import digest_of, write
from training.packaging.twin import judged, twin
from training.publishing import publish

from ..conftest import REPOSITORY

SHIPPED = REPOSITORY / "models"
FEATURES = [field.name for field in dataclasses.fields(House)]


@pytest.mark.parametrize("name", ["house_price/1", "house_price/2", "topic/1", "topic/2"])
def test_the_twin_is_the_package_in_float16(name: str) -> None:
    before = parse((SHIPPED / name / MANIFEST).read_bytes())
    made = twin(SHIPPED / name, None)
    manifest = parse(made.files[MANIFEST])
    for same in ("name", "version", "inputs", "outputs", "labels"):
        assert getattr(manifest, same) == getattr(before, same)
    assert (manifest.golden.inputs, manifest.golden.outputs) == (before.golden.inputs, before.golden.outputs)
    assert manifest.golden.tolerance["CPUExecutionProvider"].atol == 2**-9
    assert manifest.golden.tolerance["CUDAExecutionProvider"].rtol == 2**-8
    assert manifest.provenance["export_precision"] == "float16"
    assert manifest.provenance["float32_model_sha256"] == before.files[MODEL].sha256
    assert "are of the float32 package" in manifest.metrics["protocol"]
    assert manifest.files[MODEL].bytes == len(made.files[MODEL]) < before.files[MODEL].bytes


def test_its_figures_are_its_own_where_there_is_data_and_it_passes_the_gate(real_data: Path, tmp_path: Path) -> None:
    made = twin(SHIPPED / "house_price" / "1", real_data)
    metrics = made.manifest.metrics
    assert metrics["float32_test_mae"] == pytest.approx(2.5385, abs=1e-4)
    assert 0 < abs(metrics["test_mae"] - metrics["float32_test_mae"]) < 0.001
    assert metrics["float16_largest_difference"] < 0.02
    write(tmp_path / "staged" / "house_price" / "1", made.files, replace=False)
    shutil.copytree(SHIPPED / "house_price" / "1", tmp_path / "models" / "house_price" / "1")
    (published,) = publish(tmp_path / "staged", tmp_path / "models", real_data, force=False)
    assert published.package.name == "2"
    assert published.gate.startswith("not significantly different from house_price/1: MAE -0.0000")


def test_the_command_needs_no_keras_and_a_server_serves_what_it_writes(tmp_path: Path) -> None:
    program = (
        "import sys; from training.__main__ import main; code = main(sys.argv[1:]); "
        "assert not {'tensorflow', 'keras', 'tf2onnx'} & sys.modules.keys(); sys.exit(code)"
    )
    given = ("half", SHIPPED / "house_price" / "1", "--out", tmp_path, "--version", "3")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, given)],
        cwd=REPOSITORY, env={"PATH": ""}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "float16: at most 0.0084 thousand dollars from Keras on the golden examples" in done.stdout
    package = tmp_path / "house_price" / "3"
    assert json.loads((package / MANIFEST).read_bytes())["version"] == 3
    manifest = parse((package / MANIFEST).read_bytes())
    assert manifest.files[MODEL] == digest(package / MODEL)
    rows = golden_array(manifest.golden.inputs["features"], "FP32")[:8]
    [expected] = open_session(SHIPPED / "house_price" / "1" / MODEL).run(["price"], {"features": rows})
    with ServerProcess("--device", "cpu", models=tmp_path) as server:
        server.wait_ready()
        with PredictionClient(server.address, timeout=30) as client:
            answered = client.predict_house_price([dict(zip(FEATURES, row.tolist(), strict=True)) for row in rows])
    assert answered.version == "3"
    got = np.array([house.price_usd for house in answered.predictions]) / 1000
    np.testing.assert_allclose(got, expected[:, 0], atol=2**-9, rtol=2**-9)
    assert np.abs(got - expected[:, 0]).max() > 1e-5, "it is the float16 graph that answers"


def test_a_package_that_is_none_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nowhere is not a model package"):
        twin(Path("nowhere"), None)
    shutil.copytree(SHIPPED / "house_price" / "1", tmp_path / "1")
    with (tmp_path / "1" / MODEL).open("ab") as file:
        file.write(b"more")
    with pytest.raises(TrainingError, match="is damaged: its SHA-256"):
        twin(tmp_path / "1", None)


def test_what_is_float16_is_not_made_so_again(tmp_path: Path) -> None:
    write(tmp_path / "topic" / "1", twin(SHIPPED / "topic" / "1", None).files, replace=False)
    with pytest.raises(TrainingError, match=f"^{tmp_path}/topic/1 is float16 already"):
        twin(tmp_path / "topic" / "1", None)


def test_more_files_than_the_graph_are_refused(tmp_path: Path) -> None:
    manifest = parse((SHIPPED / "house_price" / "1" / MANIFEST).read_bytes())
    files = {**manifest.files, "weights": digest_of(b"w")}
    model = (SHIPPED / "house_price" / "1" / MODEL).read_bytes()
    more = msgspec.structs.replace(manifest, files=files)
    write(tmp_path / "1", {MODEL: model, "weights": b"w", MANIFEST: dump(more)}, replace=False)
    with pytest.raises(TrainingError, match="has more files, weights: expected"):
        twin(tmp_path / "1", None)


def test_the_gate_lets_no_worse_twin_take_over(
    real_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIPTYCH_DATA", raising=False)
    there = tmp_path / "topic"
    for version in ("1", "2"):
        shutil.copytree(SHIPPED / "topic" / version, there / version)
    given = ["half", str(there / "1"), "--out", str(tmp_path)]
    assert main(given) == 1
    assert f"don't say that the twin is no worse than {there / '2'}: expected --data" in capfd.readouterr().err
    assert main([*given, "--data", str(real_data)]) == 1
    assert "not published: the new network is significantly worse than topic/2" in capfd.readouterr().err
    assert sorted(path.name for path in there.iterdir()) == ["1", "2"]
    assert main([*given, "--force"]) == 0
    forced = "not compared with topic/2, forced"
    assert forced in capfd.readouterr().out
    assert parse((there / "3" / MANIFEST).read_bytes()).provenance["forced"] == forced
    # What was forced once says nothing of its own twin, the first there.
    manifest = parse((there / "1" / MANIFEST).read_bytes())
    made = msgspec.structs.replace(manifest, provenance={**manifest.provenance, "forced": "once"})
    (there / "1" / MANIFEST).write_bytes(dump(made))
    first = twin(there / "1", None)
    assert judged(first, tmp_path / "other" / "1", force=False) == (first, "the first version")
    assert "forced" not in first.manifest.provenance


def test_where_it_goes_must_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["half", str(SHIPPED / "topic" / "1")])
    assert caught.value.code == 2
    assert "the following arguments are required: --out" in capsys.readouterr().err


def test_a_twin_beyond_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = module.half
    monkeypatch.setattr(module, "half", lambda _: other(module.onnx.load(SHIPPED / "house_price" / "2" / MODEL)))
    with pytest.raises(ExportError, match=r"golden examples, float16 .*: price leaves the tolerance"):
        twin(SHIPPED / "house_price" / "1", None)
