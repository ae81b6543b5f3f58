"""The log of a bridge in this process."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import structlog

from tests.support.running import until
from wsbridge.telemetry.log import configure, log


class Logs:
    """The log of the bridge in this process, at every level and as JSON."""

    def __init__(self) -> None:
        self.stream = io.BytesIO()
        self.expected: set[str] = set()  # events at level error that the test causes on purpose
        self._lines: list[dict[str, Any]] = []
        self._read = 0

    @property
    def text(self) -> str:
        return self.stream.getvalue().decode()

    @property
    def lines(self) -> list[dict[str, Any]]:
        if self.stream.tell() > self._read:
            fresh = self.stream.getvalue()[self._read :]
            self._read += len(fresh)
            self._lines += [json.loads(line) for line in fresh.splitlines()]
        return self._lines

    def of(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """The lines of an event that have these fields, so far."""
        return [line for line in self.lines if line["event"] == event and fields.items() <= line.items()]

    async def line(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait for such a line; return the first one."""
        with contextlib.suppress(TimeoutError):
            await until(lambda: self.of(event, **fields))
        found = self.of(event, **fields)
        assert found, (event, fields, self.of(event) or {line["event"] for line in self.lines})
        return found[0]

    def check(self) -> None:
        """Check that every error in the log was expected."""
        wrong = [line for line in self.lines if line["level"] in ("error", "critical")]
        unexpected = [line for line in wrong if line["event"] not in self.expected]
        assert not unexpected, json.dumps(unexpected, indent=1).replace("\\n", "\n")
        assert self.expected <= {line["event"] for line in wrong}

    @classmethod
    @contextlib.contextmanager
    def captured(cls) -> Iterator["Logs"]:
        """Capture the log. At the end the global configuration is restored."""
        logs, root, websocket = cls(), logging.getLogger(), logging.getLogger("aiohttp.websocket")
        before = root.handlers, root.level, websocket.disabled
        with warnings.catch_warnings():
            configure("debug", "json", logs.stream)
            logging.captureWarnings(capture=False)
        log.__dict__.pop("bind", None)  # what structlog has cached for an earlier configuration
        try:
            yield logs
        finally:
            root.handlers, root.level, websocket.disabled = before
            structlog.reset_defaults()
            log.__dict__.pop("bind", None)
