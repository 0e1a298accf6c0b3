"""What k8s/, the Dockerfile and the operators' guides say of settings and metrics, held against the server's own."""

import re
from pathlib import Path

import msgspec
import pytest

from serving.config import PREFIX, Settings, resolve

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/operator.md"
PAGES = [GUIDE, ROOT / "docs/kubernetes.md"]
DEFAULTS = {PREFIX + name.upper(): default for name, default in msgspec.structs.asdict(Settings()).items()}

# What Kubernetes would set, were enableServiceLinks not off.
NOT_SETTINGS = {"TRIPTYCH_PORT"}


def shown(value: object) -> str:
    """A default as the guide gives it."""
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of the guide, without its head."""
    section = re.split(r"^## ", GUIDE.read_text(), flags=re.M)
    (text,) = (part for part in section if part.startswith(heading + "\n"))
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(
    "file",
    [*sorted((ROOT / "k8s").rglob("*.yaml")), ROOT / "Dockerfile", *PAGES],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_every_variable_is_a_setting_and_every_value_one_it_takes(file):
    text = file.read_text()
    assert set(re.findall(r"TRIPTYCH_[A-Z0-9_]+", text)) - NOT_SETTINGS <= DEFAULTS.keys()
    resolve({}, dict(re.findall(r"(TRIPTYCH_[A-Z0-9_]+)=([^\s`]+)", text)))


def test_the_guide_has_every_setting_and_its_default():
    table = {cells[0].strip("`"): cells[1].strip("`") for cells in rows("Settings")}
    assert table == {name: shown(default) for name, default in DEFAULTS.items()}
