"""What a developer gives with a network of their own: real input rows, and labels."""

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from serving.package.manifest import NUMPY_TYPES, InputSpec, OutputSpec, Task
from training.data import Array
from training.errors import DataError, one_line
from training.packaging.signature import described, fitting


def read_examples(path: Path, inputs: tuple[InputSpec, ...]) -> dict[str, Array]:
    """The arrays of the npz file `path`, by the name of the input that each belongs to, in the inputs' types.

    Floats are rounded to the input's precision; any other value must be one that the input's type holds exactly.

    Args:
        path: it holds one array for each input, named after it, axis 0 the rows, as many in each.
        inputs: what the network takes.

    Raises:
        DataError: the file does not hold that; says what was found and what was expected.
    """
    expected = f"expected an npz file with one array for each of {', '.join(described(spec) for spec in inputs)}"
    try:
        # Opened here: NumPy leaves the file open where it turns out to be no archive.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    # TypeError: one array, not an archive of them. The last three: cut short.
    except (OSError, ValueError, TypeError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path} can't be read ({one_line(error)}): {expected}") from error
    fitted = {fitting(name): name for name in arrays}
    if len(fitted) < len(arrays) or fitted.keys() != {spec.name for spec in inputs}:
        raise DataError(f"{path} holds {', '.join(arrays) or 'nothing'}: {expected}")
    examples = {spec.name: _typed(path, spec, arrays[fitted[spec.name]]) for spec in inputs}
    rows = {name: len(array) for name, array in examples.items()}
    if len(set(rows.values())) != 1 or not min(rows.values()):
        raise DataError(f"{path}: expected the same number of rows for each input, at least one; found {rows}")
    return examples


def read_labels(path: Path, task: Task, outputs: tuple[OutputSpec, ...]) -> tuple[str, ...]:
    """The lines of the text file `path`: two for a binary classification, else as many as an output has columns.

    Raises:
        DataError: it can't be read, or doesn't hold that; says what was expected.
    """
    try:
        labels = tuple(path.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} can't be read ({one_line(error)}): expected UTF-8 text, a line for each label"
        ) from error
    if "" in labels or len(set(labels)) < len(labels):
        raise DataError(f"{path}: expected a different label in each line, and no empty line")
    if task == "regression":
        raise DataError(f"{path}: expected no labels for a regression")
    columns = {2} if task == "binary-classification" else {spec.shape[-1] for spec in outputs if len(spec.shape) > 1}
    if len(labels) not in columns:
        expected = " or ".join(map(str, sorted(columns))) or "none, as no output has columns"
        raise DataError(f"{path} holds {len(labels)} labels: expected {expected}")
    return labels


def _typed(path: Path, spec: InputSpec, array: Array) -> Array:
    if array.shape[1:] != spec.shape[1:] or not array.ndim:
        raise DataError(f"{path}: {spec.name} has shape {list(array.shape)}: expected {described(spec)}")
    wanted = np.dtype(NUMPY_TYPES[spec.datatype])
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: {spec.name} holds values of type {array.dtype}: expected {described(spec)}")
    with np.errstate(all="ignore"):
        typed = array.astype(wanted)
        rounding = array.dtype.kind == wanted.kind == "f"
        unchanged = rounding or np.array_equal(typed.astype(array.dtype), array)
    if not unchanged:
        raise DataError(f"{path}: {spec.name} holds {array.dtype} values that {spec.datatype} does not: {_odd(array)}")
    if wanted.kind == "f" and np.isinf(typed).any():
        raise DataError(f"{path}: {spec.name} holds infinities, or values too large for {spec.datatype}; expected none")
    return typed


def _odd(array: Array) -> str:
    return f"they go from {array.min()} to {array.max()}"
