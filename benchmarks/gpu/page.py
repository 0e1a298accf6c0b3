"""docs/gpu.md: what stands between its marks is made from the results, the rest is written by hand."""

from typing import Any

from benchmarks import results
from benchmarks.gpu import tables, worth
from benchmarks.machine import summary
from benchmarks.marks import render
from benchmarks.servers import REPOSITORY

NAME = "gpu"
PAGE = REPOSITORY / "docs" / "gpu.md"

QUIET = 0.3
"""Busy cores, of others, on average, beyond which figures of all cores are worth nothing."""
_ESTIMATES = "What is called an estimate is none of that."
_UNSEEN = (
    "**No GPU has been seen by this page yet.** The machine that measured it had none, so what stands in its tables "
    'about CPUs is measured, and what stands there about GPUs is "not measured" or, where it says so, an estimate. '
    "With results of a machine that has one the tables fill themselves ([below](#on-your-own-gpu))."
)
_QUICK = "This was a quick run: it shows that the benchmark works, and its figures mean nothing."


def parts(record: dict[str, Any]) -> dict[str, str]:
    """What is made, by the name of its mark; the page has its own headings."""
    gpu, name = record["settings"]["gpu"], record["settings"]["gpu_name"]
    on = f"on the CPU and on {gpu} ({name})" if gpu else "on the CPU alone, since there was no GPU"
    measured = f"Measured {record['date']} {on}."
    warned = f" **{remark(record)}**" if remark(record) else ""
    busy = "" if _mean(_others(record)) > QUIET else f" {_busy(record)}"
    return {
        "seen": f"What its tables say of GPUs was measured on one {name}. {_ESTIMATES}" if gpu else _UNSEEN,
        "how much": worth.how_much(record),
        "in process": tables.inside(record).markdown(heading=False),
        "overtakes": tables.overtakes(record).markdown(heading=False),
        "anatomy": tables.anatomy(record).markdown(heading=False),
        "assumed": tables.assumed().markdown(heading=False),
        "ways": tables.ways(record).markdown(heading=False) if gpu else tables.rehearsed(record),
        "through": tables.through(record).markdown(heading=False),
        "source": f"*{measured}*{warned} *{summary(record['machine'])}.{busy}*",
    }


def write() -> None:
    """Bring the page up to date with the results that are kept, if there are any: their figures are rounded."""
    record = results.load(NAME)
    if record is not None:
        PAGE.write_text(render(PAGE.read_text(encoding="utf-8"), parts(record)), encoding="utf-8")


def remark(record: dict[str, Any]) -> str:
    """Why not to trust these figures; empty where nothing speaks against them."""
    found = [_QUICK] if record["settings"].get("quick", False) else []
    if _mean(_others(record)) > QUIET:
        found.append(
            f"{_busy(record)} Read ratios of what took turns, and no figure of {record['settings']['cores']} cores at "
            "once; measure again on an idle machine."
        )
    return " ".join(found)


def _busy(record: dict[str, Any]) -> str:
    cores = _others(record)
    return f"Other processes kept {_mean(cores):.2f} cores busy on average, {max(cores):.2f} at most."


def _others(record: dict[str, Any]) -> list[float]:
    return [one["other_cores"] for one in record["rounds"]]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
