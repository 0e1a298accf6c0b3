"""What runs while the image is built: each step on a small case, or on this environment's own files."""

import importlib.util
import json
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from image.steps import rootfs, sbom, split, strip, trim

ROOT = Path(__file__).parents[2]
SERVER = """
import json, sys
import serving.server, serving.fleet.worker
print(json.dumps([module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)]))
"""
linux = pytest.mark.skipif(platform.system() != "Linux", reason="the image is Linux")


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_trimming_leaves_what_a_server_needs(tmp_path):
    packages = tmp_path / "lib/python3.11/site-packages"
    kept = [
        write(packages / "numpy/core.py"),
        write(packages / "onnxruntime/capi/state.so"),
        write(tmp_path / "bin/python3"),
    ]
    gone = [
        write(packages / "numpy/tests/test_core.py", "four"),
        write(packages / "numpy/core.pyi", "four"),
        write(packages / "onnxruntime/capi/libonnxruntime.so.1.31.1", "four"),
        write(tmp_path / "bin/activate", "four"),
    ]
    assert trim.main(tmp_path) == 16
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)


def test_a_server_imports_nothing_that_is_trimmed():
    """Nothing of it is among the modules of a server, apart from those compiled."""
    packages = Path(sysconfig.get_path("purelib"))
    done = subprocess.run([sys.executable, "-c", SERVER], capture_output=True, text=True, check=True, cwd=ROOT)
    modules = {Path(name) for name in json.loads(done.stdout) if name.startswith(str(packages))}
    assert len(modules) > 100
    unused = {path for pattern in trim.UNUSED if pattern != "**/__pycache__" for path in packages.glob(pattern)}
    assert {module for module in modules if not unused.isdisjoint({module, *module.parents})} == set()


@linux
def test_a_stripped_module_is_smaller_and_works(tmp_path):
    spec = importlib.util.find_spec("ml_dtypes._ml_dtypes_ext")
    package = Path(spec.origin).parent
    shutil.copytree(package, tmp_path / package.name)
    module = tmp_path / package.name / Path(spec.origin).name
    before = module.stat().st_size
    if not (removed := strip.main(tmp_path)):
        pytest.skip("no symbols in this wheel")
    assert module.stat().st_size == before - removed < before / 2
    code = "import ml_dtypes, numpy; print(ml_dtypes.__file__, numpy.array([1.5], ml_dtypes.bfloat16)[0])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(module.parent / "__init__.py"), "1.5"]
    assert strip.main(tmp_path) == 0


def test_what_is_no_module_with_symbols_is_left_as_it_is(tmp_path):
    text = write(tmp_path / "text.so", "INPUT(libc.so.6)")
    assert strip.main(tmp_path) == 0
    assert text.read_text() == "INPUT(libc.so.6)"


def test_nvidias_libraries_are_set_apart(tmp_path):
    library = "lib/python3.11/site-packages/nvidia/cudnn/lib/libcudnn.so.9"
    write(tmp_path / "venv" / library)
    other = write(tmp_path / "venv/lib/python3.11/site-packages/numpy/core.py")
    split.main(tmp_path / "venv", tmp_path / "cuda")
    assert (tmp_path / "cuda" / library).exists()
    assert not (tmp_path / "venv" / library).exists()
    assert other.exists()


def test_without_nvidias_libraries_there_is_nothing_to_set_apart(tmp_path):
    write(tmp_path / "venv/lib/python3.11/site-packages/numpy/core.py")
    split.main(tmp_path / "venv", tmp_path / "cuda")
    assert list((tmp_path / "cuda").iterdir()) == []


def test_a_link_is_placed_with_what_it_leads_to(tmp_path):
    system, root = tmp_path.resolve() / "system", tmp_path / "root"
    write(system / "real/python3.11", "program")
    (system / "real/python3").symlink_to("python3.11")
    (system / "bin").symlink_to("real")
    rootfs.place(system / "bin/python3", root)
    placed = root / system.relative_to("/") / "real"
    assert (placed / "python3").readlink() == Path("python3.11")
    assert (placed / "python3.11").read_text() == "program"
    assert not (placed.parent / "bin").exists()


def test_the_standard_library_is_taken_without_what_servers_never_use():
    library = Path(sysconfig.get_path("stdlib"))
    names = {str(path.relative_to(library)) for path in rootfs.files(library)}
    assert {"asyncio/__init__.py", "ssl.py", "unittest/__init__.py"} <= names
    assert not {
        name for name in names if name.startswith(("ensurepip", "idlelib", "site-packages", "tkinter", "sqlite3"))
    }


@linux
def test_libraries_are_those_of_the_system_and_a_missing_one_fails_the_build(tmp_path):
    modules = list(Path(sysconfig.get_path("purelib")).glob("uvloop/*.so"))
    found = {path.name for path in rootfs.libraries(modules, tmp_path)}
    assert "libc.so.6" in found
    with pytest.raises(SystemExit, match=r"no library libcublas\S*\.so"):
        rootfs.libraries([cuda()], tmp_path)


def cuda() -> Path:
    found = importlib.util.find_spec("onnxruntime").submodule_search_locations[0]
    library = Path(found) / "capi/libonnxruntime_providers_cuda.so"
    if not library.exists():
        pytest.skip("needs onnxruntime-gpu, for its libraries that are elsewhere")
    return library


@pytest.fixture
def root(tmp_path):
    """A root file system with one package of Debian."""
    write(tmp_path / sbom.OS_RELEASE, 'NAME="Debian GNU/Linux"\nVERSION_ID="12"\n')
    status = "Package: libstdc++6\nArchitecture: amd64\nVersion: 12.2.0-14+deb12u1\nSource: gcc-12 (12.2.0-14)\n"
    write(tmp_path / sbom.STATUS / "libstdc++6", status)
    return tmp_path


def bill(root: Path) -> dict:
    document = {"metadata": {"component": {"name": "triptych"}}, "components": [{"name": "numpy"}]}
    return sbom.complete(document, root, ROOT / "models", "0.1.0")


def test_the_bill_names_python_packages_debians_packages_and_models(root):
    document = bill(root)
    assert document["metadata"]["component"]["version"] == "0.1.0"
    components = {each["name"]: each for each in document["components"]}
    assert components["python"]["version"] == platform.python_version()
    assert components["libstdc++6"]["purl"] == (
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=gcc-12"
    )
    assert {"numpy", "sentiment", "topic", "house_price"} <= components.keys()
    assert {each["ref"] for each in document["dependencies"]} == {
        each["bom-ref"] for each in document["components"] if "bom-ref" in each
    }


def test_the_bill_is_the_same_every_time(root):
    assert json.dumps(bill(root), sort_keys=True) == json.dumps(bill(root), sort_keys=True)
