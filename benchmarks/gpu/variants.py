"""Ways to run the same graph on a GPU, each beside the plain run that the server makes, in turns.

All but what only CUDA has run on the CPU as well: that says nothing of a GPU, and that the code works.
"""

import ctypes
import dataclasses
import mmap
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from benchmarks.gpu import graphs
from benchmarks.gpu.inprocess import Run, batches, interleaved, plain
from benchmarks.gpu.inputs import Inputs
from serving.engine import device as devices
from serving.engine.cuda import LIBRARY, CudaError, Driver
from serving.engine.device import CPU, CudaOptions, Device
from serving.engine.session import Feed, Session

_BLOCK_SECONDS = 0.02
"""Of runs that are timed together, where single ones would be lost in what it takes to hand them to a thread."""
_APART = 256
"""Bytes to whose multiples buffers begin: CUDA's own allocations do."""
_THREADS = 2
"""Batches in the pipe, as in the server's engine."""


class NotHereError(Exception):
    """A way that there is not for this graph or on this device; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """A way to run beside the plain one: median seconds of a run, or why there is none."""

    seconds: float | None = None
    plain_seconds: float | None = None
    skipped: str = ""


@dataclass(frozen=True)
class Case:
    """What is run, on what."""

    inputs: Inputs
    model: bytes
    device: Device
    rows: int

    def feeds(self) -> list[Feed]:
        """Different batches."""
        return batches(self.inputs.feed, self.rows)


def measure(name: str, model: bytes, inputs: Inputs, device: Device, rows: int, seconds: float = 0.3) -> Outcome:
    """One way, by its name in `NAMES`, beside the plain one."""
    case = Case(inputs, model, device, rows)
    try:
        if name == TWO_THREADS:
            return _two_threads(case, seconds)
        with NAMES[name](case) as run:
            by_itself = plain(Session(model, device), case.feeds())
            for number in range(2):  # another batch, too: buffers that are not filled anew would answer the first
                if not all(map(_near, run(number), by_itself(number))):
                    return Outcome(skipped="failed: it answers otherwise than the plain run")
            taken = interleaved({"plain": by_itself, name: run}, seconds)
    except NotHereError as error:
        return Outcome(skipped=str(error))
    except Exception as error:  # noqa: BLE001 - one way that fails must not cost the others their figures
        return Outcome(skipped=f"failed: {' '.join(str(error).split())[:300]}")
    return Outcome(statistics.median(taken[name]), statistics.median(taken["plain"]))


def _near(found: "npt.NDArray[Any]", wanted: "npt.NDArray[Any]") -> bool:
    """Are they the same, as far as any arithmetic in use may take them apart?"""
    return found.shape == wanted.shape and np.allclose(found, wanted, rtol=0.02, atol=0.02)


@contextmanager
def bound(case: Case) -> Iterator[Run]:
    """Inputs and outputs in buffers on the device, made once; each run copies in, computes, copies out."""
    session, feeds = _session(case), _numbers(case)
    kind, index = _place(case.device)
    binding, first = session.io_binding(), feeds[0]
    given = {name: ort.OrtValue.ortvalue_from_numpy(value.copy(), kind, index) for name, value in first.items()}
    for name, value in given.items():
        binding.bind_ortvalue_input(name, value)
    results = [
        ort.OrtValue.ortvalue_from_shape_and_type(value.shape, value.dtype.type, kind, index)
        for value in session.run(None, first)
    ]
    for node, result in zip(session.get_outputs(), results, strict=True):
        binding.bind_ortvalue_output(node.name, result)

    def run(number: int) -> list[Any]:
        for name, value in feeds[number % len(feeds)].items():
            given[name].update_inplace(value)
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return [result.numpy() for result in results]

    yield run


@contextmanager
def pinned(case: Case) -> Iterator[Run]:
    """Inputs and outputs in page-locked memory of the host, which the GPU reads and writes by itself."""
    if case.device.index is None:
        raise NotHereError("page-locked memory is for GPUs")
    run, memory = host_bound(case)
    with page_locked(ctypes.CDLL(LIBRARY), case.device.index, memory):
        yield run


def host_bound(case: Case) -> tuple[Run, "npt.NDArray[np.uint8]"]:
    """Runs whose inputs and outputs are at fixed places in the host's memory, and all of that memory, whole pages."""
    session, feeds = _session(case), _numbers(case)
    results = session.run(None, feeds[0])
    sizes = [-(-value.nbytes // _APART) * _APART for value in (*feeds[0].values(), *results)]
    memory = np.frombuffer(mmap.mmap(-1, sum(sizes)), np.uint8)
    starts = [sum(sizes[:position]) for position in range(len(sizes))]
    places = [
        memory[start : start + value.nbytes].view(value.dtype).reshape(value.shape)
        for start, value in zip(starts, (*feeds[0].values(), *results), strict=True)
    ]
    given, outputs = dict(zip(feeds[0], places, strict=False)), places[len(feeds[0]) :]
    binding = session.io_binding()
    for name, value in given.items():
        binding.bind_input(name, "cpu", 0, value.dtype.type, value.shape, value.ctypes.data)
    for node, value in zip(session.get_outputs(), outputs, strict=True):
        binding.bind_output(node.name, "cpu", 0, value.dtype.type, value.shape, value.ctypes.data)

    def run(number: int) -> list[Any]:
        for name, value in feeds[number % len(feeds)].items():
            np.copyto(given[name], value)
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return outputs

    return run, memory


@contextmanager
def cuda_graph(case: Case) -> Iterator[Run]:
    """All kernels of a run launched as one (CUDA C++ Programming Guide, "CUDA Graphs"), recorded for this batch."""
    if case.device.provider == CPU:
        raise NotHereError("CUDA graphs are for GPUs")
    recording = dataclasses.replace(case.device, options={**case.device.options, "enable_cuda_graph": "1"})
    session, feeds = _session(dataclasses.replace(case, device=recording)), _numbers(case)
    outputs = plain(Session(case.model, case.device), feeds)(0)
    kind, index = _place(case.device)
    binding = session.io_binding()
    # What is recorded reads and writes these very addresses.
    given = {name: ort.OrtValue.ortvalue_from_numpy(value.copy(), kind, index) for name, value in feeds[0].items()}
    results = [
        ort.OrtValue.ortvalue_from_shape_and_type(value.shape, value.dtype.type, kind, index) for value in outputs
    ]
    for name, value in given.items():
        binding.bind_ortvalue_input(name, value)
    for node, result in zip(session.get_outputs(), results, strict=True):
        binding.bind_ortvalue_output(node.name, result)
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(case.rows))

    def run(number: int) -> list[Any]:
        for name, value in feeds[number % len(feeds)].items():
            given[name].update_inplace(value)
        session.run_with_iobinding(binding, options)
        binding.synchronize_outputs()
        return [result.numpy() for result in results]

    yield run


def _halves(where: str) -> Callable[[Case], Any]:
    @contextmanager
    def halves(case: Case) -> Iterator[Run]:
        """Two sessions: the front on the CPU, what need not run there on the device."""
        tensor = graphs.cuts(case.model).get(where)
        if tensor is None:
            raise NotHereError("the graph has no such place")
        cut = graphs.split(case.model, tensor)
        [cpu] = devices.choose("cpu")
        front, network = Session(cut.front, cpu), Session(cut.network, case.device)
        feeds, firsts, seconds = case.feeds(), list(front.outputs), list(network.outputs)

        def run(number: int) -> list[Any]:
            known = dict(feeds[number % len(feeds)])
            known.update(zip(firsts, front.run(firsts, {name: known[name] for name in front.inputs}), strict=True))
            given = {name: known[name] for name in network.inputs}
            known.update(zip(seconds, network.run(seconds, given), strict=True))
            return [known[name] for name in cut.outputs]

        yield run

    return halves


@contextmanager
def tf32(case: Case) -> Iterator[Run]:
    """Products of float32 with 10 bits of mantissa."""
    if case.device.provider == CPU:
        raise NotHereError("TF32 is of GPUs")
    [device] = devices.choose(case.device.name, CudaOptions(tf32=True))
    yield plain(Session(case.model, device), case.feeds())


@contextmanager
def half(case: Case) -> Iterator[Run]:
    """Products in float16."""
    try:
        import onnx

        from training.errors import ExportError
        from training.packaging.half import half as converted
    except ImportError as error:
        raise NotHereError(f"nothing here converts to half precision: {error}") from error
    try:
        model = converted(onnx.load_from_string(case.model)).SerializeToString()
    except ExportError as error:
        raise NotHereError(str(error)) from error
    yield plain(Session(model, case.device), case.feeds())


TWO_THREADS = "two threads"
NAMES: dict[str, Callable[[Case], Any]] = {
    "bound buffers": bound,
    "page-locked memory": pinned,
    "CUDA graph": cuda_graph,
    "cut at the words": _halves("words"),
    "cut at the matrix": _halves("matrix"),
    "TF32": tf32,
    "half precision": half,
    TWO_THREADS: NotImplemented,
}
"""Each yields its runs, while its buffers exist; but for the last, which is timed in another way."""


def _two_threads(case: Case, seconds: float) -> Outcome:
    """Two runs in the pipe of one session, against one after the other."""
    run = plain(Session(case.model, case.device), case.feeds())
    single = statistics.median(interleaved({"": run}, seconds / 4)[""])
    each = max(1, round(_BLOCK_SECONDS / single / _THREADS))

    def block(_: int) -> None:
        for number in range(each):
            run(number)

    def alone(_: int) -> None:
        for _part in range(_THREADS):
            block(0)

    with ThreadPoolExecutor(_THREADS) as pool:
        together: Run = lambda _: list(pool.map(block, range(_THREADS)))  # noqa: E731
        taken = interleaved({"plain": alone, TWO_THREADS: together}, seconds)
    runs = each * _THREADS
    return Outcome(statistics.median(taken[TWO_THREADS]) / runs, statistics.median(taken["plain"]) / runs)


def _session(case: Case) -> Any:
    """ONNX Runtime's own, made as the server makes it: it alone can bind buffers."""
    return Session(case.model, case.device)._session


def _numbers(case: Case) -> list[Feed]:
    feeds = case.feeds()
    if any(value.dtype == np.object_ for value in feeds[0].values()):
        raise NotHereError("text has no buffer that could be bound")
    return feeds


def _place(device: Device) -> tuple[str, int]:
    return ("cpu", 0) if device.index is None else ("cuda", device.index)


@contextmanager
def page_locked(library: Any, index: int, memory: "npt.NDArray[np.uint8]") -> Iterator[None]:
    """Memory that is registered with the driver (CUDA Driver API, cuMemHostRegister), until the end.

    Raises:
        NotHereError: the driver, whose functions `library` has, refuses.
    """
    start = ctypes.c_void_p(memory.ctypes.data)
    try:
        with Driver(library).context(index):
            if status := library.cuMemHostRegister_v2(start, ctypes.c_size_t(memory.nbytes), 0):
                raise NotHereError(f"the driver does not lock pages: CUDA error {status}")
            try:
                yield
            finally:
                library.cuMemHostUnregister(start)
    except CudaError as error:
        raise NotHereError(f"the driver does not lock pages: {error}") from error
