"""Captures the log for a test: the lines and the records."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import structlog

from wsbridge.telemetry import log as module
from wsbridge.telemetry.log import configure, log

CONTROLS = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)} - {"\n"}


class Output(io.BytesIO):
    """A stream that can pretend to be a terminal."""

    terminal = False

    def isatty(self) -> bool:
        return self.terminal

    @property
    def text(self) -> str:
        return self.getvalue().decode()

    @property
    def lines(self) -> list[str]:
        """The lines written so far, without an incomplete last one."""
        assert self.text == "" or self.text.endswith("\n")
        return self.text.splitlines()

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@contextlib.contextmanager
def logging_to(style: str | None = "json", level: str = "debug", *, terminal: bool = False) -> Iterator[Output]:
    """Capture the log inside the context. At the end the global configuration is restored."""
    root, websocket = logging.getLogger(), logging.getLogger("aiohttp.websocket")
    before, least = (root.handlers, root.level, websocket.disabled), module._least
    output = Output()
    output.terminal = terminal
    vars(log).pop("bind", None)  # what structlog has cached
    with warnings.catch_warnings():
        configure(level, style, output)
        try:
            yield output
        finally:
            logging.captureWarnings(capture=False)
            root.handlers, root.level, websocket.disabled = before
            module._least = least
            structlog.reset_defaults()
            vars(log).pop("bind", None)
