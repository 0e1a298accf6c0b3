"""What a verified load onto a GPU has besides: want of memory that may pass, nodes that are there, a pipe once full."""

from concurrent.futures import ThreadPoolExecutor

from serving.engine.batcher import DEPTH, Batch
from serving.engine.device import CPU, Device, beyond_limit, out_of_memory
from serving.engine.engine import Runner
from serving.engine.placement import Placement
from serving.engine.session import ProfileError, Session
from serving.repository.disk import LoadError


def unloadable(error: Exception, device: Device) -> LoadError:
    """Why ONNX Runtime can't load a graph: for want of memory on a GPU, which others may give back, or whatever."""
    if isinstance(error, ProfileError):
        return LoadError("load_error", str(error), lasting=False)
    if device.provider == CPU or not out_of_memory(error):
        return LoadError("load_error", f"ONNX Runtime can't load it: {error}")
    if beyond_limit(error):
        return LoadError("load_error", f"it needs more than --gpu-memory-limit allows: {error}")
    memory = device.memory()
    left = "" if memory is None else f", where {memory.free >> 20} of {memory.total >> 20} MiB are free"
    return LoadError("load_error", f"there is no memory for it on {device.name}{left}: {error}", lasting=False)


def placement(session: Session) -> Placement:
    """Where the golden examples were computed, whatever the session says of itself.

    Raises:
        LoadError: nowhere on the device.
    """
    found = session.placement()
    if not found.count(session.provider):
        raise LoadError("load_error", f"none of its nodes runs on {session.provider}; --device cpu can serve it")
    return found


def fill_pipe(runner: Runner, batch: Batch, seconds: float) -> None:
    """Compute as many of the largest batches at once as will be: each has memory of its own, which must be there.

    They must end within `seconds`.

    Raises:
        LoadError: it is not.
    """
    try:
        with runner.session.bounded(seconds), ThreadPoolExecutor(DEPTH) as pool:
            for run in [pool.submit(runner, batch) for _ in range(DEPTH)]:
                run.result()
    except Exception as error:
        raise LoadError(
            "load_error",
            f"it can't compute {DEPTH} batches of {batch.rows} rows at once: {error}",
            lasting=beyond_limit(error) or not out_of_memory(error),
        ) from error
