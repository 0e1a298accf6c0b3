"""The float16 twin of a package that exists: another graph and tolerance, the same golden examples; without Keras."""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError

from serving.package.manifest import MANIFEST, MODEL, Manifest, dump, golden_array, parse
from serving.package.text import Normaliser, flatten
from training.data import Array, Data, load
from training.errors import GateError, TrainingError, one_line
from training.evaluate import Feeds, check_graph, open_session, run, score, test_feeds
from training.gate import Verdict, judge, predecessor
from training.models import RECIPES, Recipe
from training.packaging.half import half, has_half
from training.packaging.half_parity import hold, metrics_of, told, tolerance
from training.packaging.package import digest_of
from training.provenance import code


@dataclass(frozen=True)
class Tested:
    """What a twin answers to the whole test set."""

    recipe: Recipe
    data: Data
    answers: Array
    """[N, outputs]"""


@dataclass(frozen=True)
class Twin:
    """A package not yet on disk."""

    manifest: Manifest
    files: dict[str, bytes]
    told: str
    """How far it is from the package that it is the twin of, for people."""
    bytes_before: int
    """Of that package's graph."""
    tested: Tested | None
    """None where it was held to the golden examples alone."""


def twin(place: Path, data: Path | None, version: int | None = None) -> Twin:
    """Make the float16 twin of the package in the folder `place`.

    Its graph is held to the golden examples, which are Keras's; and, where `data` is given and a test set is known, to
    the package's own graph on the whole test set, on which its figures are then measured, too.

    Args:
        place: `<repository>/<name>/<version>`.
        data: the folder of the data sets; None holds it to the golden examples alone.
        version: of the twin; None means the package's own.

    Raises:
        TrainingError: there is no package there, it is float16 already or can't be made so, or the twin is beyond the
            parity bound.
    """
    manifest, before, model = _read(place)
    graph = half(model)
    golden = {spec.name: golden_array(manifest.golden.outputs[spec.name], spec.datatype) for spec in manifest.outputs}
    held = hold(f"{place}, golden examples", graph, golden, lambda: [_golden_feeds(manifest)], manifest.task)
    whose = "Keras on the golden examples"
    tested = None
    recipe = RECIPES.get(manifest.name)
    metrics = {
        **manifest.metrics,
        **metrics_of(held, {}),
        "protocol": f"the test and validation figures are of the float32 package: {manifest.metrics.get('protocol')}",
    }
    if data is not None and recipe is not None:
        check_graph(recipe, before, str(place))
        loaded = load(recipe.dataset, data)
        try:
            wanted = run(open_session(before), test_feeds(recipe, loaded))
        except Exception as error:  # ONNX Runtime's own have no common ancestor
            raise TrainingError(f"{place} can't be measured: {one_line(error)}") from error
        expected = {recipe.output: wanted.pop(recipe.output), **wanted}
        whose = "the float32 graph on the test set"
        held = hold(
            f"{place}, test set",
            graph,
            expected,
            lambda: test_feeds(recipe, loaded),
            manifest.task,
            source="the float32 graph",
        )
        tested = Tested(recipe, loaded, held.answers[recipe.output])
        test = score(recipe, held.answers[recipe.output], loaded.y_test)
        metrics |= {f"test_{name}": round(value, 6) for name, value in test.items()}
        metrics |= metrics_of(held, score(recipe, expected[recipe.output], loaded.y_test))
        metrics["protocol"] = (
            f"test: the {len(loaded.y_test):,} test samples, measured with this float16 graph; the rest is of the "
            f"float32 package: {manifest.metrics.get('protocol')}"
        )
    made, files = _signed(manifest, graph, metrics, version)
    unit = recipe.unit if recipe is not None else ""
    return Twin(made, files, told(held, whose, unit), len(before), tested)


def judged(made: Twin, folder: Path, force: bool) -> tuple[Twin, str]:
    """Hold a twin to the version that it would take over from in `folder`, as `fit` and `publish` do.

    Returns:
        The twin, with the verdict in its provenance where that was overridden; and the verdict, for people.

    Raises:
        GateError: it is significantly worse, or nothing can tell: it was not tested, or what is there can't be.
    """
    before = predecessor(folder)
    if made.tested is not None:
        verdict = judge(made.tested.recipe, made.tested.data, made.tested.answers, folder, force, "float16")
    elif before is None:
        verdict = Verdict("", None, "", forced=False)
    elif force:
        verdict = Verdict(f"{made.manifest.name}/{before.name}", None, "", forced=True)
    else:
        why = (
            "expected --data, or another --out"
            if made.manifest.name in RECIPES
            else f"no test set is known for {made.manifest.name!r}; expected another --out"
        )
        raise GateError(
            f"not published: the golden examples alone don't say that the twin is no worse than {before}: {why}, or "
            "--force"
        )
    if not verdict.forced:
        return made, str(verdict)
    manifest = msgspec.structs.replace(made.manifest, provenance={**made.manifest.provenance, "forced": str(verdict)})
    return replace(made, manifest=manifest, files={**made.files, MANIFEST: dump(manifest)}), str(verdict)


def _read(place: Path) -> tuple[Manifest, bytes, onnx.ModelProto]:
    """The package in the folder `place`: what it says, its graph's bytes, and the graph."""
    try:
        manifest = parse((place / MANIFEST).read_bytes())
        before = (place / MODEL).read_bytes()
    except (OSError, ValueError) as error:
        raise TrainingError(f"{place} is not a model package: {one_line(error)}") from error
    if digest_of(before) != manifest.files[MODEL]:
        raise TrainingError(f"{place / MODEL} is damaged: its SHA-256 is not the manifest's")
    if others := sorted(manifest.files.keys() - {MODEL}):
        raise TrainingError(f"{place} has more files, {', '.join(others)}: expected {MODEL} to be all of the graph")
    try:
        model = onnx.load_model_from_string(before)
    except DecodeError as error:
        raise TrainingError(f"{place / MODEL} is not an ONNX graph: {one_line(error)}") from error
    if has_half(model):
        raise TrainingError(f"{place} is float16 already, wholly or in part: expected a float32 package")
    return manifest, before, model


def _signed(
    manifest: Manifest, graph: onnx.ModelProto, metrics: dict[str, object], version: int | None
) -> tuple[Manifest, dict[str, bytes]]:
    """The twin of the package of `manifest`, with checksum and provenance of its own, and its files."""
    model = graph.SerializeToString(deterministic=True)
    before = manifest.files[MODEL]
    made = msgspec.structs.replace(
        manifest,
        version=version or manifest.version,
        metrics=metrics,
        provenance={
            **{name: value for name, value in manifest.provenance.items() if name != "forced"},
            "export_precision": "float16",
            "float32_model_sha256": before.sha256,
            "float16_made_by": {"code": code(), "onnx": onnx.__version__, "onnxruntime": ort.__version__},
        },
        files={**manifest.files, MODEL: digest_of(model)},
        golden=msgspec.structs.replace(manifest.golden, tolerance=tolerance()),
    )
    return made, {MODEL: model, MANIFEST: dump(made)}


def _golden_feeds(manifest: Manifest) -> Feeds:
    """The golden inputs as a server feeds them."""
    feeds: dict[str, Array] = {}
    for spec in manifest.inputs:
        values = manifest.golden.inputs[spec.name]
        if spec.text is None:
            feeds[spec.name] = golden_array(values, spec.datatype)
            continue
        normalise = Normaliser(spec.text)
        texts = [normalise(text) for text in values]
        if spec.layout == "flat":
            feeds |= flatten(spec.name, texts)
        else:
            feeds[spec.name] = np.array([text.decode() for text in texts], dtype=np.object_)
    return feeds
