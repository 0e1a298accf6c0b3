"""Tokens: the file, the search, and that neither tells anything to who should not know."""

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from serving.access import tokens
from serving.access.tokens import MANAGE, MAX_TOKENS, PREDICT, PREFIX, TokenError, Tokens, entry, make, read

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def write(text: str | bytes, name: str = "tokens.toml") -> str:
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(file)

    return write


def find(found: Tokens, shown: str, now: datetime = NOW) -> str | None:
    token = found.find(shown.encode(), now.timestamp())
    return None if token is None else token.name


def test_a_token_is_found_by_what_its_entry_says_of_it(write: Callable[..., str]) -> None:
    alice, bob = make(), make()
    found = read(write(entry(alice, "alice", [PREDICT]) + entry(bob, "bob", [MANAGE, PREDICT], ["topic"])))
    token = found.find(bob.encode(), NOW.timestamp())
    assert token is not None
    assert (token.name, token.scopes, token.models) == ("bob", {PREDICT, MANAGE}, {"topic"})
    assert (find(found, alice), find(found, make()), find(found, "")) == ("alice", None, None)


def test_the_file_may_be_json(write: Callable[..., str]) -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    token = {"name": "a", "sha256": digest, "scopes": ["predict"], "expires": "2027-01-01T00:00:00Z"}
    assert find(read(write(json.dumps({"tokens": [token]}), "tokens.json")), "secret") == "a"


def test_a_token_expires(write: Callable[..., str]) -> None:
    secret = make()
    found = read(write(entry(secret, "a", [PREDICT], expires=NOW)))
    assert find(found, secret, NOW - timedelta(seconds=1)) == "a"
    assert find(found, secret, NOW) is None


def test_several_tokens_of_one_name_are_valid_at_once(write: Callable[..., str]) -> None:
    old, new = make(), make()
    found = read(write(entry(old, "a", [PREDICT]) + entry(new, "a", [PREDICT])))
    assert find(found, old) == find(found, new) == "a"


def test_no_tokens_let_nobody_in(write: Callable[..., str]) -> None:
    assert find(read(write("")), make()) is None


@pytest.mark.parametrize("place", [0, 7, 19, None])
def test_every_token_is_compared_by_its_digest_wherever_the_right_one_is(
    monkeypatch: pytest.MonkeyPatch, place: int | None
) -> None:
    """Constant time by structure: as many comparisons, of values as long, whatever is shown."""
    secrets = [make() for _ in range(20)]
    text = "".join(entry(secret, f"t{n}", [PREDICT]) for n, secret in enumerate(secrets))
    found = Tokens(tokens.msgspec.convert(tokens.tomllib.loads(text), tokens._File).tokens)
    compared: list[tuple[int, int]] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return hmac.compare_digest(left, right)

    class Counting:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(tokens, "hmac", Counting)
    shown = "x" * 10_000 if place is None else secrets[place]
    assert find(found, shown) == (None if place is None else f"t{place}")
    assert compared == [(32, 32)] * 20


def test_tokens_are_long_random_and_only_hashed_in_the_file() -> None:
    made = {make() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        assert len(secret) >= 43 + len(tokens.PREFIX)
        assert secret not in entry(secret, "a", [PREDICT])


DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[tokens]]\nname = 'a'\n", "missing required field `sha256`"),
        (f"[[tokens]]\nname = 'a'\nsha256 = '{DIGEST}'\nscopes = []\n", "length >= 1"),
        (f"[[tokens]]\nname = 'a'\nsha256 = '{DIGEST}'\nscopes = ['admin']\n", "Invalid enum value 'admin'"),
        (f"[[tokens]]\nname = 'a\\nb'\nsha256 = '{DIGEST}'\nscopes = ['predict']\n", "regex"),
        ("[[tokens]]\nname = 'a'\nsha256 = 'secret'\nscopes = ['predict']\n", "regex"),
        (f"[[tokens]]\nname = 'a'\nsha256 = '{DIGEST}'\nscopes = ['predict']\nscope = 1\n", "unknown field `scope`"),
        (f"[[tokens]]\nname='a'\nsha256='{DIGEST}'\nscopes=['predict']\nexpires=2027-01-01T00:00:00\n", "timezone"),
        (f"[[tokens]]\nname='a'\n{PREFIX}secret = 1\n", "unknown field `…`"),
        (f"[[tokens]]\nname='a'\nsha256='{DIGEST}'\nscopes=['{PREFIX}secret']\n", "Invalid enum value '…'"),
        (f"[[tokens]]\nname=\"a\\n\"\nsha256='{DIGEST}'\nscopes=['predict']\n", "regex"),
        (f"tokens = {'[' * 50_000}", "nested too deeply"),
        ("tokens = 5", "Expected `array`"),
        ("not a = table = secret", "at line 1"),
        (b"\xff\xfe", "not UTF-8"),
        (f"[[tokens]]\nname='a'\nsha256='{DIGEST}'\nscopes=['predict']\n" * (MAX_TOKENS + 1), "length <= 1000"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_and_no_secret_repeated(
    write: Callable[..., str], text: str | bytes, message: str
) -> None:
    with pytest.raises(TokenError) as caught:
        read(write(text))
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = str(tmp_path / "missing")
    with pytest.raises(TokenError) as caught:
        read(file)
    assert str(caught.value) == f"tokens={file!r}: No such file or directory"


@pytest.mark.parametrize(("name", "scopes"), [("a b", [PREDICT]), ("", [PREDICT]), ("a", ["all"]), ("a", [])])
def test_no_entry_is_made_that_no_file_could_have(name: str, scopes: list[str]) -> None:
    with pytest.raises(TokenError):
        entry(make(), name, scopes)
