"""Where each node really ran, from ONNX Runtime's profile: the arithmetic on the device, the rest for a reason."""

from collections import Counter

from gpu.check import golden
from gpu.check.context import Context
from gpu.check.finding import Finding, Table
from serving.engine import device
from serving.engine.placement import Placement
from serving.engine.session import Session


def run(context: Context, found: Finding) -> None:
    """Profile the golden examples of every package."""
    here = device.choose(context.device)[0]
    strict = found.on_cuda("a node of every package runs on CUDA, and none elsewhere without a reason")
    rows = []
    for package in golden.packages(context.models):
        session = Session(package.model, here, profiled=True)
        golden.computed(package.manifest, session)
        placed = session.placement()
        name = f"{package.manifest.name} {package.manifest.version}"
        if strict:
            judge(found, name, placed, here.provider)
        rows.append(_line(name, here.name, placed.nodes.get(here.provider, Counter())))
        excused = sorted(placed.excuses(here.provider).items())
        rows += [_line(name, f"elsewhere: {why or 'NO REASON'}", operators) for why, operators in excused]
    found.tables.append(Table(("package", "where, and why", "nodes", "which"), rows))


def judge(found: Finding, name: str, placed: Placement, provider: str) -> None:
    """Hold the placement of one package against what is promised."""
    found.expect(placed.count(provider) > 0, f"{name}: no node ran on {provider}")
    without = placed.excuses(provider).get("", Counter())
    found.expect(not without, f"{name}: not on {provider}, without a reason: {_counted(without)}")


def _line(name: str, where: str, operators: "Counter[str]") -> tuple[str, str, int, str]:
    return name, where, operators.total(), _counted(operators)


def _counted(ops: "Counter[str]") -> str:
    return ", ".join(f"{op}×{count}" if count > 1 else op for op, count in sorted(ops.items()))
