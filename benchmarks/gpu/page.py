"""docs/gpu.md: what stands between its marks is made from the results, the rest is written by hand."""

from typing import Any

from benchmarks import results
from benchmarks.gpu import tables
from benchmarks.machine import summary
from benchmarks.marks import render
from benchmarks.servers import REPOSITORY

NAME = "gpu"
PAGE = REPOSITORY / "docs" / "gpu.md"

_ESTIMATES = "What is called an estimate is none of that."
_UNSEEN = (
    "**No GPU has been seen by this page yet.** The machine that measured it had none, so what stands in its tables "
    'about CPUs is measured, and what stands there about GPUs is "not measured" or, where it says so, an estimate. '
    "With results of a machine that has one the tables fill themselves ([below](#on-your-own-gpu))."
)


def parts(record: dict[str, Any]) -> dict[str, str]:
    """What is made, by the name of its mark."""
    gpu, name = record["settings"]["gpu"], record["settings"]["gpu_name"]
    on = f"on the CPU and on {gpu} ({name})" if gpu else "on the CPU alone, since there was no GPU"
    return {
        "seen": f"What its tables say of GPUs was measured on one {name}. {_ESTIMATES}" if gpu else _UNSEEN,
        "in process": tables.inside(record).markdown(),
        "overtakes": tables.overtakes(record).markdown(),
        "anatomy": tables.anatomy(record).markdown(),
        "assumed": tables.assumed().markdown(),
        "ways": tables.ways(record).markdown(),
        "through": tables.through(record).markdown(),
        "source": f"*Measured {record['date']} {on}. {summary(record['machine'])}. {_busy(record)}*",
    }


def write() -> None:
    """Bring the page up to date with the results that are kept, if there are any: their figures are rounded."""
    record = results.load(NAME)
    if record is not None:
        PAGE.write_text(render(PAGE.read_text(encoding="utf-8"), parts(record)), encoding="utf-8")


def _busy(record: dict[str, Any]) -> str:
    cores = [one["other_cores"] for one in record["rounds"]]
    return f"Other processes kept {sum(cores) / len(cores):.2f} cores busy on average, {max(cores):.2f} at most."
