"""Options, texts and exit codes that several commands share."""

from collections.abc import Callable, Mapping
from typing import IO, Any, TypeVar

import click

from wsbridge.cli import arg_types
from wsbridge.cli.formatting import printable
from wsbridge.config.settings import PREFIX, Settings, SettingsError

FAILED, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 128 + 2, 128 + 13  # the last two as shells count signals
DEFAULTS = Settings()
BRIDGE = f"http://{DEFAULTS.host}:{DEFAULTS.port}"
WEBSOCKET = f"ws://{DEFAULTS.host}:{DEFAULTS.port}/ws"
SIDECAR = "http://127.0.0.1:3500"  # Dapr's default
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a bridge on all addresses answers here
Environ = Mapping[str, str]
Command = TypeVar("Command", bound=Callable[..., int | None])


class Failed(click.ClickException):
    """Ends a command with exit code 1; the text is its reason."""

    def show(self, file: IO[Any] | None = None) -> None:
        complain(self.message)


def examples(*lines: str, text: str = "") -> str:
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines), "", text))


def url_option(default: str, *schemes: str, path: str = "", is_base: bool = False) -> Callable[[Command], Command]:
    port = "WSBRIDGE_PORT" if path else "WSBRIDGE_INTERNAL_PORT, else WSBRIDGE_PORT"
    text = f"URL of the bridge; default: {default}, or from WSBRIDGE_HOST and {port}"
    value_type = arg_types.url(default, *schemes, path=path, is_base=is_base)
    return click.option("--url", metavar="URL", type=value_type, help=text)


user_option = click.option("--user", metavar="ID", required=True, type=arg_types.user, help="id of the user")


def complain(text: str) -> None:
    """Print one line for a person on standard error."""
    click.echo(f"wsbridge: {printable(text)}", err=True)


def address(settings: Settings, *, internal: bool = False) -> str:
    """Host and port at which this machine reaches a bridge with these settings."""
    port = settings.internal_port if internal and settings.internal_port is not None else settings.port
    if port == 0:
        raise SettingsError(f"{PREFIX}PORT is 0, which picks a free port; give --url")
    return f"{host_in_url(settings)}:{port}"


def operators_url(settings: Settings) -> str:
    """The address of the port with the operators' and the sidecar's routes, on this machine."""
    return f"http://{address(settings, internal=True)}"


def host_in_url(settings: Settings) -> str:
    host = settings.host.strip("[]")
    host = _HERE.get(host, host)
    return f"[{host}]" if ":" in host else host
