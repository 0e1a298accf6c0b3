"""Who may import whom: the architecture, held by a test."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS = (
    ("serving.request_id", "serving.redaction"),
    ("serving.status", "serving.reload", "serving.courtesy"),
    ("serving.details", "serving.package"),
    ("serving.engine",),
    ("serving.telemetry",),
    ("serving.repository",),
    ("serving.api",),
    ("serving.access",),
    ("serving.transport",),
    ("serving.probes", "serving.config", "serving.logs", "serving.process"),
    ("serving.observing",),
    ("serving.manager", "serving.services", "serving.security"),
    ("serving.ports",),
    ("serving.announce",),
    ("serving.server", "serving.check"),
    ("serving.fleet",),
    ("serving.__main__",),
)
"""From the lowest: a module imports from its own part and from lower layers only."""

TRAINING_ONLY = {"tensorflow", "keras", "tf2onnx", "onnx", "training", "tests", "benchmarks", "rich"}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(module: str, path: Path) -> set[str]:
    """Everything that a module imports, wherever in it; `from a import b` counts as a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


SERVING = dict(modules("serving"))

TRIAL = "serving.repository.trial"
"""Its child process, and nothing else of serving, has use for `onnx`."""


def part_of(name: str) -> tuple[int, str] | None:
    """Layer and part of a name, or None for what belongs to none: the client, and `serving.__version__`."""
    return next(((i, part) for i, parts in enumerate(LAYERS) for part in parts if within(name, part)), None)


def test_there_is_something_to_look_at() -> None:
    assert {"serving", "serving.api.call", "serving.engine.batcher", "serving.client.cli"} <= SERVING.keys()
    assert "serving.package.manifest.Manifest" in imports("", ROOT / "serving" / "engine" / "engine.py")


@pytest.mark.parametrize("module", SERVING)
def test_every_module_has_its_place(module: str) -> None:
    assert part_of(module) or within(module, "serving.client") or module == "serving"


@pytest.mark.parametrize("module", SERVING)
def test_serving_never_imports_what_only_training_or_tests_need(module: str) -> None:
    allowed = {"onnx"} if module == TRIAL else set[str]()
    assert not {name.split(".")[0] for name in imports(module, SERVING[module])} & TRAINING_ONLY - allowed


def test_a_trial_loads_onnx_only_once_it_runs() -> None:
    """The server has the module, too; the statement is not at its top."""
    names: set[str] = set()
    for node in ast.parse(SERVING[TRIAL].read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
    assert "json" in names
    assert "onnx" not in names
    assert "onnx.checker" in imports(TRIAL, SERVING[TRIAL])


@pytest.mark.parametrize("module", [module for module in SERVING if part_of(module)])
def test_no_layer_imports_from_a_higher_one_or_from_beside_it(module: str) -> None:
    place = part_of(module)
    assert place is not None
    for name in imports(module, SERVING[module]):
        if within(name, "serving.client"):
            assert module == "serving.__main__", f"{module} imports {name}: the client is for clients"
        elif within(name, "serving") and name != "serving.__version__":
            other = part_of(name)
            assert other is not None, f"{module} imports {name}, which has no place"
            assert other[1] == place[1] or other[0] < place[0], f"{module} imports {name}"


@pytest.mark.parametrize("module", [module for module in SERVING if within(module, "serving.client")])
def test_the_client_imports_nothing_of_serving_but_itself(module: str) -> None:
    for name in imports(module, SERVING[module]):
        if within(name, "serving"):
            assert within(name, "serving.client") or name == "serving.__version__", f"{module} imports {name}"


@pytest.mark.parametrize(("module", "path"), list(modules("training")))
def test_training_imports_of_serving_the_package_format_only(module: str, path: Path) -> None:
    for name in imports(module, path):
        assert not within(name, "serving") or within(name, "serving.package"), f"{module} imports {name}"


def test_a_running_server_has_nothing_of_training_in_memory() -> None:
    code = """
import sys
from pathlib import Path

import serving.__main__, serving.check, serving.server
from serving.engine.device import CPU, Device
from serving.repository import disk, trial, verify

models = Path("models")
for name, versions in disk.scan(models).items():
    for version, folder in versions.items():
        package = disk.read(models, folder, name, version)
        trial.try_out(models, folder, name, version, package.digest, max_batch_rows=2)
        verify.load(package, Device(CPU), 2)
print(*{m.split('.')[0] for m in sys.modules})
"""
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(found.stdout.split())
    assert {"serving", "onnxruntime", "numpy"} <= loaded
    assert not loaded & TRAINING_ONLY
    assert "opentelemetry" not in loaded, "who wants no traces need not have it"
