"""Which devices are asked for: their names, and how several processes share them out."""

from typing import Final

WANTED: Final = r"auto|cpu|cuda(:[0-9]{1,3})?(,cuda:[0-9]{1,3})*"
"""What can be asked for, as a regular expression."""


def indices(wanted: str) -> list[int]:
    """The GPUs of a name that is neither `auto` nor `cpu`, as CUDA counts them; `cuda` is the first."""
    return [int(name.partition(":")[2] or 0) for name in wanted.split(",")]


def share(wanted: str, worker: int, workers: int) -> str:
    """What is for one of several processes: devices of its own as long as there are enough, and else one of them."""
    names = wanted.split(",")
    return ",".join(names[worker::workers] if workers <= len(names) else [names[worker % len(names)]])


def refusal(name: str, reason: str) -> str:
    """What to say of a device that can't be had."""
    return f"device {name} can't be had: {reason}; --device cpu runs without a GPU"
