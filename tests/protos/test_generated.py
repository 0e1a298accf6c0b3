"""What is generated is committed as it is generated: `make protos` would change nothing."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = Path("prediction") / "v1"


def run(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_code_of_the_typed_api_is_up_to_date(tmp_path: Path) -> None:
    outputs = [f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    run("-m", "grpc_tools.protoc", "-Iprotos", *outputs, str(FOLDER / "prediction.proto"))
    generated = {path.name: path.read_text() for path in (tmp_path / FOLDER).iterdir()}
    grpc = "prediction_pb2_grpc.py"
    # Generated for a path that begins at protos/; the package is imported from above it.
    generated[grpc] = generated[grpc].replace("from prediction.v1 import", "from . import")
    committed = {path.name: path.read_text() for path in (ROOT / "protos" / FOLDER).glob("prediction_pb2*.py*")}
    assert generated.keys() == {"prediction_pb2.py", "prediction_pb2.pyi", grpc} == committed.keys()
    assert generated == committed


def test_the_schema_of_the_manifest_is_up_to_date() -> None:
    schema = ROOT / "serving" / "package" / "model.schema.json"
    assert run("-m", "serving.package.manifest") == schema.read_text()


def test_the_makefile_takes_these_steps() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for step in (
        "-m grpc_tools.protoc -Iprotos --python_out=protos --pyi_out=protos --grpc_python_out=protos",
        r"'s/^from prediction\.v1 import/from . import/'",
        "-m serving.package.manifest > serving/package/model.schema.json",
    ):
        assert step in makefile
