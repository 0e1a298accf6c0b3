"""An ONNX Runtime session that runs where it was told to, or not at all."""

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from serving.engine.device import CREATING, FATAL, Device, DeviceError
from serving.engine.placement import Placement

Feed = dict[str, npt.NDArray[Any]]

_MEMORY = "/dev/shm"  # noqa: S108
"""A folder that can be written to in containers that have no other: ONNX Runtime gives its profile as a file only."""


class TooLongError(Exception):
    """A run that was ended."""


class ValuesError(Exception):
    """A run that failed for what is in its inputs, such as an index beyond the end of a table."""


class ProfileError(Exception):
    """Nothing is known of where nodes run."""


class Session:
    """One graph on one device.

    ONNX Runtime falls back to the CPU in three silent ways (a provider that can't start, an exception
    in the constructor, a failure while running); the first is found out here, the others are switched off.
    """

    def __init__(self, model: bytes, device: Device, *, profiled: bool = False) -> None:
        """Load a serialised graph; `profiled`, until `placement` is asked for.

        Raises:
            DeviceError: ONNX Runtime would run it elsewhere than on `device`.
            ProfileError: there is no place for a profile.
            Exception: of ONNX Runtime's own kinds, where the graph can't be loaded.
        """
        options = ort.SessionOptions()
        options.log_severity_level = FATAL
        # Small graphs: a second thread inside a run costs more than it brings, and takes it from other runs.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Weights kept outside of the graph would come from the working directory, past every checksum.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        # The arena keeps the memory of the largest batch ever seen, and is no faster than malloc here.
        options.enable_cpu_mem_arena = False
        if profiled:
            self._folder = _folder()
            self._forget_profile = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            options.enable_profiling = True
            options.profile_file_prefix = os.path.join(self._folder, "profile")
        with CREATING:
            self._session = ort.InferenceSession(model, options, providers=device.providers, enable_fallback=0)
        self.profiled = profiled
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

    def placement(self) -> Placement:
        """Where the nodes of the graph ran so far, of a session that is profiled until now.

        Raises:
            ProfileError: there is no profile.
        """
        self.profiled = False
        try:
            return Placement.read(Path(self._session.end_profiling()).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ProfileError(f"ONNX Runtime could not write its profile into {self._folder}: is it full?") from error
        finally:
            self._forget_profile()

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


def _folder() -> str:
    """A new one, for a profile.

    Raises:
        ProfileError: there can be none.
    """
    for place in (_MEMORY, None):
        with suppress(OSError):
            return tempfile.mkdtemp(prefix="triptych-", dir=place)
    raise ProfileError(f"ONNX Runtime's profile can be written neither into {_MEMORY} nor into a temporary folder")
