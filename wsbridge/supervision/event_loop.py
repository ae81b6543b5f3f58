"""Chooses the event loop: uvloop, which takes less CPU, where it is installed, else asyncio's own."""

import asyncio
from collections.abc import Callable
from importlib import import_module

from wsbridge.config.settings import PREFIX, SettingsError


def factory(wanted: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """The factory of loops for `LOOP`. Raises `SettingsError` if uvloop is asked for and cannot be imported."""
    if wanted != "asyncio":
        try:
            new_event_loop: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
        except ImportError as error:
            if wanted == "uvloop":
                raise SettingsError(
                    f"{PREFIX}LOOP=uvloop: {error}; install uvloop, or set {PREFIX}LOOP=auto to do without it"
                ) from None
        else:
            return new_event_loop
    return asyncio.new_event_loop


def running_name() -> str:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]
