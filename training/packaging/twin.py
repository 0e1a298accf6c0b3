"""The float16 twin of a package that exists: another graph and tolerance, the same golden examples; without Keras."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort

from serving.package.manifest import MANIFEST, MODEL, Manifest, digest, dump, golden_array, parse
from serving.package.text import Normaliser, flatten
from training.data import Array, load
from training.errors import TrainingError, one_line
from training.evaluate import Feeds, open_session, run, score, test_feeds
from training.models import RECIPES
from training.packaging.half import half
from training.packaging.half_parity import Held, hold, metrics_of, told, tolerance
from training.packaging.package import digest_of
from training.provenance import code


@dataclass(frozen=True)
class Twin:
    """A package not yet on disk."""

    manifest: Manifest
    files: dict[str, bytes]
    told: str
    """How far it is from the package that it is the twin of, for people."""
    bytes_before: int
    """Of that package's graph."""


def twin(place: Path, data: Path | None, version: int | None = None) -> Twin:
    """Make the float16 twin of the package in the folder `place`.

    Its graph is held to the golden examples, which are Keras's; and, where `data` is given and a test set is known, to
    the package's own graph on the whole test set, on which its figures are then measured, too.

    Args:
        place: `<repository>/<name>/<version>`.
        data: the folder of the data sets; None holds it to the golden examples alone.
        version: of the twin; None means the package's own.

    Raises:
        TrainingError: there is no package there, it can't be made float16, or the twin is beyond the parity bound.
    """
    try:
        manifest = parse((place / MANIFEST).read_bytes())
        before = (place / MODEL).read_bytes()
    except (OSError, ValueError) as error:
        raise TrainingError(f"{place} is not a model package: {one_line(error)}") from error
    if digest(place / MODEL) != manifest.files[MODEL]:
        raise TrainingError(f"{place / MODEL} is damaged: its SHA-256 is not the manifest's")
    graph = half(onnx.load_model_from_string(before))
    golden = {spec.name: golden_array(manifest.golden.outputs[spec.name], spec.datatype) for spec in manifest.outputs}
    held = hold(f"{place}, golden examples", graph, golden, lambda: [_golden_feeds(manifest)], manifest.task)
    whose = "Keras on the golden examples"
    recipe = RECIPES.get(manifest.name)
    metrics = {
        **manifest.metrics,
        **metrics_of(held, {}),
        "protocol": f"the test and validation figures are of the float32 package: {manifest.metrics.get('protocol')}",
    }
    if data is not None and recipe is not None:
        loaded = load(recipe.dataset, data)
        wanted = run(open_session(before), test_feeds(recipe, loaded))
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
        test = score(recipe, held.answers[recipe.output], loaded.y_test)
        metrics |= {f"test_{name}": round(value, 6) for name, value in test.items()}
        metrics |= metrics_of(held, score(recipe, expected[recipe.output], loaded.y_test))
        metrics["protocol"] = (
            f"test: the {len(loaded.y_test):,} test samples, measured with this float16 graph; the rest is of the "
            f"float32 package: {manifest.metrics.get('protocol')}"
        )
    return _signed(manifest, graph, held, metrics, whose, version)


def _signed(
    manifest: Manifest,
    graph: onnx.ModelProto,
    held: Held,
    metrics: dict[str, object],
    whose: str,
    version: int | None,
) -> Twin:
    """The twin of the package of `manifest`, with checksum and provenance of its own."""
    model = graph.SerializeToString(deterministic=True)
    before = manifest.files[MODEL]
    made = msgspec.structs.replace(
        manifest,
        version=version or manifest.version,
        metrics=metrics,
        provenance={
            **manifest.provenance,
            "export_precision": "float16",
            "float32_model_sha256": before.sha256,
            "float16_made_by": {"code": code(), "onnx": onnx.__version__, "onnxruntime": ort.__version__},
        },
        files={**manifest.files, MODEL: digest_of(model)},
        golden=msgspec.structs.replace(manifest.golden, tolerance=tolerance()),
    )
    return Twin(made, {MODEL: model, MANIFEST: dump(made)}, told(held, whose), before.bytes)


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
