"""An epoch of sentiment in a process of its own: batches encoded as they are needed, or one dense array of all.

`python -m benchmarks.epochs WAY EPOCHS DATA` trains, and prints what it took as JSON.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

WAYS = ("batches", "dense")
"""The first is the project's own; the second that of the book's listings 4.4 and 4.8."""


def main(way: str, epochs: int, data: Path) -> dict[str, Any]:
    """Train for so many epochs.

    Returns:
        Seconds of each epoch, seconds to encode before the first one, and resident memory in MiB: before the training
        data was encoded, and at most.
    """
    from dataclasses import replace

    import keras

    from training.data import IMDB, load
    from training.fit import make_deterministic
    from training.models import SENTIMENT
    from training.pipeline import multi_hot_batches, steps

    recipe, samples = SENTIMENT, load(IMDB, data)
    x, y = samples.x_train, samples.y_train
    make_deterministic(recipe.seed)
    network = recipe.network(x, y)
    before = memory("VmRSS")
    clock: list[float] = []
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: clock.append(time.perf_counter()))]
    started = time.perf_counter()
    if way == "batches":
        batches = multi_hot_batches(replace(recipe, epochs=epochs), x, y, recipe.seed)
        clock.append(time.perf_counter())
        per_epoch = steps(recipe, len(y))
        network.fit(batches, epochs=epochs, steps_per_epoch=per_epoch, shuffle=False, verbose=0, callbacks=callbacks)
    else:
        dense = np.zeros((len(y), recipe.features), dtype=np.float32)
        for row in range(len(y)):  # all at once would need more memory on the way
            dense[row] = x.batch(np.array([row]))[0]
        clock.append(time.perf_counter())
        network.fit(dense, y, epochs=epochs, batch_size=recipe.batch_size, verbose=0, callbacks=callbacks)
    return {
        "encode_seconds": clock[0] - started,
        "epoch_seconds": np.diff(clock).tolist(),
        "before_mib": before,
        "peak_mib": memory("VmHWM"),
        "loss": float(network.history.history["loss"][-1]),
    }


def memory(name: str, process: int | str = "self") -> float:
    """MiB of `process` as the kernel says; `ru_maxrss` would begin with the parent's.

    Args:
        name: VmRSS, now, or VmHWM, at most.
        process: its id.

    Raises:
        ProcessLookupError: it is over.
    """
    path = Path(f"/proc/{process}/status")
    try:
        found = next((line for line in path.read_text().splitlines() if line.startswith(name)), None)
    except FileNotFoundError:
        found = None
    if found is None:  # one that is over but was not waited for has no memory
        raise ProcessLookupError(f"process {process} is over, or this is no Linux")
    return int(found.split()[1]) / 2**10


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
