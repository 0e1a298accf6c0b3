"""BentoML: HTTP and JSON, one worker, adaptive batching on."""

import argparse
import os
import sys
from pathlib import Path


def main() -> None:
    """Become BentoML's own server."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", required=True)
    arguments.add_argument("--models", required=True)
    chosen = arguments.parse_args()
    here = Path(__file__).parent
    os.environ |= {
        "BENTOML_DO_NOT_TRACK": "true",
        "OTEL_SDK_DISABLED": "true",
        "BENTOML_HOME": str(Path.cwd() / "bentoml"),
        "PEER_MODELS": chosen.models,
    }
    command = [sys.executable, "-m", "bentoml", "serve", "service:Peer", "--working-dir", str(here)]
    os.execv(command[0], [*command, "--host", "127.0.0.1", "--port", chosen.port])


if __name__ == "__main__":
    main()
