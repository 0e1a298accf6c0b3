"""The command line: fit, export, evaluate, report, package, half, publish, experiments, tune.

python -m training fit sentiment topic house_price --data DIR --out models/
python -m training evaluate models/sentiment/1 --data DIR
python -m training export sentiment sentiment.keras --data DIR --out models/
python -m training package any.keras --name any --task regression --examples rows.npz --out models/
python -m training half models/sentiment/1 --data DIR --out runs/half
python -m training experiments sentiment --all --data DIR
python -m training tune sentiment --data DIR
python -m training report runs/sentiment/best-seed0
"""

import argparse
import sys
from collections.abc import Sequence

from training.commands import evaluate, experiments, fit, half, package, publish, report, tune
from training.commands.common import parents
from training.errors import EndedEarlyError, TrainingError

INTERRUPTED = 130  # what a shell gives for SIGINT
TRY_AGAIN = 75  # sysexits.h: a failure that another try may not meet


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except EndedEarlyError as error:
        print(f"error: {error}", file=sys.stderr)
        return TRY_AGAIN
    except (TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what was in work was not written", file=sys.stderr)
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Make and measure model packages.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = parents()
    for command in (fit, evaluate, report, package, half, publish, experiments, tune):
        command.add(commands, shared)
    return parser


if __name__ == "__main__":
    sys.exit(main())
