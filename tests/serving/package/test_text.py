"""Text rules against a reference in plain Python, and the bounds that keep hostile texts cheap."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serving.package.manifest import TextRules
from serving.package.text import COLLAPSE_FROM, TOKENS_SUFFIX, Normaliser, TextTooLongError, flatten

KERAS = '!"#$%&()*+,-./:;<=>?@[\\]^_{|}~`\t\n'

RULES = st.builds(
    TextRules,
    st.booleans(),
    st.one_of(st.just(KERAS), st.just(""), st.text(st.characters(max_codepoint=127), max_size=8)),
)
TEXTS = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("  a.B\t\n\u00a0İßΣ")), max_size=60)


def words(rules: TextRules, text: str) -> list[str]:
    """The words of a text by the definition."""
    lowered = text.lower() if rules.lowercase else text
    spaced = lowered.translate({ord(character): " " for character in rules.to_space})
    return [word for word in spaced.split(" ") if word]


def found_words(normalised: bytes) -> list[str]:
    return [word for word in normalised.decode().split(" ") if word]


@given(RULES, TEXTS)
@example(TextRules(True, KERAS), "ΑΣ. İstanbul\u0130 \u00a0x")
def test_words_are_those_of_the_definition(rules: TextRules, text: str) -> None:
    assert found_words(Normaliser(rules)(text)) == words(rules, text)


@given(RULES, TEXTS, st.integers(1, 8))
def test_a_limit_refuses_more_words_and_changes_none(rules: TextRules, text: str, limit: int) -> None:
    wanted = words(rules, text)
    normalise = Normaliser(rules)
    if len(wanted) > limit:
        with pytest.raises(TextTooLongError) as caught:
            normalise(text, limit)
        assert caught.value.words == len(wanted)
    else:
        assert found_words(normalise(text, limit)) == wanted


@given(RULES, TEXTS, st.one_of(st.none(), st.integers(1, 8)))
def test_a_normalised_text_is_never_empty(rules: TextRules, text: str, limit: int | None) -> None:
    try:
        assert Normaliser(rules)(text, limit)
    except TextTooLongError:
        assert limit is not None


@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_a_flat_batch_gives_every_text_its_own_tokens(texts: list[str]) -> None:
    rules = TextRules(True, KERAS)
    normalised = [Normaliser(rules)(text) for text in texts]
    flat = flatten("text", normalised)
    [joined] = flat["text"]
    tokens = joined.split(" ")
    counts = flat["text" + TOKENS_SUFFIX]
    assert flat["text"].shape == (1,)
    assert counts.shape == (len(texts),)
    assert counts.sum() == len(tokens), "no text has a word of its neighbour"
    for text, count in zip(texts, counts, strict=True):
        assert [token for token in tokens[:count] if token] == words(rules, text)
        tokens = tokens[count:]


@pytest.mark.parametrize("limit", [1, 5, 100, COLLAPSE_FROM - 1, COLLAPSE_FROM, COLLAPSE_FROM + 1, 8192])
def test_the_limit_is_exact(limit: int) -> None:
    normalise = Normaliser(TextRules(True, KERAS))
    for text in ("a " * limit, " , a" * limit, "\n".join("a" * limit)):
        assert len(found_words(normalise(text, limit))) == limit
        with pytest.raises(TextTooLongError, match=rf"^{limit + 1} words$"):
            normalise(text + " b", limit)


@pytest.mark.parametrize("blank", [" ", "\n", "\t.,", " ! "])
def test_a_megabyte_of_blanks_is_a_single_space(blank: str) -> None:
    normalise = Normaliser(TextRules(True, KERAS))
    blanks = blank * (1_000_000 // len(blank))
    assert normalise(blanks) == normalise(blanks, 1) == b" "
    assert normalise(f"{blanks}one{blanks}two{blanks}", 2) == b"one two"


def test_an_empty_text_is_a_single_space() -> None:
    assert Normaliser(TextRules(True, KERAS))("") == b" "


def test_letters_outside_ascii_are_lowered_and_never_split() -> None:
    normalise = Normaliser(TextRules(True, KERAS))
    assert normalise("ÉTÉ ГОД 日本").decode() == "été год 日本"
    assert Normaliser(TextRules(False, KERAS))("ÉTÉ").decode() == "ÉTÉ"


def test_only_the_characters_of_the_rules_separate_words() -> None:
    normalise = Normaliser(TextRules(True, KERAS))
    assert normalise("it's\u00a0one\rword") == "it's\u00a0one\rword".encode()
    assert normalise("two.words") == b"two words"
