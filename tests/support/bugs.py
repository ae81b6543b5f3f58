"""Replacements for functions of wsbridge: they raise, count or wait."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from wsbridge.sessions.bus import Bus


class Bug(Exception):  # noqa: N818 - represents an unexpected exception
    """Raised by a `Buggy` function."""


class Buggy:
    """Replaces a function of wsbridge; raises for the calls that `unlucky` picks by their arguments."""

    def __init__(self, real: Callable[..., Any], unlucky: Callable[..., bool] = lambda *_: True) -> None:
        self._real = real
        self._unlucky = unlucky

    def __call__(self, *args: Any, **named: Any) -> Any:
        if self._unlucky(*args):
            raise Bug
        return self._real(*args, **named)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind to an instance, as a method."""
        return functools.partial(self, instance)


class Counted:
    """Replaces a function of wsbridge and counts its calls."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self._real = real
        self.calls = 0

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.calls += 1
        return self._real(*args, **named)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind to an instance, as a method."""
        return functools.partial(self, instance)


class BlockedBroadcaster:
    """Bridges that are started after this one take no entries from their queue until `release`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._gate = asyncio.Event()
        broadcast = Bus.broadcast

        async def blocked(bus: Bus) -> None:
            await self._gate.wait()
            await broadcast(bus)

        monkeypatch.setattr(Bus, "broadcast", blocked)

    def release(self) -> None:
        self._gate.set()
