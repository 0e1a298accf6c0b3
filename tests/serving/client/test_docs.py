"""The app developer's page says what the client says."""

import json
import re
from pathlib import Path

from serving.client import FEATURES
from serving.client.channel import SERVICE_CONFIG

PAGE = (Path(__file__).parents[3] / "docs" / "app-developer.md").read_text()


def test_the_service_config_is_the_clients() -> None:
    [block] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert json.loads(block) == SERVICE_CONFIG


def test_the_features_are_the_clients() -> None:
    rows = re.findall(r"^\| (\d{1,2}) \| `([a-z_0-9]+)` \| (.*) \|$", PAGE, re.MULTILINE)
    assert [(int(number), name) for number, name, _ in rows] == list(enumerate(FEATURES, 1))
    for _, name, meaning in rows:
        assert FEATURES[name].startswith(meaning.removesuffix(" See below."))
