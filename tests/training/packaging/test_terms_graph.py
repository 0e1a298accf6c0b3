"""The graph over terms answers as Keras does, for any text, whatever stands beside it."""

import dataclasses
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import checker, shape_inference

from serving.package.manifest import golden_array, parse
from serving.package.text import flatten
from training.best import TermsRecipe, terms_of
from training.data import Array, Data, RawText, Sequences, load
from training.errors import ExportError
from training.evaluate import open_session, predict
from training.fit import train
from training.models import Network, build
from training.packaging import terms_graph
from training.packaging.convert import convert
from training.packaging.export import Training, export, graph_of
from training.packaging.golden import text_outputs
from training.packaging.terms_graph import Weights, terms_front
from training.terms import WORD_BITS
from training.text import normalise

from ..conftest import Tiny

KNOWN = ["a", "b", "c", "don't", "café", "日本", "most\x85and", "zz"]
"""Words of the training texts: few, so that runs of them occur twice."""
INDEX = {**{word: rank for rank, word in enumerate(KNOWN[:-1], 1)}, "rare": 400, "seldom": 401, "zz": 88_584}
"""With two words that no training text has, and one of the largest id there is."""

words = st.one_of(
    st.sampled_from(KNOWN), st.sampled_from(["rare", "seldom", "unheard-of", "x", "", "\x00"]), st.text(max_size=3)
)
texts = st.one_of(
    st.lists(words, max_size=12).map(" ".join),
    st.sampled_from(KNOWN),
    st.sampled_from(["", " ", "  ", "\t\n", "\x85", "!", "." * 50, "a " * 40, "unheard-of x", " a  b "]),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A network over terms whose weights are all different, and its graph."""

    recipe: TermsRecipe
    network: Network
    model: onnx.ModelProto
    session: ort.InferenceSession

    def run(self, batch: list[str]) -> dict[str, Array]:
        names = [self.recipe.output, "known_words"]
        feeds = flatten("text", [normalise(text) for text in batch])
        return dict(zip(names, self.session.run(names, feeds), strict=True))

    def probability(self, *batch: str) -> Array:
        return self.run(list(batch))[self.recipe.output]


def network_of(recipe: TermsRecipe) -> Network:
    random = np.random.default_rng(0)
    ranks = [INDEX[word] for word in KNOWN]
    x = Sequences.from_ranks([random.choice(ranks, random.integers(0, 12)).tolist() for _ in range(60)])
    network = recipe.network(x, np.arange(60) % 2)
    for weight in (terms_of(network).kernel, terms_of(network).bias):
        weight.assign(0.3 * random.normal(size=weight.shape))
    return recipe.finished(network)


@pytest.fixture(scope="module", params=["sentiment", "topic"])
def case(request: pytest.FixtureRequest, tiny: Tiny) -> Case:
    recipe = tiny.best[request.param]
    assert isinstance(recipe, TermsRecipe)
    network = network_of(recipe)
    model = convert(recipe, network, INDEX)
    return Case(recipe, network, model, open_session(model.SerializeToString()))


sentiment = pytest.mark.parametrize("case", ["sentiment"], indirect=True)


@settings(deadline=None, max_examples=150)
@given(batch=st.lists(texts, min_size=1, max_size=6))
def test_any_text_is_answered_as_keras_answers_its_encoding(case: Case, batch: list[str]) -> None:
    expected = text_outputs(case.recipe, case.network, batch, INDEX)
    for name, got in case.run(batch).items():
        np.testing.assert_allclose(got, expected[name], atol=2e-6, err_msg=name)


@settings(deadline=None, max_examples=100)
@given(batch=st.lists(texts, min_size=2, max_size=6))
def test_neighbours_do_not_matter(case: Case, batch: list[str]) -> None:
    together = case.run(batch)
    alone = [case.run([text]) for text in batch]
    for name, got in together.items():
        np.testing.assert_allclose(got, np.concatenate([each[name] for each in alone]), rtol=0, atol=1e-6)


def test_a_long_text_does_not_change_its_neighbours(case: Case) -> None:
    short = ["a b c", "", "zz café", "a"]
    long = "a b unheard-of c zz " * 20_000
    alone = case.probability(*short)
    np.testing.assert_allclose(case.probability(long, *short)[1:], alone, rtol=0, atol=1e-6)
    np.testing.assert_allclose(case.probability(*short, long)[:-1], alone, rtol=0, atol=1e-6)


@sentiment
def test_runs_tell_the_order_and_where_a_text_begins(case: Case) -> None:
    there, back, middle = case.probability("a b", "b a", "c a b")[:, 0]
    assert len({round(float(each), 4) for each in (there, back, middle)}) == 3
    # What ends one text is not in a run with what begins the next.
    apart = np.concatenate([case.probability(text) for text in ("a", "b", "c")])
    np.testing.assert_allclose(case.probability("a", "b", "c"), apart, rtol=0, atol=1e-6)


def test_runs_reach_across_words_outside_the_index_and_blanks(case: Case) -> None:
    plain = case.run(["a b c"])
    for between, share in (("a unheard of b nowhere x c", 3 / 7), ("  a ,b!\tc ", 1), ("unheard a b c", 3 / 4)):
        got = case.run([between])
        np.testing.assert_array_equal(got[case.recipe.output], plain[case.recipe.output])
        assert got["known_words"] == np.float32(share)


def test_an_indexed_word_that_is_no_term_parts_runs_and_is_not_known(case: Case) -> None:
    got = case.run(["a b", "a rare b", "rare"])
    assert got["known_words"].tolist() == pytest.approx([1, 2 / 3, 0])
    if case.recipe.longest_run > 1:
        assert abs(got[case.recipe.output][0] - got[case.recipe.output][1]).max() > 1e-3
    else:
        np.testing.assert_allclose(got[case.recipe.output][0], got[case.recipe.output][1], atol=1e-6)


def test_texts_without_words_are_answered_by_the_bias(case: Case) -> None:
    bias = np.asarray(terms_of(case.network).bias).astype(np.float64)
    if case.recipe.outputs == 1:
        expected = 1 / (1 + np.exp(-bias))
    else:
        exponentials = np.exp(case.recipe.sharpness * bias)
        expected = exponentials / exponentials.sum()
    batch = ["", " ", "\t\n!", "unheard-of", "." * 10_000]
    got = case.run(batch)
    np.testing.assert_allclose(got[case.recipe.output], np.tile(expected, (len(batch), 1)), atol=1e-6)
    assert not got["known_words"].any()


def test_every_occurrence_counts(case: Case) -> None:
    one, three = case.probability("a c", "a c a a")
    assert abs(one - three).max() > 1e-3
    assert case.run(["a a x x"])["known_words"] == np.float32(0.5)


@pytest.mark.parametrize("rows", [1, 7, 300])
def test_two_threads_give_the_bytes_of_one(case: Case, rows: int) -> None:
    random = np.random.default_rng(rows)
    some = [*KNOWN, "rare", "unheard-of"]
    batch = [" ".join(random.choice(some, random.integers(0, 200))) for _ in range(rows)]
    found = []
    for threads in (1, 2):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(case.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found.append(session.run(None, flatten("text", [normalise(text) for text in batch])))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
    assert found[0][0].shape == (rows, case.recipe.outputs)


def test_cost_follows_the_words_of_the_batch(case: Case) -> None:
    """No tensor of the graph is larger than the words and the texts, times the outputs: none is rows × longest."""
    traced = shape_inference.infer_shapes(case.model)
    known = {value.name for value in traced.graph.output}
    traced.graph.output.extend(value for value in traced.graph.value_info if value.name not in known)
    assert {value.name for value in traced.graph.output} >= {name for node in traced.graph.node for name in node.output}
    session = open_session(traced.SerializeToString())
    batch = ["a b c zz " * 500, *["a b"] * 100]
    feeds = flatten("text", [normalise(text) for text in batch])
    tokens = int(feeds["text_tokens"].sum())
    largest = max(np.size(tensor) for tensor in session.run(None, feeds))
    assert largest <= (tokens + len(batch)) * case.recipe.outputs < len(batch) * 2_000 * case.recipe.outputs


def test_the_graph_is_clean_and_takes_and_gives_what_packages_do(case: Case) -> None:
    checker.check_model(case.model, full_check=True)
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*case.model.graph.input, *case.model.graph.output)
    }
    outputs = {case.recipe.output: ["N", case.recipe.outputs], "known_words": ["N"]}
    assert shapes == {"text": [1], "text_tokens": ["N"], **outputs}
    assert list(shapes)[2:] == list(outputs)
    used = {operand for node in case.model.graph.node for operand in node.input}
    assert {tensor.name for tensor in case.model.graph.initializer} <= used
    assert {node.domain for node in case.model.graph.node} == {"", "ai.onnx.ml"}
    assert case.model.producer_name == "triptych"


def test_the_same_network_gives_the_same_bytes(case: Case) -> None:
    network_of(case.recipe)  # moves on Keras's counters of names
    again = convert(case.recipe, case.network, INDEX)
    assert again.SerializeToString(deterministic=True) == case.model.SerializeToString(deterministic=True)
    anew = convert(case.recipe, network_of(case.recipe), INDEX)
    assert anew.SerializeToString(deterministic=True) == case.model.SerializeToString(deterministic=True)


def test_other_networks_are_refused(case: Case, tiny: Tiny) -> None:
    name, outputs = case.recipe.name, case.recipe.outputs
    with pytest.raises(ExportError, match=f"{name}: the network knows no terms"):
        convert(case.recipe, build(tiny.recipes[name]), INDEX)
    with pytest.raises(ExportError, match=rf"{name}: the network maps .*, {outputs}\), not .*, {outputs + 1}\)"):
        convert(dataclasses.replace(case.recipe, outputs=outputs + 1), case.network, INDEX)
    with pytest.raises(ExportError, match=rf"{name}: the network maps .* not \(None, 10000\)"):
        convert(tiny.recipes[name], case.network, INDEX)


def weights(**changes: Any) -> Weights:
    keys = np.array([4, 5, 4 << WORD_BITS | 5])
    made = Weights(keys, np.ones((3, 1), np.float32), np.float32([1, 1, 0]), np.zeros(1, np.float32), 1.0)
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize(
    ("index", "changes"),
    [
        ({"a": 1}, {"weights": np.ones((3, 2), np.float32), "bias": np.zeros(2, np.float32)}),
        ({"a": 1}, {"squares": np.ones(3, np.float32)}),
        ({"a": 1 << WORD_BITS}, {}),
    ],
    ids=["two units", "runs with a length", "words of 18 bits"],
)
def test_what_the_graph_cannot_hold_is_refused(index: dict[str, int], changes: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match="runs of words may have one weight each"):
        terms_front({**index, "b": 2}, weights(**changes))
    terms_front({"a": 1, "b": 2}, weights())


# A whole package, trained.


@dataclasses.dataclass(frozen=True)
class Trained:
    recipe: TermsRecipe
    data: Data
    network: Network

    def export(self) -> dict[str, bytes]:
        graph = graph_of(self.recipe, self.data, self.network, predict(self.recipe, self.network, self.data.x_test))
        return export(self.recipe, self.data, self.network, graph, 2, Training({}, "by hand", {})).files


@pytest.fixture(scope="module", params=["sentiment", "topic"])
def trained(request: pytest.FixtureRequest, tiny: Tiny) -> Trained:
    recipe = tiny.best[request.param]
    assert isinstance(recipe, TermsRecipe)
    data = load(recipe.dataset, tiny.data)
    word = {rank: word for word, rank in data.word_index.items()}
    assert isinstance(data.x_train, Sequences)
    of_training = [" ".join(word[each - 3] for each in data.x_train[row][1:]) for row in range(12)]
    raw = [RawText(f"{text.upper()}, unheard-of!", row) for row, text in enumerate(of_training)]
    data = dataclasses.replace(data, raw_test=raw)
    return Trained(recipe, data, train(recipe, data.x_train, data.y_train, "final", lambda *_: None))


def test_a_package_from_end_to_end(trained: Trained) -> None:
    files = trained.export()
    manifest = parse(files["model.json"])
    session = open_session(files["model.onnx"])
    inputs = manifest.golden.inputs["text"]
    assert inputs[0] == trained.data.raw_test[0].text
    names = [output.name for output in session.get_outputs()]
    outputs = session.run(names, flatten("text", [normalise(text) for text in inputs]))
    for name, got in zip(names, outputs, strict=True):
        np.testing.assert_allclose(got, golden_array(manifest.golden.outputs[name], "FP32"), atol=1e-5, rtol=1e-5)
    # Of the training texts, every word is a term; what stands behind each is none.
    known = dict(zip(names, outputs, strict=True))["known_words"]
    for text, share in zip(inputs[:8], known, strict=False):
        count = len(normalise(text).split())
        assert share == pytest.approx((count - 2) / count)  # "unheard-of" is two words


def test_a_package_that_knows_other_words_is_refused(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    real = terms_graph.count

    def one_more(of: str, what: str, above: str) -> list[onnx.NodeProto]:
        return real(of, what, "minus_one" if what == "word" else above)

    monkeypatch.setattr(terms_graph, "count", one_more)
    with pytest.raises(ExportError, match=f"{trained.recipe.name}, raw texts: known_words leaves the tolerance"):
        trained.export()
