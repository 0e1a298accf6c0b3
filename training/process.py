"""A function in a process of its own, so that its peak memory and its TensorFlow state are its own."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from training.errors import EndedEarlyError, TrainingError, one_line

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def run_in_own_process(function: Callable[[Argument], Result], argument: Argument, name: str) -> Result:
    """`function(argument)` in a new process, waited for; Ctrl-C is passed on, and waits for the process to tidy up.

    Args:
        function: of a module's top level; what it takes and gives is pickled.
        argument: what it takes.
        name: of the work, for errors.

    Raises:
        TrainingError: it raised one, or could not read or write a file.
        EndedEarlyError: its process ended without a result: killed, out of memory, or by a defect here.
        KeyboardInterrupt: it was interrupted.
    """
    # spawn, not fork: TensorFlow's threads don't survive a fork, and a fork would inherit this process's memory.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(function, argument, sender))
    # SIGTERM, a container's or a machine's, ends the work as Ctrl-C does.
    before = (
        signal.signal(signal.SIGTERM, _interrupt) if threading.current_thread() is threading.main_thread() else None
    )
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        raise EndedEarlyError(f"{name}: its process ended early, exit code {process.exitcode}") from None
    except KeyboardInterrupt:
        # A terminal has sent it the signal already; `kill -INT` on this process alone has not.
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGINT)
        raise
    finally:
        process.join()
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    if isinstance(result, TrainingError | KeyboardInterrupt):
        raise result
    done: Result = result
    return done


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Interrupt this process when its parent is gone: nobody wants any more what it would publish."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGINT)


def _child(function: Callable[[Any], Any], argument: Any, sender: Connection) -> None:
    def interrupt(*_: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough: a second would cut the tidying short
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, interrupt)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        result = function(argument)
    except (TrainingError, KeyboardInterrupt) as error:
        result = error
    except OSError as error:  # a full disk, a folder that went away
        result = TrainingError(one_line(error))
    with contextlib.suppress(BrokenPipeError):  # the parent was interrupted and no longer listens
        sender.send(result)
