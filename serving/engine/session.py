"""An ONNX Runtime session that runs where it was told to, or not at all."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from serving.engine.device import Device, DeviceError

Feed = dict[str, npt.NDArray[Any]]

_FATAL_ONLY = 4
"""ONNX Runtime prints what it also raises."""


class TooLongError(Exception):
    """A run that was ended."""


class ValuesError(Exception):
    """A run that failed for what is in its inputs, such as an index beyond the end of a table."""


_NO_MEMORY = re.compile(r"bad_alloc|[Ff]ailed to allocate memory|out of memory|CUDNN_STATUS_ALLOC_FAILED")
"""What ONNX Runtime, and what it stands on, say then."""


def out_of_memory(error: Exception) -> bool:
    """Did a run fail for want of memory?"""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


class Session:
    """One graph on one device.

    ONNX Runtime falls back to the CPU in three silent ways (a provider that can't start, an exception
    in the constructor, a failure while running); the first is found out here, the others are switched off.
    """

    def __init__(self, model: bytes, device: Device) -> None:
        """Load a serialised graph.

        Raises:
            DeviceError: ONNX Runtime would run it elsewhere than on `device`.
            Exception: of ONNX Runtime's own kinds, where the graph can't be loaded.
        """
        options = ort.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        # Small graphs: a second thread inside a run costs more than it brings, and takes it from other runs.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Weights kept outside of the graph would come from the working directory, past every checksum.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        # The arena keeps the memory of the largest batch ever seen, and is no faster than malloc here.
        options.enable_cpu_mem_arena = False
        self._session = ort.InferenceSession(model, options, providers=device.providers, enable_fallback=0)
        self._options: Any = None
        self.provider: str = self._session.get_providers()[0]
        if self.provider != device.provider:
            raise DeviceError(f"ONNX Runtime chose {self.provider} although {device.provider} was asked for")
        self.inputs = {node.name: (node.type, node.shape) for node in self._session.get_inputs()}
        """Type, such as `tensor(float)`, and shape, named axes as strings, by name."""
        self.outputs = {node.name: (node.type, node.shape) for node in self._session.get_outputs()}

    def run(self, outputs: list[str], feed: Feed, options: Any = None) -> list[npt.NDArray[Any]]:
        """Compute the named outputs; safe from several threads, and the GIL is released meanwhile.

        Args:
            outputs: their names.
            feed: the inputs by name.
            options: ONNX Runtime's RunOptions, by which the run can be ended.

        Raises:
            ValuesError: they can't be computed of these values.
            Exception: of ONNX Runtime's own kinds.
        """
        try:
            result: list[npt.NDArray[Any]] = self._session.run(outputs, feed, options or self._options)
        except InvalidArgument as error:
            raise ValuesError(str(error)) from error
        return result

    @contextmanager
    def bounded(self, seconds: float) -> Iterator[None]:
        """End runs that are still under way after so many seconds: ONNX Runtime looks at that between two nodes.

        Raises:
            TooLongError: in place of what ONNX Runtime raises in one that was ended.
        """
        options = ort.RunOptions()
        ended = threading.Event()

        def end() -> None:
            ended.set()
            options.terminate = True

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        self._options = options
        timer.start()
        try:
            yield
        except Exception as error:
            if ended.is_set():
                raise TooLongError(f"it did not end in {seconds:g} s") from error
            raise
        finally:
            timer.cancel()
            self._options = None
