"""Work in a process of its own, so that its peak memory and its TensorFlow state are its own."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from training.errors import TrainingError

Result = TypeVar("Result")


def in_own_process(name: str, work: Callable[..., Result], *arguments: Any) -> Result:
    """Run `work(*arguments)` in a new process and wait for it; Ctrl-C is passed on, and waits for it to tidy up.

    Args:
        name: what the work is, for an error message.
        work: a function of a module; it, its arguments and its result are pickled.
        arguments: what it is called with.

    Raises:
        TrainingError: it failed, with its reason.
        KeyboardInterrupt: it was interrupted.
    """
    # spawn, not fork: TensorFlow's threads don't survive a fork, and a fork would inherit this process's memory.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(work, arguments, sender))
    process.start()
    sender.close()
    try:
        result, error = receiver.recv()
    except EOFError:
        process.join()
        raise TrainingError(f"{name}: its process ended early, exit code {process.exitcode}") from None
    except KeyboardInterrupt:
        # A terminal has sent it the signal already; `kill -INT` on this process alone has not.
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGINT)
        raise
    finally:
        process.join()
    if error is not None:
        raise error
    value: Result = result
    return value


def _child(work: Callable[..., Any], arguments: tuple[Any, ...], sender: Connection) -> None:
    def interrupt(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough: a second would cut the tidying short
        raise KeyboardInterrupt

    result: tuple[Any, BaseException | None]
    try:
        signal.signal(signal.SIGINT, interrupt)
        result = work(*arguments), None
    except (TrainingError, KeyboardInterrupt) as error:
        result = None, error
    with contextlib.suppress(BrokenPipeError):  # the parent was interrupted and no longer listens
        sender.send(result)
