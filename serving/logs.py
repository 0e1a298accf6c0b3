"""Logs: one line an event, readable on a terminal and JSON where a machine collects them."""

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

from serving.redaction import Foreign


def configure(form: Literal["auto", "text", "json"], level: str) -> None:
    """Send every logger of the process to standard error, in one form."""
    terminal = sys.stderr.isatty()
    text = form == "text" or (form == "auto" and terminal)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if text else "iso", utc=not text),
            structlog.stdlib.add_log_level,
            *([] if text else [structlog.stdlib.add_logger_name]),
            structlog.stdlib.ExtraAdder(),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *(_text(colors=terminal) if text else _json()),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(Foreign())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _text(*, colors: bool) -> list[Processor]:
    # Values are shown by their repr: a line break in one can't pass for a line of its own.
    # Tracebacks are plain: those that structlog makes where it finds `rich` show local variables, requests included.
    return [
        structlog.dev.ConsoleRenderer(
            colors=colors,
            repr_native_str=True,
            sort_keys=False,
            pad_event_to=12,
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]


def _json() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
