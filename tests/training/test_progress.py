"""Bars on a terminal, a few plain lines elsewhere."""

import io

from rich.console import Console

from training.progress import LINES, Display, Log
from training.runs import Epoch


def shown(terminal: bool) -> str:
    output = io.StringIO()
    with Display("topic", Console(file=output, force_terminal=terminal, width=120)) as display:
        display.say("reading")
        for epoch in range(1, 81):
            display.epoch(Epoch("final", epoch, 80, {"loss": 1 / epoch}))
    return output.getvalue()


def test_plain_lines() -> None:
    lines = shown(terminal=False).splitlines()
    assert lines[0] == "topic: reading"
    assert lines[-1] == "topic: final, epoch 80/80  loss 0.0125"
    assert len(lines) == 1 + LINES
    assert "\x1b" not in "".join(lines)


def test_a_bar_on_a_terminal() -> None:
    output = shown(terminal=True)
    assert "topic: final" in output
    assert "80/80" in output
    assert "loss 0.0125" in output


def test_brackets_are_no_markup() -> None:
    output = io.StringIO()
    with Display("topic", Console(file=output, width=120)) as display:
        display.say("written to [red]a[/x] folder")
    assert output.getvalue() == "topic: written to [red]a[/x] folder\n"


def test_the_log_keeps_what_can_be_kept() -> None:
    with Display("topic", Console(file=io.StringIO(), width=120)) as display:
        log = Log(display)
        log(Epoch("final", 1, 2, {"loss": 0.5, "val_loss": float("nan")}, 1.5, 30))
    [epoch] = log.epochs
    assert epoch == Epoch("final", 1, 2, {"loss": 0.5}, 1.5, 30)
