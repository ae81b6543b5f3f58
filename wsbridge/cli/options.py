"""Options and texts that several commands share."""

from collections.abc import Callable

import click

from wsbridge.cli import arg_types
from wsbridge.config.settings import Settings

DEFAULTS = Settings()
BRIDGE = f"http://{DEFAULTS.host}:{DEFAULTS.port}"
WEBSOCKET = f"ws://{DEFAULTS.host}:{DEFAULTS.port}/ws"
SIDECAR = "http://127.0.0.1:3500"  # Dapr's default


def examples(*lines: str, text: str = "") -> str:
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines), "", text))


def url_option(default: str, *schemes: str, path: str = "") -> Callable[[Callable[..., int]], Callable[..., int]]:
    text = f"URL of the bridge; default: {default}, or from WSBRIDGE_HOST and WSBRIDGE_PORT"
    return click.option("--url", metavar="URL", type=arg_types.url(default, *schemes, path=path), help=text)


user_option = click.option("--user", metavar="ID", required=True, type=arg_types.user, help="id of the user")
