"""`wsbridge check`: all settings with their values, every mistake, every weakness."""

# ruff: noqa: PLC0415 - what is imported later is slow to import, and not needed for the catalogue

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from typing import NamedTuple

from wsbridge.cli.formatting import printable
from wsbridge.config.env import read
from wsbridge.config.settings import HELP, Settings, SettingsError
from wsbridge.config.weaknesses import weaknesses

_FILES = [name for name, f in zip(HELP, fields(Settings), strict=True) if f.metadata["type"].has_file]
WIDEST_VALUE = 32  # columns; a wider value moves the help of its own line only


def catalogue() -> str:
    files = ", ".join(_FILES)
    return f"{table(Settings().masked())}\n\nNAME_FILE=path reads the value from a file, for {files}."


def table(shown: Mapping[str, str]) -> str:
    """A line for each variable: name, value with secrets masked, help."""
    helps = [
        text + (" (seconds)" if f.metadata["type"].expected.startswith("seconds") else "")
        for text, f in zip(HELP.values(), fields(Settings), strict=True)
    ]
    name_width, value_width = max(map(len, shown)), min(max(map(len, shown.values())), WIDEST_VALUE)
    return "\n".join(
        f"{name:{name_width}}  {printable(value):{value_width}}  {text}"
        for (name, value), text in zip(shown.items(), helps, strict=True)
    )


class Examined(NamedTuple):
    table: str
    mistakes: list[str]  # unknown names included
    warnings: list[str]  # weaknesses; empty while a value is wrong


def examine(environ: Mapping[str, str]) -> Examined:
    settings, wrong, unknown = read(environ)
    mistakes = [*wrong.values(), *([] if wrong else _of_parts(settings)), *unknown]
    shown = table(settings.masked() | dict.fromkeys(wrong, "invalid"))
    return Examined(shown, mistakes, [] if wrong else weaknesses(settings))


def _of_parts(settings: Settings) -> Iterator[str]:
    """Mistakes that only show when the parts are built from the settings, as the bridge does at its start."""
    from wsbridge.supervision import event_loop

    builders: list[Callable[[], object]] = [partial(event_loop.factory, settings.loop)]
    if settings.authenticates:
        from wsbridge.auth import keys
        from wsbridge.telemetry import metrics

        builders.append(lambda: keys.build(settings, metrics.Metrics()))
    if settings.redis_url:
        from wsbridge.broker.redis.topology import create_server

        builders.append(partial(create_server, settings.redis_url))
    for build in builders:
        try:
            build()
        except SettingsError as error:
            yield from error.lines
