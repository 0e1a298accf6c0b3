"""An environment made of a folder of wheels, and what is said of those that are not there."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from gpu.check import libraries, venv, wheels
from gpu.check.venv import VenvError


def wheel(folder: Path, name: str, version: str, *needs: str, tag: str = "py3-none-any") -> Path:
    """A package of one module of its name."""
    about = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}")
        archive.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def test_all_that_is_missing_is_named_at_once(tmp_path):
    wheel(tmp_path, "trunk", "2.0", "branch>=1", 'bark; extra == "coat"', 'moss; python_version < "3"', "numpy")
    wheel(tmp_path, "branch", "1.5", "leaf~=3.0", "trunk")
    wheel(tmp_path, "leaf", "2.9")
    wheel(tmp_path, "root", "1.0", tag="cp27-cp27m-win32")
    (tmp_path / "not-a-wheel.whl").touch()
    assert list(wheels.missing(tmp_path, ["trunk[coat]>=2", "root", "soil>=4"])) == [
        "leaf~=3.0 (for branch; not usable here: leaf-2.9-py3-none-any.whl)",
        "bark (for trunk)",
        "root (for triptych; not usable here: root-1.0-cp27-cp27m-win32.whl)",
        "soil>=4 (for triptych)",
    ]
    assert list(wheels.missing(tmp_path, ["trunk<2"])) == [
        "trunk<2 (for triptych; not usable here: trunk-2.0-py3-none-any.whl)"
    ]


def test_an_environment_of_wheels_alone(tmp_path, monkeypatch):
    """No index is asked, even where one is configured; what is missing is told before anything is installed."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    folder, given = tmp_path / "venv", tmp_path / "wheels"
    given.mkdir()
    with pytest.raises(VenvError, match="holds no wheels; pip download"):
        venv.make(folder, given, ["trunk"])
    wheel(given, "trunk", "2.0", "branch", "leaf")
    with pytest.raises(VenvError) as refused:
        venv.make(folder, given, ["trunk"])
    assert "lacks a wheel of 2 requirement(s)" in str(refused.value)
    assert "\n  branch (for trunk)\n  leaf (for trunk)\n" in str(refused.value)
    wheel(given, "branch", "1.5")
    wheel(given, "leaf", "2.9")
    python = venv.make(folder, given, ["trunk"])
    # Numpy comes from the Python that made it: what the machine has is not wanted again.
    done = subprocess.run([python, "-c", "import trunk, leaf, numpy; print(trunk.version)"], capture_output=True)
    assert done.stdout == b"2.0\n"


def test_an_environment_of_the_other_onnx_runtime_is_made_anew(tmp_path):
    packages = tmp_path / f"lib/python{venv.VERSION}/site-packages"
    (packages / "onnxruntime-1.31.1.dist-info").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").touch()
    assert venv._fits(tmp_path, ["onnxruntime>=1.27"])
    assert not venv._fits(tmp_path, ["onnxruntime-gpu[cuda,cudnn]>=1.27"])


def test_cuda_libraries_are_wanted_as_wheels_only_where_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setattr(libraries, "missing", lambda: ["libcublas.so.13"])
    assert any(one.startswith("onnxruntime-gpu[cuda,cudnn]") for one in venv.requirements("cuda", tmp_path))
    monkeypatch.setattr(libraries, "missing", list)
    assert any(one.startswith("onnxruntime-gpu>=") for one in venv.requirements("cuda", tmp_path))
    assert any(one.startswith("onnxruntime>=") for one in venv.requirements("cpu", tmp_path))
    wheel(tmp_path, "onnxruntime_gpu", "1.31.1")
    assert any(one.startswith("onnxruntime-gpu>=") for one in venv.requirements("cpu", tmp_path))


def test_the_benchmark_needs_two_packages_more(tmp_path):
    plain, more = (venv.requirements("cpu", tmp_path, benchmark) for benchmark in (False, True))
    assert [one.partition(">=")[0] for one in more[len(plain) :]] == list(venv.FOR_BENCHMARK)


def test_libraries_of_wheels_are_found_wherever_the_wheels_are(tmp_path):
    folder = tmp_path / "nvidia/cu13/lib"
    folder.mkdir(parents=True)
    for name in libraries.NEEDED[1:]:
        (folder / name).touch()
    assert libraries.found([str(tmp_path)])[libraries.NEEDED[1]] == str(folder / libraries.NEEDED[1])
    path = libraries.environment({"LD_LIBRARY_PATH": "/mine", "HOME": "/"}, ["", str(tmp_path)])
    assert path == {"LD_LIBRARY_PATH": f"/mine:{folder}", "HOME": "/"}
    assert libraries.environment({"HOME": "/"}, []) == {"HOME": "/"}
