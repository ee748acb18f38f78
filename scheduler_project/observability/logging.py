"""Logs as events: one JSON object a line, or plain text for a person."""

from __future__ import annotations

import sys
from typing import Any

import structlog

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]

_CHATTY = (
    # Two lines for every doorbell; the ledger tells of every run.
    "celery.app.trace",
    "celery.worker.strategy",
    # Whole URLs, which may hold secrets.
    "httpx2",
)


def logging_config(*, level: str, is_json: bool) -> dict[str, Any]:
    """The `logging.config.dictConfig` of every Gnomon process.

    Standard-library loggers (Django, Celery) and structlog's share one handler.
    """
    # The console draws tracebacks itself.
    exceptions = [structlog.processors.format_exc_info] if is_json else []
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            *exceptions,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if is_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "events": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [
                    *_SHARED,
                    *exceptions,
                ],
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    renderer,
                ],
            }
        },
        "handlers": {"stderr": {"()": "logging.StreamHandler", "formatter": "events"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {name: {"level": "WARNING"} for name in _CHATTY},
    }
