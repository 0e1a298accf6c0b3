"""What the client says about the API agrees with the API itself; addresses; what a base install needs."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from protos.prediction.v1 import prediction_pb2 as pb
from serving.client import FEATURES, House, Sentiment
from serving.client import types as client_types
from serving.client.channel import target

PROTO = Path(pb.__file__).with_name("prediction.proto")


def test_features_are_the_protos_with_their_meanings() -> None:
    [house] = re.findall(r"^message House \{(.*?)^\}", PROTO.read_text(), re.DOTALL | re.MULTILINE)
    fields = re.findall(r"((?:^ +//.*\n)+) +optional double (\w+) = (\d+);", house, re.MULTILINE)
    assert [(name, int(number)) for _, name, number in fields] == [(name, i) for i, name in enumerate(FEATURES, 1)]
    for comment, name, _ in fields:
        assert FEATURES[name] == " ".join(comment.replace("//", "").split())


@pytest.mark.parametrize(
    "name", ["SentimentPrediction", "TopicPrediction", "TopicScore", "HousePricePrediction", "House"]
)
def test_values_have_the_fields_of_their_messages(name: str) -> None:
    fields = [field.name for field in dataclasses.fields(getattr(client_types, name))]
    assert fields == [field.name for field in getattr(pb, name).DESCRIPTOR.fields]


def test_sentiments_are_the_protos() -> None:
    specified = pb.Sentiment.keys()[1:]
    assert [f"SENTIMENT_{sentiment.name}" for sentiment in Sentiment] == specified


def test_a_house_does_not_change() -> None:
    house = House.from_mapping({"rooms": 6.5, "crime_rate": None})
    assert house == House(rooms=6.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        house.rooms = 7  # type: ignore[misc]


def test_unknown_features_are_named_beside_the_known() -> None:
    with pytest.raises(ValueError, match=r"^unknown feature 'room', 'age'; the features are crime_rate, ") as caught:
        House.from_mapping({"room": 6.5, "rooms": 6.5, "age": 1})
    assert all(name in str(caught.value) for name in FEATURES)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost:8001", "localhost:8001"),
        ("dns:///triptych:8001", "dns:///triptych:8001"),
        (["192.0.2.1:8001"], "ipv4:192.0.2.1:8001"),
        (("192.0.2.1:8001", "192.0.2.2:8002"), "ipv4:192.0.2.1:8001,192.0.2.2:8002"),
        (["[2001:db8::1]:8001", "[::1]:8002"], "ipv6:[2001:db8::1]:8001,[::1]:8002"),
    ],
)
def test_target(address: Any, expected: str) -> None:
    assert target(address) == expected


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (["triptych:8001"], r"not 'triptych:8001'; .*'dns:///name:port'"),
        (["192.0.2.1"], r"not '192.0.2.1'"),
        (["192.0.2.1:http"], r"not '192.0.2.1:http'"),
        (["::1:8001"], r"not '::1:8001'"),
        (["[192.0.2.1]:8001"], r"not '\[192.0.2.1\]:8001'"),
        (["192.0.2.1:8001", "[::1]:8001"], "all IPv4 or all IPv6"),
        ([], "at least one"),
    ],
)
def test_lists_that_are_no_target(address: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        target(address)


def test_a_base_install_is_enough() -> None:
    # typing_extensions is a dependency of grpcio's, and Cython's runtime a part of it.
    program = """
import sys

class Refuse:
    allowed = {"google", "grpc", "protos", "serving", "typing_extensions", "cython_runtime", *sys.stdlib_module_names}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.allowed and not name.startswith("_cython"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
import serving.client.cli
print(*(name for name in sys.modules if name.startswith("serving.")))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout
    assert all(name.startswith("serving.client") for name in run.stdout.split())
