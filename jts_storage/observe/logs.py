"""Log records as JSON, one object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

from jts_storage._runtime.steps import committing

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; all else was given as ``extra``."""


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger, message, what was given as ``extra``, and commit and trace."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        given = {name: value for name, value in vars(record).items() if name not in _OWN}
        told |= _commit() | given | _trace()
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            told["stack"] = self.formatStack(record.stack_info)
        return _line(told)


def json_formatter() -> logging.Formatter:
    """A formatter for any handler: ``handler.setFormatter(json_formatter())``."""
    return JsonFormatter()


def _line(told: dict[str, Any]) -> str:
    try:
        line = json.dumps(told, default=str, ensure_ascii=False)
    except Exception:  # noqa: BLE001 - a field cannot be shown: the line is worth more than it
        line = json.dumps({str(name): _shown(value) for name, value in told.items()})
    return line.encode("utf-8", "backslashreplace").decode()


def _shown(value: Any) -> Any:
    try:
        json.dumps(value)
    except Exception:  # noqa: BLE001 - see above
        return f"a {type(value).__name__}"
    return value


def _commit() -> dict[str, str]:
    """The commit that is being made or finished, if any."""
    identity = committing.get()
    return {} if identity is None else {"commit_id": identity}


def _trace() -> dict[str, str]:
    """The current trace and span, where OpenTelemetry is installed and traces."""
    try:
        from opentelemetry import trace
    except ImportError:
        return {}
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(span.trace_id),
        "span_id": trace.format_span_id(span.span_id),
    }
