"""How the process writes what happens: one line an event, for people or for machines.

Every folder logs through the standard library, a constant message with its facts in `extra`; this
is the only place that configures anything. structlog renders both its own events and the standard
library's, so that a line of a library we use looks like one of ours. Lines go to standard error:
standard output belongs to the answers of commands, and whoever runs the peer collects the rest.

Lines of many peers meet in one place, and those of many tasks in one peer. So every JSON line says
who speaks, and whatever is said while a claim is worked on, wherever that is, names its task. A
line about another peer keeps the speaker's name, and has the other's as `about_peer`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from peer.config import LogFormat, LogLevel
from pipeline.context import claim_at_work

_NOISY = ("psycopg", "psycopg.pool", "minio", "urllib3", "pika")
"""Libraries whose INFO is our DEBUG."""


def configure(
    format: LogFormat,
    level: LogLevel,
    *,
    peer: str,
    stream: TextIO | None = None,
    **fields: Any,
) -> None:
    """Send every log line of this process to one place, in one shape. A repeat replaces it.

    Args:
        peer: The peer's name; it and the other fields stand in every JSON line. The console shows
            the name only.
        stream: None means standard error.
    """
    target = sys.stderr if stream is None else stream
    speaker: dict[str, Any] = {"peer": peer, **fields}
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        _at_work,
        _readable_values,
    ]
    if format == "json":
        shared += [structlog.processors.TimeStamper(fmt="iso", utc=True), _spoken_by(speaker)]
        rendering: list[Processor] = [
            structlog.processors.format_exc_info,  # text: local variables may hold a password
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    else:
        shared += [structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False), _named(peer)]
        rendering = [
            structlog.dev.ConsoleRenderer(
                colors=target.isatty(),
                pad_event_to=32,
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
    handler = _Lines(target, speaker)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        quiet = logging.WARNING if level != "debug" else logging.DEBUG
        logging.getLogger(name).setLevel(quiet)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(True)


class _Lines(logging.StreamHandler[TextIO]):
    """Writes lines, and knows in whose name."""

    def __init__(self, stream: TextIO, speaker: dict[str, Any]) -> None:
        super().__init__(stream)
        self.speaker = speaker


def identify(**fields: Any) -> None:
    """Let these stand in every JSON line from now on: who speaks, when that is known or changes."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Lines):
            handler.speaker.update(fields)


def _readable_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Write ids, paths and the like as text; both renderers would print their `repr`."""
    plain = (str, int, float, bool, list, tuple, dict, type(None))
    for key, value in event.items():
        if key not in ("exc_info", "stack_info") and not key.startswith("_"):
            event[key] = value if isinstance(value, plain) else str(value)
    return event


def _at_work(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add what is being worked on where the line is written, unless the line says it itself."""
    claim = claim_at_work()
    if claim is None or "task" in event:
        return event
    return {**event, "task": str(claim.task_id), "part": claim.part, "attempt": claim.attempt}


def _spoken_by(speaker: Mapping[str, Any]) -> Processor:
    """Add who speaks, and tell it from those who are spoken of.

    Args:
        speaker: As it is when a line is written.
    """

    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        said = {f"about_{name}" if name in speaker else name: each for name, each in event.items()}
        return {**speaker, **said}

    return add


def _named(peer: str) -> Processor:
    """Let the console's lines say who speaks where the module's name would stand."""

    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["logger"] = peer
        return event

    return add
