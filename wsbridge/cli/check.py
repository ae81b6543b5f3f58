"""The settings as a person reads them: what may be set, what is set, what is wrong. Starts nothing."""

from collections.abc import Mapping
from dataclasses import fields
from typing import NamedTuple

from wsbridge.cli.formatting import printable
from wsbridge.config.env import read
from wsbridge.config.settings import HELP, Settings, SettingsError
from wsbridge.config.weaknesses import weaknesses

_FILES = [name for name, f in zip(HELP, fields(Settings), strict=True) if f.metadata["file"]]
WIDEST_VALUE = 32  # columns: a longer one pushes its own help aside, not everyone's


def catalogue() -> str:
    """Every variable with its default."""
    files = ", ".join(_FILES)
    return f"{table(Settings().masked())}\n\nNAME_FILE=path reads the value from a file, for {files}."


def table(shown: Mapping[str, str]) -> str:
    """A line for each variable: name, value with secrets masked, help."""
    helps = [
        text + (" (seconds)" if f.metadata["kind"].expected.startswith("seconds") else "")
        for text, f in zip(HELP.values(), fields(Settings), strict=True)
    ]
    name_width, value_width = max(map(len, shown)), min(max(map(len, shown.values())), WIDEST_VALUE)
    return "\n".join(
        f"{name:{name_width}}  {printable(value):{value_width}}  {text}"
        for (name, value), text in zip(shown.items(), helps, strict=True)
    )


class Examined(NamedTuple):
    table: str
    mistakes: list[str]  # unknown names too
    warnings: list[str]  # what is valid and leaves something open; nothing while there are mistakes in values


def examine(environ: Mapping[str, str]) -> Examined:
    """The effective settings as a table, and what is to be said about them."""
    settings, wrong, unknown = read(environ)
    mistakes = [*wrong.values(), *([] if wrong else _of_keys(settings)), *unknown]
    shown = table(settings.masked() | dict.fromkeys(wrong, "invalid"))
    return Examined(shown, mistakes, [] if wrong else weaknesses(settings))


def _of_keys(settings: Settings) -> list[str]:
    """What only shows when the keys are built, as the bridge does if it authenticates."""
    if not settings.authenticates:
        return []
    from wsbridge.auth import keys  # noqa: PLC0415 - slow to load, and the catalogue does without
    from wsbridge.telemetry import metrics  # noqa: PLC0415 - slow to load, and the catalogue does without

    try:
        keys.build(settings, metrics.Metrics())
    except SettingsError as error:
        return list(error.lines)
    return []
