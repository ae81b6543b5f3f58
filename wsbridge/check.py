"""The settings as a person reads them: what may be set, what is set, what is wrong. Starts nothing."""

import re
from collections.abc import Mapping
from dataclasses import fields

from wsbridge.settings import HELP, PREFIX, SECRET_BYTES, UNPREFIXED, Settings, SettingsError, load
from wsbridge.terminal import printable

_NAME = re.compile(rf"(?:{PREFIX}|{'|'.join(UNPREFIXED)})[A-Z0-9_]*")
_KEYS = [f"{PREFIX}{name}" for name in ("JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_JWKS_URL")]
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


def examine(environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """The effective settings as a table, and every mistake in them, unknown names too.

    What is wrong is left out in order to look at the rest.
    """
    wrong, mistakes, rest, stand_in = set[str](), list[str](), dict(environ), dict[str, str]()
    while True:
        try:
            settings, unknown = load(rest | stand_in)
        except SettingsError as error:
            found = {name.removesuffix("_FILE") for line in error.lines for name in _NAME.findall(line.split(":")[0])}
            mistakes += error.lines
            if found <= wrong:  # nothing more to leave out: never so, but a check has to end
                return "", mistakes
            wrong |= found
            rest = {name: value for name, value in rest.items() if name.removesuffix("_FILE") not in wrong}
            stand_in = _stand_in(rest, wrong)
        else:
            shown = settings.masked()
            shown |= dict.fromkeys(stand_in, "-") | {name: "invalid" for name in wrong if name in shown}
            return table(shown), mistakes + ([] if stand_in else _of_keys(settings)) + unknown


def _stand_in(rest: Mapping[str, str], wrong: set[str]) -> dict[str, str]:
    """A key in the place of one that was left out, or its absence would be called a mistake."""
    if not wrong & {f"{PREFIX}AUTH", *_KEYS} or any(rest.get(name) or rest.get(f"{name}_FILE") for name in _KEYS):
        return {}
    return {_KEYS[0]: "-" * max(SECRET_BYTES.values())}


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
