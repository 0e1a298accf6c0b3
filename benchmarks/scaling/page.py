"""docs/scaling.md: what stands between its marks is made from results, the rest is written by hand."""

from benchmarks.autoscale import bench as autoscale
from benchmarks.autoscale.lessons import lessons
from benchmarks.machine import summary
from benchmarks.marks import render
from benchmarks.scaling import bench as scaling
from benchmarks.scaling import tables as arithmetic
from benchmarks.scaling.sizes import PAGE, Assumptions, MissingResults, records


def parts() -> dict[str, str]:
    """What is made, by the name of its mark.

    Raises:
        MissingResults: a benchmark that it rests on never ran.
    """
    found = records((scaling.NAME, autoscale.NAME))
    counted, simulated = found[scaling.NAME], found[autoscale.NAME]
    cost, assumed, sizes, breaks, gpus = scaling.tables(counted)
    policies, settings = autoscale.tables(simulated)
    return {
        "cost": cost.markdown(),
        "assumed": assumed.markdown(),
        "sizes": sizes.markdown(),
        "breaks": breaks.markdown(),
        "gpus": gpus.markdown(),
        "lessons of size": arithmetic.lessons(scaling.base(counted), Assumptions()),
        "policies": policies.markdown(),
        "settings": settings.markdown(),
        "lessons of the day": lessons(simulated),
        "source": f"*Counted {counted['date']}, simulated {simulated['date']}. {summary(counted['machine'])}.*",
    }


def write() -> None:
    """Bring the page up to date; it stays as it is while a result is missing that it rests on."""
    try:
        made = parts()
    except MissingResults:
        return
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
