"""Minutes of load whose shapes vary: the GPU's memory stays flat, and no answer is wrong or missing."""

import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

from gpu.check import golden
from gpu.check.context import Context
from gpu.check.finding import Finding
from gpu.check.server import Server
from gpu.check.traffic import Traffic, questions

GROWTH = 0.01
"""Of memory, that counts as none."""
SAMPLES = 240
USED = "triptych_gpu_memory_used_bytes"


class Growth(NamedTuple):
    """Medians of two quarters of the samples: the second, when all shapes have come by, and the last."""

    second: float
    last: float

    @property
    def share(self) -> float:
        """How much more the last has, as a share of the second."""
        return (self.last - self.second) / self.second if self.second else 0.0


def growth(samples: Sequence[float]) -> Growth:
    """Of samples taken evenly; of fewer than four, all of them."""
    quarter = len(samples) // 4
    second = samples[quarter : 2 * quarter] or samples
    return Growth(statistics.median(second), statistics.median(samples[3 * quarter :]))


def judge(found: Finding, samples: Sequence[float]) -> None:
    """Hold memory against the promise that it does not grow."""
    if found.expect(len(samples) >= 4, f"{len(samples)} samples of the GPU's memory are too few"):
        grown = growth(samples)
        found.figures["GPU memory, second quarter, MiB"] = grown.second / 2**20
        found.figures["GPU memory, last quarter, MiB"] = grown.last / 2**20
        found.figures["GPU memory grew by, share"] = grown.share
        found.expect(grown.share <= GROWTH, f"the GPU's memory grew by {grown.share:.1%}, more than {GROWTH:.0%}")


def run(context: Context, found: Finding) -> None:
    """Ask, and sample."""
    manifests = [package.manifest for package in golden.packages(context.models)]
    allowed = {each.name: golden.tolerance(each, not context.rehearsal) for each in manifests}
    asked = questions(manifests)
    gpu: list[float] = []
    resident: list[float] = []
    with (
        Server(context.device, context.models, context.out / "soak.log") as server,
        Traffic(server.wait_ready().address, asked, allowed) as traffic,
    ):
        end = time.monotonic() + context.soak_seconds
        while not resident or time.monotonic() < end:
            # Everything on a device counts, whoever has it: nobody else should be on it while this runs.
            gpu += [value for labels, value in server.values(USED) if labels["gpu"] == str(context.index)]
            resident.append(server.resident_bytes())
            time.sleep(min(context.soak_seconds / SAMPLES, 5.0))
        traffic.stop()
        found.expect(server.process.poll() is None, f"the server ended: {server.last_words()}")
    found.figures["seconds"] = context.soak_seconds
    found.figures["requests"] = traffic.answered
    found.figures["rows"] = traffic.rows
    found.figures["shapes"] = len({(each.model, each.version, each.rows) for each in asked})
    quarters = [resident[0], *growth(resident), resident[-1]]
    found.figures["server's own memory, first, median of the second and of the last quarter, last, MiB"] = [
        one / 2**20 for one in quarters
    ]
    found.expect(traffic.answered > 0, "nothing was answered")
    found.expect(not traffic.codes, f"calls failed: {dict(traffic.codes)}: {traffic.failures[:3]}")
    found.expect(not traffic.wrong, f"{len(traffic.wrong)} answers are wrong, such as {traffic.wrong[:3]}")
    if found.on_cuda(f"GPU memory of the last quarter at most {GROWTH:.0%} above the second's"):
        judge(found, gpu)
