"""The settings as a person reads them: what may be set, what is set, what is wrong. Starts nothing."""

import re
from collections.abc import Mapping, Set
from dataclasses import fields

from wsbridge.settings import HELP, PREFIX, UNPREFIXED, Settings, SettingsError, load
from wsbridge.terminal import printable

_NAME = re.compile(rf"(?:{PREFIX}|{'|'.join(UNPREFIXED)})[A-Z0-9_]*")
_AUTH = f"{PREFIX}AUTH"
_KEYS = {_AUTH, f"{PREFIX}JWT_SECRET", f"{PREFIX}JWT_PUBLIC_KEY", f"{PREFIX}JWT_JWKS_URL"}
_FILES = [name for name, f in zip(HELP, fields(Settings), strict=True) if f.metadata["file"]]
WIDEST_VALUE = 32  # columns: a longer one pushes its own help aside, not everyone's


def catalogue() -> str:
    """Every variable with its default."""
    files = ", ".join(_FILES)
    return f"{table(Settings())}\n\nNAME_FILE=path reads the value from a file, for {files}."


def table(settings: Settings, instead: Mapping[str, str] | None = None) -> str:
    """A line for each variable: name, value with secrets masked (or what is to be shown instead), help."""
    shown = settings.masked() | (instead or {})
    helps = [
        text + (" (seconds)" if f.metadata["kind"].expected.startswith("seconds") else "")
        for text, f in zip(HELP.values(), fields(Settings), strict=True)
    ]
    name_width, value_width = max(map(len, shown)), min(max(map(len, shown.values())), WIDEST_VALUE)
    return "\n".join(
        f"{name:{name_width}}  {printable(value):{value_width}}  {text}"
        for (name, value), text in zip(shown.items(), helps, strict=True)
    )


def examine(environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """The effective settings as a table, and every mistake in them, unknown names too."""
    wrong, mistakes = set[str](), list[str]()
    while True:
        try:
            settings, unknown = load(_without(environ, wrong))
        except SettingsError as error:
            found = {name.removesuffix("_FILE") for line in error.lines for name in _NAME.findall(line.split(":")[0])}
            mistakes += error.lines
            if found <= wrong:  # nothing more to leave out: never so, but a check has to end
                return "", mistakes
            wrong |= found
        else:
            return table(settings, _instead(wrong)), mistakes + _of_keys(settings) + unknown


def _without(environ: Mapping[str, str], wrong: Set[str]) -> dict[str, str]:
    """What is wrong is left out, to look at the rest; that a key is missing then must not be a mistake of its own."""
    rest = {name: value for name, value in environ.items() if name.removesuffix("_FILE") not in wrong}
    return rest | ({_AUTH: "none"} if wrong & _KEYS else {})


def _instead(wrong: Set[str]) -> dict[str, str]:
    known = Settings().masked()
    return ({_AUTH: "?"} if wrong & _KEYS else {}) | {name: "invalid" for name in wrong if name in known}


def _of_keys(settings: Settings) -> list[str]:
    """What only shows when the keys are built, as the bridge does if it authenticates."""
    if not settings.authenticates:
        return []
    from wsbridge import keys, metrics  # noqa: PLC0415 - slow to load, and the catalogue does without

    try:
        keys.build(settings, metrics.Metrics())
    except SettingsError as error:
        return list(error.lines)
    return []
