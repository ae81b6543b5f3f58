"""Reads the settings from environment variables and from the files that they name."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from wsbridge.config.redis_url import RedisUrlError
from wsbridge.config.settings import KEYS, PREFIX, SECRET_BYTES, Settings, SettingsError, is_loopback, variable
from wsbridge.config.value_types import without_secrets

_AUTHENTICATION = {PREFIX + name for name in ("AUTH", "HOST", "JWT_ALGORITHMS", "JWT_SECRET_PREVIOUS", *KEYS)}


class Reading(NamedTuple):
    """The settings, and all mistakes in the environment."""

    settings: Settings  # wrong values are at their default
    wrong: dict[str, str]  # variable → a line that says what is wrong
    unknown: list[str]  # a line for each unknown WSBRIDGE_ name


def load(environ: Mapping[str, str], *needed: str) -> tuple[Settings, list[str]]:
    """The settings and the warnings about unknown names.

    Raises `SettingsError` with one line for each mistake; if some variables are `needed`, for mistakes in these only.
    """
    settings, wrong, unknown = read(environ)
    if mistakes := [line for name, line in wrong.items() if not needed or name in needed]:
        raise SettingsError(*mistakes)
    return settings, unknown


def read(environ: Mapping[str, str]) -> Reading:
    """Read all variables; collect mistakes instead of raising the first."""
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for f in fields(Settings):
        try:
            text = _text(environ, f)
            if text is not None:
                values[f.name] = _parse(f, text)
        except SettingsError as error:
            wrong[variable(f)] = str(error)
    settings = Settings(**values)
    if not wrong.keys() & _AUTHENTICATION:  # else what follows would be a consequence of them
        default = "required" if settings.keys else "none" if is_loopback(settings.host) else None
        settings = replace(settings, auth=settings.auth or default)  # None if others can reach the host: it must be set
        wrong |= {PREFIX + name: line for name, line in _contradictions_of_keys(settings)}
    if settings.internal_port and settings.internal_port == settings.port:
        line = f"expected a port other than {PREFIX}PORT ({settings.port})"
        wrong[f"{PREFIX}INTERNAL_PORT"] = f"{PREFIX}INTERNAL_PORT: {line}"
    if settings.viewer_token and settings.viewer_token == settings.admin_token:
        wrong[f"{PREFIX}VIEWER_TOKEN"] = f"{PREFIX}VIEWER_TOKEN: expected a token other than {PREFIX}ADMIN_TOKEN"
    elif settings.viewer_token and not settings.admin_token:
        line = f"{PREFIX}VIEWER_TOKEN is set without {PREFIX}ADMIN_TOKEN, so every caller is an operator; set both"
        wrong[f"{PREFIX}VIEWER_TOKEN"] = line
    return Reading(settings, wrong, _unknown(environ))


def _text(environ: Mapping[str, str], f: Field[Any]) -> str | None:
    """The text from NAME or from the file in NAME_FILE; None for neither. Empty counts as not set."""
    name = variable(f)
    direct, path = environ.get(name), environ.get(name + "_FILE") if f.metadata["type"].has_file else None
    try:
        (direct or "").encode()
    except UnicodeEncodeError:
        raise SettingsError(f"{name}: expected UTF-8 text") from None
    if direct and path:
        raise SettingsError(f"{name} and {name}_FILE are both set; set one of them")
    if path:
        try:
            return Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SettingsError(f"{name}_FILE: cannot read {path}: {why}") from None
    return direct or None


def _parse(f: Field[Any], text: str) -> Any:
    name, value_type = variable(f), f.metadata["type"]
    try:
        return value_type.parse(text)
    except RedisUrlError as error:
        raise SettingsError(f"{name}: expected {value_type.expected}; {error}") from None
    except (ValueError, msgspec.ValidationError):
        got = without_secrets(text) if value_type.show is without_secrets else text
        shown = "" if value_type.has_file else f", got {got[:80]!r}"
        if text.startswith("tcp://"):
            shown += " (Kubernetes injects it for a Service of that name; set enableServiceLinks: false in the pod)"
        raise SettingsError(f"{name}: expected {value_type.expected}{shown}") from None


def _contradictions_of_keys(s: Settings) -> Iterator[tuple[str, str]]:
    """Pairs of a name without its prefix and a line."""
    one_of_them = ", ".join(PREFIX + name for name in KEYS)
    if len(s.keys) > 1:
        yield s.keys[0].removeprefix(PREFIX), f"{s.keys[0]} and {s.keys[1]} are both set; set one of them"
    if s.auth is None:
        todo = f"set one of {one_of_them}, or {PREFIX}AUTH=none to let anyone connect as any user"
        yield "AUTH", f"{PREFIX}AUTH: no key is set, and others can reach {PREFIX}HOST={s.host}; {todo}"
    if s.authenticates and not s.keys:
        yield "AUTH", f"{PREFIX}AUTH=required needs one of {one_of_them}"
    if s.demo and s.authenticates:
        yield "DEMO", f"{PREFIX}DEMO=true opens all routes to everybody; it needs {PREFIX}AUTH=none"
    if s.jwt_secret_previous and not s.jwt_secret:
        name = "JWT_SECRET_PREVIOUS"
        yield name, f"{PREFIX}{name} is set without {PREFIX}JWT_SECRET; set both or neither"
    least = min(SECRET_BYTES.get(algorithm, 32) for algorithm in s.jwt_algorithms or ("HS256",))
    for name, secret in (("JWT_SECRET", s.jwt_secret), ("JWT_SECRET_PREVIOUS", s.jwt_secret_previous)):
        if secret and (size := len(secret.encode())) < least:
            todo = "make one with: openssl rand -base64 48"
            yield name, f"{PREFIX}{name}: expected {least} bytes or more, got {size}; {todo}"


def _unknown(environ: Mapping[str, str]) -> list[str]:
    known = {variable(f) for f in fields(Settings)}
    known |= {variable(f) + "_FILE" for f in fields(Settings) if f.metadata["type"].has_file}
    found = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known:
            continue
        import difflib  # noqa: PLC0415 - slow to import, and rarely needed

        if re.match(PREFIX + r"(PORT_\d|SERVICE_(HOST|PORT))", name):
            hint = "injected by Kubernetes; set enableServiceLinks: false in the pod"
        else:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            hint = f"did you mean {near[0]}?"
        found.append(f"{name}: no such setting; {hint}")
    return found
