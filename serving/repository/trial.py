"""A trial: a package is checked and run in a process of its own before a server takes it into its own.

What takes all memory, never ends or crashes does so there; and `onnx`, whose checker is the other reason for a trial,
is never loaded by a server. The child inherits nothing but what it needs, may use so much memory and time, and can
write no file. It answers with one line of JSON.
"""

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import msgspec

from serving.engine.device import CPU, Device
from serving.package.manifest import MODEL, Manifest
from serving.repository import disk, verify
from serving.repository.disk import LoadError

SECONDS: Final = 60.0
"""Of computing, on the CPU."""
PATIENCE: Final = 10
"""Times as long may pass by the clock: a trial takes only the time that a busy machine has to spare."""
BASE_BYTES: Final = 2 * 1024**3
PER_MODEL_BYTE: Final = 8
"""Memory that a trial may take: this much, and so much more for each byte of the graph, which two libraries parse and
copy. At most half of what the machine, or the container, has left: the rest is the server's."""

_BOOTSTRAP: Final = "import json,sys;j=json.load(sys.stdin);sys.path[:]=j.pop('path');" + (
    "from serving.repository.trial import child;child(j)"
)
_ENVIRONMENT: Final = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "ORT_DISABLE_TELEMETRY")
_ALONE: Final = {
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}

_ANSWER_BYTES: Final = 65536
"""What a pipe holds without anybody reading it (pipe(7)): what is more is never written."""
_MESSAGE_CHARACTERS: Final = 2000
_NO_MEMORY: Final = (
    *("bad_alloc", "bad allocation", "allocate memory", "Unable to allocate", "MemoryError"),
    "compile> returned NULL without setting an exception",
)
"""How libraries say it; the last is how Python's compiler does."""

_OUT_OF_MEMORY: Final = "memory"
_READY: Final = "ready"

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


class Trial(NamedTuple):
    """What a trial took that was passed."""

    seconds: Mapping[str, float]
    """By step, in order: start, checksum, static, checker, session, signature, golden, warm-up."""
    peak_bytes: int
    """Resident memory, at most."""


class _Answer(msgspec.Struct):
    outcome: str
    message: str
    seconds: dict[str, float]
    peak_bytes: int
    lasting: bool = True


def try_out(
    models: Path,
    folder: Path,
    name: str,
    version: int,
    digest: str,
    *,
    seconds: float = SECONDS,
    memory_bytes: int | None = None,
    max_batch_rows: int = 256,
) -> Trial:
    """Check and run the package in `folder` in a process of its own, on the CPU; blocks until that ends.

    `digest` is that of the package which was read: another one that lies there now is refused. The child may compute
    for `seconds`, and take `memory_bytes` (None: as much as its graph makes plausible) beyond its code.

    Raises:
        LoadError: `checker` where the graph breaks a rule of ONNX, `load_error` where the child takes more than it
            may, crashes or can't be started; and whatever else `disk.read` and `verify.load` raise.
    """
    memory = memory_bytes or _memory(folder)
    short = "" if memory_bytes or memory == _plausible(folder) else ", half of what is left here"
    job = {
        "path": [os.path.abspath(entry) for entry in sys.path],
        "models": os.fspath(models.absolute()),
        "folder": os.fspath(folder.absolute()),
        "name": name,
        "version": version,
        "digest": digest,
        "seconds": math.ceil(seconds),
        "memory": memory,
        "max_batch_rows": max_batch_rows,
    }
    try:
        code, output, errors = _run(json.dumps(job).encode(), PATIENCE * seconds)
    except OSError as error:
        raise LoadError("load_error", f"its trial could not be started: {error}", lasting=False) from error
    try:
        answer = msgspec.json.decode(output, type=_Answer)
    except msgspec.MsgspecError:
        cause = _cause(code, errors, seconds)
        if cause != _OUT_OF_MEMORY:
            raise LoadError("load_error", cause, lasting=code != -signal.SIGKILL) from None
        answer = _Answer(_OUT_OF_MEMORY, "", {}, 0)
    if answer.outcome == _OUT_OF_MEMORY:
        message = f"it needed more than {memory / 1024**3:.3g} GiB in its trial{short}"
        raise LoadError("load_error", message, lasting=not short)
    if answer.outcome != _READY:
        raise LoadError(answer.outcome, answer.message, lasting=answer.lasting)
    return Trial(answer.seconds, answer.peak_bytes)


def _run(job: bytes, patience: float) -> tuple[int | None, bytes, str]:
    """Exit status of the child (None if it had to be stopped), its answer, and what it complained about."""
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | _ALONE
    with subprocess.Popen(  # noqa: S603 - this very program
        [sys.executable, "-I", "-c", _BOOTSTRAP],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env=environment,
        process_group=0,  # not a session: that would have its own share of the processor, however it steps back
    ) as process:
        try:
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            with contextlib.suppress(BrokenPipeError):  # it has ended, which is all there is to know
                process.stdin.write(job)
                process.stdin.close()
            code: int | None = process.wait(patience)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            process.kill()
        return code, _rest(process.stdout), _rest(process.stderr).decode("utf-8", "replace")


def _rest(pipe: IO[bytes] | None) -> bytes:
    """What is left in a pipe, which somebody may still hold open."""
    assert pipe is not None  # noqa: S101
    os.set_blocking(pipe.fileno(), False)
    try:
        return os.read(pipe.fileno(), _ANSWER_BYTES)
    except BlockingIOError:
        return b""


def _cause(code: int | None, errors: str, seconds: float) -> str:
    """Why a child ended without an answer."""
    if code is None or code == -signal.SIGXCPU:
        took = f"{seconds:g} s" if code else f"{PATIENCE * seconds:g} s, of which {seconds:g} s may be computing"
        return f"it did not end in {took}, in its trial"
    if any(words in errors for words in _NO_MEMORY):
        return _OUT_OF_MEMORY
    if code == -signal.SIGKILL:
        return "it was killed in its trial, as the system does where memory is short"
    if code < 0:
        return f"it crashed in its trial ({signal.Signals(-code).name})"
    last = errors.strip().rpartition("\n")[2]
    return f"its trial failed: {last[:_MESSAGE_CHARACTERS] or f'exit code {code}'}"


def _memory(folder: Path) -> int:
    """Bytes that a trial of the package in `folder` may take."""
    return min([_plausible(folder), *(left // 2 for left in _left())])


def _plausible(folder: Path) -> int:
    try:
        size = (folder / MODEL).stat().st_size
    except OSError:
        size = 0
    return BASE_BYTES + PER_MODEL_BYTE * size


def _left() -> list[int]:
    """Bytes that the machine and the container have left, where they say so (proc(5); cgroups, version 2)."""
    left = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        left += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["inactive_file"]
            left.append(max(0, int(limit) - int((group / "memory.current").read_text())) + int(cached))
    except (OSError, ValueError, LookupError):
        pass
    return left


# The child.


def child(job: dict[str, Any]) -> None:
    """Do what a parent's `try_out` asks for, answer, and end."""
    answer = os.dup(1)
    os.dup2(2, 1)  # libraries that print do not answer
    os.set_blocking(2, False)  # nor wait for anybody to read it
    _confine(job["memory"], job["seconds"])
    watch = _Watch()
    watch.done("start")
    outcome, message, lasting = _READY, "", True
    try:
        _try(job, watch)
    except MemoryError:
        outcome = _OUT_OF_MEMORY
    except LoadError as error:
        outcome, message, lasting = error.outcome, str(error)[:_MESSAGE_CHARACTERS], error.lasting
        if any(words in message for words in _NO_MEMORY):
            outcome = _OUT_OF_MEMORY
    os.write(answer, msgspec.json.encode(_Answer(outcome, message, watch.seconds, _peak(), lasting)))
    os._exit(0)


def _peak() -> int:
    """Resident bytes, at most: of this program, where `ru_maxrss` begins with what its parent had (proc(5))."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class _Watch:
    """Seconds that each step took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic() - time.process_time()

    def done(self, step: str) -> None:
        now = time.monotonic()
        self.seconds[step] = round(now - self._last, 6)
        self._last = now


def _try(job: dict[str, Any], watch: _Watch) -> None:
    try:
        package = disk.read(Path(job["models"]), Path(job["folder"]), job["name"], job["version"])
    except LoadError as error:
        # Whoever wants it tried out has just read it.
        raise LoadError(error.outcome, str(error), lasting=False) from error
    if package.digest != job["digest"]:
        raise LoadError("load_error", "it changed before its trial", lasting=False)
    watch.done("checksum")
    verify.check_static(package)
    watch.done("static")
    _check_onnx(package.model)
    watch.done("checker")
    verify.load(
        disk.Package(_for_the_cpu(package.manifest), package.model, package.digest),
        Device(CPU),
        job["max_batch_rows"],
        lambda step: None if step == "static" else watch.done(step),
    )


def _check_onnx(model: bytes) -> None:
    import onnx.checker

    try:
        onnx.checker.check_model(model, full_check=True)
    except MemoryError:
        raise
    except Exception as error:
        # It raises classes of its own, of its shape inference too.
        raise LoadError("checker", f"the ONNX checker refuses it: {str(error).strip()}") from error


def _for_the_cpu(manifest: Manifest) -> Manifest:
    """The same with a tolerance for the CPU: a package for GPUs only may do without, and is held to its own there."""
    golden = manifest.golden
    if CPU in golden.tolerance or not golden.tolerance:
        return manifest
    loosest = max(golden.tolerance.values(), key=lambda tolerance: (tolerance.rtol, tolerance.atol))
    return msgspec.structs.replace(manifest, golden=msgspec.structs.replace(golden, tolerance={CPU: loosest}))


def _confine(memory: int, seconds: int) -> None:
    """Take from this process what a trial does not need."""
    os.nice(19)
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 64,
        # Libraries map files, and reserve what they never use: only what can be written to counts.
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_CPU: math.ceil(time.process_time()) + seconds,
    }
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(limit, (value, hard if limit == resource.RLIMIT_CPU else value))
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")  # if one must go, then this one
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    child(json.load(sys.stdin))
