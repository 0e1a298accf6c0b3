"""Fuzz the native transport: `python -m tests.fuzz --minutes 30`. A finding is the seed that repeats it."""

import argparse
import sys
import time
import traceback

from tests.fuzz.mutate import execute


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=time.time_ns(), help="of the first execution; the next adds one")
    arguments = parser.parse_args()
    begin = time.monotonic()
    end, told = begin + arguments.minutes * 60, begin
    done = findings = 0
    while (now := time.monotonic()) < end:
        seed = arguments.seed + done
        try:
            execute(seed)
        except Exception:  # noqa: BLE001 - whatever escapes is a finding
            findings += 1
            print(f"FINDING: seed {seed}\n{traceback.format_exc()}", flush=True)
        done += 1
        if now - told >= 10:
            told = now
            print(f"{done} executions, {done / (now - begin):.0f}/s, {findings} findings", flush=True)
    print(f"{done} executions in all, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
