"""Killed under load, a server leaves nothing on the GPU and the next one serves; asked to stop, it loses nothing."""

import gc
import time
from collections.abc import Mapping

from gpu.check import golden
from gpu.check.context import Context
from gpu.check.finding import Finding
from gpu.check.server import Server
from gpu.check.traffic import Traffic, questions
from serving.engine import device

RETURN_SECONDS = 15.0
"""In which the driver gives back the memory of a process that is gone."""
SLACK_BYTES = 64 * 2**20
POLL_SECONDS = 0.1
ANSWERED = "triptych_requests_total"


def run(context: Context, found: Finding) -> None:
    """Kill, start again on the same port, stop."""
    manifests = [package.manifest for package in golden.packages(context.models)]
    allowed = {each.name: golden.tolerance(each, not context.rehearsal) for each in manifests}
    asked = questions(manifests, each=20)
    gc.collect()  # sessions of steps before this one
    before = used(context)
    with Server(context.device, context.models, context.out / "kill.log") as first:
        address = first.wait_ready().address
        with Traffic(address, asked, allowed) as traffic:
            traffic.swing()
            serving = used(context)
            first.kill()
            if found.on_cuda("the GPU's memory is what it was before the server that was killed"):
                _returned(context, found, before, serving)
            started = time.monotonic()
            second = Server(context.device, context.models, context.out / "kill-again.log", grpc=address)
            with second:
                second.wait_ready()
                found.figures["ready again, s"] = time.monotonic() - started
                traffic.swing()
                traffic.stop()
                judge(found, "while it was killed", traffic.codes, traffic.wrong, traffic.failures)
                _stop(found, second, Traffic(address, asked, allowed))


def judge(found: Finding, when: str, codes: Mapping[str, int], wrong: list[str], said: list[str] | None = None) -> None:
    """Nothing but UNAVAILABLE, which tells a client that it may ask elsewhere."""
    others = sorted(set(codes) - {"UNAVAILABLE"})
    found.figures[f"calls failed {when}"] = dict(codes)
    found.expect(not others, f"{when}, calls ended with {', '.join(others)}: {(said or [])[:3]}")
    found.expect(not wrong, f"{when}, {len(wrong)} answers were wrong, such as {wrong[:3]}")


def lost(found: Finding, told: int, before: int, received: int) -> None:
    """The server's own count of answers is that of those who got them."""
    found.figures["accepted calls lost"] = told - before - received
    found.expect(told - before == received, f"it answered {told - before} calls, of which {received} arrived")


def used(context: Context) -> int | None:
    """Bytes taken of the device, by whomever."""
    memory = device.choose(context.device)[0].memory()
    return None if memory is None else memory.total - memory.free


def _returned(context: Context, found: Finding, before: int | None, serving: int | None) -> None:
    if before is None or serving is None:
        found.expect(False, "the driver does not say how much memory is taken")
        return
    deadline = time.monotonic() + RETURN_SECONDS
    while (after := used(context) or 0) > before + SLACK_BYTES and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    taken = {"before": before, "serving": serving, "after": after}
    found.figures["GPU memory, MiB"] = {name: value >> 20 for name, value in taken.items()}
    found.expect(serving > before, "the server took no memory of the GPU")
    found.expect(after <= before + SLACK_BYTES, f"{(after - before) >> 20} MiB of the GPU did not come back")


def _stop(found: Finding, server: Server, traffic: Traffic) -> None:
    """Ask the server to stop in the midst of calls."""
    before = sum(value for _, value in server.values(ANSWERED))
    with traffic:
        traffic.swing()
        code = server.stop()
        traffic.stop()
    found.expect(code == 0, f"after SIGTERM it ended with {code}: {server.last_words()}")
    judge(found, "while it stopped", traffic.codes, traffic.wrong, traffic.failures)
    told = [int(event["answered"]) for event in server.events("stopped") if "answered" in event]
    if found.expect(bool(told), "its log does not say how many calls it had answered when it stopped"):
        lost(found, told[-1], int(before), traffic.answered)
