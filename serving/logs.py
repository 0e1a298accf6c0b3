"""Logs: one line an event, readable on a terminal and JSON where a machine collects them."""

import logging
import sys
from typing import Literal

import structlog


def configure(form: Literal["auto", "text", "json"], level: str) -> None:
    """Send every logger of the process to standard error, in one form."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if text else "iso", utc=not text),
    ]
    last: list[structlog.typing.Processor] = (
        # Values are shown by their repr: a line break in one can't pass for a line of its own.
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), repr_native_str=True, pad_event_to=24)]
        if text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
