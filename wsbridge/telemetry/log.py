"""Structured logs: one event per line, named `noun.verb`. docs/logging.md lists all events."""

import json
import logging
import logging.config
import re
import warnings
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import structlog

from wsbridge.telemetry.log_budget import LogBudget
from wsbridge.telemetry.log_writer import FAILED, SLOW
from wsbridge.telemetry.redaction import scrubbed

LONGEST_VALUE = 512  # characters of one field, which may be untrusted input; the rest is cut off
_HARMLESS = (int, float, bool, type(None))
BUDGET = "budget"  # reason of a dropped line: too many lines of its event
_UNSEEN = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]")  # legal in JSON, but terminals interpret them

_json = msgspec.json.Encoder(enc_hook=repr).encode
_least = logging.NOTSET
dropped_lines: Counter[str] = Counter({BUDGET: 0, SLOW: 0, FAILED: 0})  # by reason, since the start of the process
log: structlog.typing.FilteringBoundLogger = structlog.get_logger("wsbridge")


class LineSink(Protocol):
    """The destination of log lines. `write` must neither block nor raise."""

    def isatty(self) -> bool: ...

    def write(self, line: bytes, /) -> object: ...


def configure(level: str, style: str | None, sink: LineSink) -> str:
    """Send all log lines, also those of libraries, to `sink`, in the style `json` or `console`.

    Returns the style. The default is `console` if the sink is a terminal, and `json` otherwise.
    """
    global _least  # noqa: PLW0603 - logging is process-wide
    _least = logging.getLevelNamesMapping()[level.upper()]
    style = style or ("console" if sink.isatty() else "json")
    last: list[structlog.typing.Processor] = [_encode]
    if style == "console":
        last = [_visible, structlog.dev.ConsoleRenderer(colors=sink.isatty(), pad_event_to=20), _to_bytes]
    structlog.configure(
        processors=[_Budgeted(), _headed, structlog.processors.format_exc_info, _safe, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(sink),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Forward()]
    root.setLevel(logging.WARNING)
    logging.getLogger("aiohttp.websocket").disabled = True  # it logs offered subprotocols, bearer tokens among them
    logging.captureWarnings(capture=True)
    warnings.simplefilter("default")
    return style


def report_dropped(lines: int, why: str) -> None:
    log.warning("log.dropped", lines=lines, why=why)


class _Lines:
    """The logger for structlog: writes complete lines to the sink."""

    def __init__(self, sink: LineSink) -> None:
        self._sink = sink

    def write(self, line: bytes) -> None:
        self._sink.write(line + b"\n")

    debug = info = warning = error = critical = exception = write


class _Budgeted:
    """A processor that drops lines of events over their budget. It is the first one, so that dropping is cheap."""

    def __init__(self) -> None:
        self._budget = LogBudget()

    def __call__(self, _: Any, method: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if method == "debug" or fields["event"] == "log.dropped":
            return fields
        allowed = self._budget.allows(fields["event"])
        for event, lines in self._budget.due().items():
            dropped_lines[BUDGET] += lines
            report_dropped(lines, f"{BUDGET} of {event}")
        if not allowed:
            raise structlog.DropEvent
        return fields


def debugging() -> bool:
    """Whether the level is debug. For the hot path: a call of the logger costs more than everything else there."""
    return _least <= logging.DEBUG


def _safe(_: Any, __: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Cut long values, because untrusted input must not fill the disk. Mask tokens, as in a URL or an error's text."""
    for name, value in fields.items():
        if name == "exception" or (value.__class__ is str and len(value) <= LONGEST_VALUE):  # nearly always
            fields[name] = scrubbed(value)
        elif value.__class__ not in _HARMLESS:
            fields[name] = _safe_value(value)
    return fields


def _safe_value(value: Any) -> Any:
    match value:
        case str():
            return scrubbed(value if len(value) <= LONGEST_VALUE else value[:LONGEST_VALUE] + "…")
        case list() | tuple():
            return [_safe_value(item) for item in value]
        case dict():
            return {name: _safe_value(item) for name, item in value.items()}
        case _:
            return value


def _headed(_: Any, level: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Put timestamp, level and event first, for human readers. The name of the called method is the level."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")[: -len("+00:00")]
    return {"timestamp": f"{now}Z", "level": level, "event": fields.pop("event"), **fields}


def _visible(_: Any, __: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape control characters: no line breaks within a line, and no escape sequences for the terminal."""
    for name, value in fields.items():
        if isinstance(value, str) and not value.isprintable():
            kept = "\n" if name == "exception" else ""
            fields[name] = "".join(c if c.isprintable() or c in kept else ascii(c)[1:-1] for c in value)
    return fields


def _encode(_: Any, __: str, fields: structlog.typing.EventDict) -> bytes:
    try:
        line = _json(fields)
        if (line.isascii() and b"\x7f" not in line) or not _UNSEEN.search(line):
            return line
    except (UnicodeEncodeError, TypeError):  # for example a lone surrogate from a header
        pass
    return json.dumps(fields, default=repr).encode()


def _to_bytes(_: Any, __: str, line: Any) -> bytes:
    return str(line).encode(errors="backslashreplace")


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        name = {"WARNING": "warning", "ERROR": "error", "CRITICAL": "critical"}.get(record.levelname, "info")
        getattr(log, name)("library.log", logger=record.name, message=_message(record), exc_info=record.exc_info)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a wrong logging call in a library must not raise in its caller
        return f"{record.msg} {record.args}"
