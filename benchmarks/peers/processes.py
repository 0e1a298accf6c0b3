"""A peer's processes: started together, stopped together, put to sleep while others are measured, and added up."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.machine import pinned
from benchmarks.peers.environments import FOLDER, python
from benchmarks.peers.registry import Peer
from benchmarks.servers import REPOSITORY, ServerFailed

_MARK = "TRIPTYCH_PEER"
_READY_SECONDS = 120.0
_STOP_SECONDS = 10.0
_PAUSE_ROUNDS = 5


@dataclass(frozen=True)
class Tree:
    """A process and all that it started, those included that left its tree."""

    root: int
    mark: str = ""
    """In the environment of each of them, where it was given one."""

    def members(self) -> list[psutil.Process]:
        """Those that live."""
        found = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.root)
            found = {one.pid: one for one in (root, *root.children(recursive=True))}
        if self.mark:
            for one in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    if one.pid not in found and one.environ().get(_MARK) == self.mark:
                        found[one.pid] = one
        return [one for one in found.values() if _lives(one)]

    def cpu_seconds(self) -> float:
        """CPU time so far, user and system; that of children that ended is with the parents that waited for them."""
        seconds = 0.0
        for one in self.members():
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                seconds += times.user + times.system + times.children_user + times.children_system
        return seconds

    def memory_bytes(self) -> tuple[int, int]:
        """Resident memory: as each process counts it, and with what they share counted once (PSS)."""
        resident = proportional = 0
        for one in self.members():
            with contextlib.suppress(psutil.Error):
                full = one.memory_full_info()
                resident, proportional = resident + full.rss, proportional + full.pss
        return resident, proportional

    def keeps_to(self, core: int | None) -> bool:
        """Has none of them gone to another core?"""
        for one in self.members() if core is not None else ():
            with contextlib.suppress(psutil.Error):
                if one.cpu_affinity() != [core]:
                    return False
        return True

    def pause(self) -> None:
        """Stop them all where they are."""
        stopped: set[int] = set()
        # What one of them starts before it is stopped itself is caught in the next look.
        for _ in range(_PAUSE_ROUNDS):
            if not (new := {one.pid for one in self.members()} - stopped):
                return
            self._send(signal.SIGSTOP, new)
            stopped |= new

    def resume(self) -> None:
        """Let them go on."""
        self._send(signal.SIGCONT, {one.pid for one in self.members()})

    def kill(self) -> None:
        """End them all at once."""
        self._send(signal.SIGKILL, {one.pid for one in self.members()})

    def _send(self, number: signal.Signals, to: set[int]) -> None:
        for pid in to:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


@dataclass(frozen=True)
class Running:
    """A peer that answers."""

    address: str
    tree: Tree
    ready_seconds: float
    """From the start of its first process to a right answer for each model."""


@contextmanager
def started(peer: Peer, core: int | None, answers: Callable[[str], bool]) -> Iterator[Running]:
    """A peer on `core` with all its processes, in a folder and a session of their own.

    Args:
        peer: which one.
        core: None: wherever the system puts it.
        answers: does it, at that address, give a right answer for each model? May raise while it does not.

    Raises:
        ServerFailed: it does not start; the message has its last words.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        address, mark, log = f"127.0.0.1:{_free_port()}", uuid.uuid4().hex, Path(folder) / "log.txt"
        (work := Path(folder) / "work").mkdir()
        begun = time.monotonic()
        with pinned(core), log.open("wb") as output:
            process = subprocess.Popen(
                _command(peer, address), cwd=work, env=_environment(peer.folder, mark), stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        tree = Tree(process.pid, mark)
        try:
            while not _answers(answers, address):
                if process.poll() is not None:
                    raise ServerFailed(f"it ended with {process.returncode}: {_last_words(log)}")
                if time.monotonic() - begun > _READY_SECONDS:
                    raise ServerFailed(f"no right answers after {_READY_SECONDS:.0f} s: {_last_words(log)}")
                time.sleep(0.02)
            yield Running(address, tree, time.monotonic() - begun)
        finally:
            _stop(process, tree)


def _command(peer: Peer, address: str) -> list[str]:
    program = (str(python(peer.folder)), str(FOLDER / peer.folder / "serve.py"))
    port, models = address.rpartition(":")[2], str(REPOSITORY / "models")
    return [*program, "--port", port, "--models", models, *peer.options]


def _environment(name: str, mark: str) -> dict[str, str]:
    """As in a shell in which the peer's environment is activated."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "TRIPTYCH"))}
    folder = python(name).parent
    path = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**kept, _MARK: mark, "PATH": path, "PYTHONPATH": str(FOLDER), "VIRTUAL_ENV": str(folder.parent)}


def _answers(answers: Callable[[str], bool], address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        # grpcio waits longer and longer before it tries again, so it is asked only once somebody listens.
        socket.create_connection((host, int(port)), timeout=1).close()
        return answers(address)
    except Exception:  # noqa: BLE001 - whatever a server does that is not ready yet
        return False


def _stop(process: "subprocess.Popen[bytes]", tree: Tree) -> None:
    tree.resume()
    members = tree.members()
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    psutil.wait_procs(members, timeout=1)
    tree.kill()
    process.wait()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-400:] or "it said nothing"
