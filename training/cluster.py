"""The machines that train together, as `TF_CONFIG` names them; read without TensorFlow."""

import json
import os

from training.errors import TrainingError
from training.options import Distribute

VARIABLE = "TF_CONFIG"
ROLES = {"chief", "worker"}


def is_chief(kind: Distribute) -> bool:
    """Whether this process writes files, the package included; of several workers only one does.

    Raises:
        TrainingError: there are to be several, and `TF_CONFIG` doesn't say which.
    """
    if kind != "multi-worker":
        return True
    workers, (role, index) = cluster()
    return (role, index) == ("chief" if "chief" in workers else "worker", 0)


def cluster() -> tuple[dict[str, list[str]], tuple[str, int]]:
    """Addresses by role, and this process's role and index among them, from `TF_CONFIG`.

    Raises:
        TrainingError: it isn't set, or makes no sense.
    """
    example = '{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}'
    advice = f"It must be, other on each machine, such as {example}."
    if not (text := os.environ.get(VARIABLE)):
        raise TrainingError(f"multi-worker: ${VARIABLE} is not set. {advice}")
    try:
        settings = json.loads(text)
        workers, task = settings["cluster"], settings["task"]
        role, index = task["type"], int(task["index"])
        if not all(isinstance(addresses, list) for addresses in workers.values()):
            raise TypeError("addresses must be lists")
        workers[role][index]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise TrainingError(f"multi-worker: ${VARIABLE} names no task of its cluster: {text!r}. {advice}") from error
    if not workers.keys() <= ROLES or index < 0:
        raise TrainingError(f"multi-worker: ${VARIABLE} has other roles than chief and worker: {text!r}. {advice}")
    return workers, (role, index)
