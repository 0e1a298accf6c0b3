"""An example's README, followed command by command from top to bottom, in a folder of its own."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.end_to_end.server import ROOT, ServerProcess

EXAMPLES = ROOT / "examples"
PAGES = sorted(EXAMPLES.glob("*/README.md"))
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TIMEOUT = 150

InPlace = Callable[[list[str]], None]
"""Does what a command of `python -m training` does, given its arguments."""


class Block(NamedTuple):
    kind: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(match[1].strip(), match[2]) for match in FENCE.finditer(page.read_text("utf-8"))]


def commands(page: Path) -> list[str]:
    """Every command of every block of a shell, in order; continued lines joined."""
    found = [block.text.replace("\\\n", " ").splitlines() for block in blocks(page) if block.kind.startswith("sh")]
    return [command for lines in found for command in lines]


def shown(page: Path) -> list[str]:
    """What the page says that commands print."""
    return [block.text for block in blocks(page) if not block.kind]


class Walk:
    """A page being followed in `folder`; the servers it starts run until the end, on ports of their own.

    Commands of `python -m training` are handed to `training`, for each process of them would import TensorFlow anew.
    """

    def __init__(self, folder: Path, data: Path, training: InPlace) -> None:
        self.folder = folder
        self.printed: dict[str, str] = {}
        """Standard output by command."""
        self._training = training
        self._servers = contextlib.ExitStack()
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("TRIPTYCH_")} | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TRIPTYCH_DATA": str(data),
        }
        (folder / "examples").symlink_to(EXAMPLES)

    def follow(self, page: Path) -> Self:
        for command in commands(page):
            words = shlex.split(command.replace("$TRIPTYCH_DATA", self._environment["TRIPTYCH_DATA"]))
            if words[:4] == ["python", "-m", "serving", "serve"]:
                self._serve(words[4:])
            elif words[:3] == ["python", "-m", "training"]:
                with contextlib.chdir(self.folder):
                    self._training(words[3:])
            else:
                self.printed[command] = self.run(command)
        return self

    def run(self, command: str) -> str:
        """Its standard output."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def output(self, script: str) -> str:
        """What the page's command that runs `script` printed."""
        [printed] = [printed for command, printed in self.printed.items() if f"/{script} " in command]
        return printed

    def _serve(self, flags: list[str]) -> None:
        option, models = flags
        assert option == "--models"
        server = self._servers.enter_context(ServerProcess(models=self.folder / models)).wait_ready()
        self._environment["TRIPTYCH_ADDRESS"] = server.address

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._servers.close()
