"""With several devices, each computes its share."""

import time

from gpu.check import driver, golden
from gpu.check.context import Context
from gpu.check.finding import Finding, StepSkipped
from gpu.check.server import Server
from gpu.check.traffic import Traffic, questions

SECONDS = 20.0
"""In which each must have been seen at work: NVML looks a few times a second."""
POLL_SECONDS = 0.1
BYTES = "triptych_model_gpu_memory_bytes"
UTILIZATION = "triptych_gpu_utilization_ratio"


def run(context: Context, found: Finding) -> None:
    """Serve on the first two."""
    if context.rehearsal:
        raise StepSkipped("a rehearsal has no GPU, and this needs two")
    count = len(driver.look().gpus)
    if count < 2:
        raise StepSkipped("there is one GPU, and this needs two")
    manifests = [package.manifest for package in golden.packages(context.models)]
    allowed = {each.name: golden.tolerance(each, on_cuda=True) for each in manifests}
    with (
        Server("cuda:0,cuda:1", context.models, context.out / "devices.log") as server,
        Traffic(server.wait_ready().address, questions(manifests), allowed) as traffic,
    ):
        busiest: dict[str, float] = {}
        end = time.monotonic() + SECONDS
        traffic.swing()
        while len([gpu for gpu, value in busiest.items() if value]) < 2 and time.monotonic() < end:
            for labels, value in server.values(UTILIZATION):
                busiest[labels["gpu"]] = max(value, busiest.get(labels["gpu"], 0.0))
            time.sleep(POLL_SECONDS)
        taken = {labels["gpu"] for labels, value in server.values(BYTES) if value > 0}
        traffic.stop()
    found.figures["devices"] = count
    found.figures["utilisation at most"] = busiest
    judge(found, busiest, taken)
    found.expect(not traffic.codes, f"calls failed: {dict(traffic.codes)}")
    found.expect(not traffic.wrong, f"{len(traffic.wrong)} answers are wrong, such as {traffic.wrong[:3]}")


def judge(found: Finding, busiest: dict[str, float], taken: set[str]) -> None:
    """Both hold models, and both were seen at work."""
    for gpu in ("0", "1"):
        found.expect(gpu in taken, f"no model is on cuda:{gpu}")
        found.expect(busiest.get(gpu, 0) > 0, f"cuda:{gpu} was never seen at work")
