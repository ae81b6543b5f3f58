"""`wsbridge top` on the command line."""

# ruff: noqa: PLC0415 - what is imported later is slow to import or optional, and every command loads this module

import sys

import click

from wsbridge.cli.options import BRIDGE, Environ, Failed, examples, operators_url, url_option
from wsbridge.config.env import load


@click.command(epilog=examples("wsbridge top", "wsbridge top --once --url http://push.internal:8005"))
@url_option(BRIDGE, "http", "https", is_base=True)
@click.option("--once", is_flag=True, help="print the numbers of one second and end; the default in a pipe")
@click.pass_obj
def top(environ: Environ, url: str | None, *, once: bool) -> None:
    """Show the numbers of all replicas, as the console does.

    A line for each replica that shares the Redis; latencies are those of the last 10 seconds. Below: what is wrong, the
    events that were not stored, histories that Redis has lost, and why connections and requests failed. Ends with
    Ctrl-C.

    Needs the library rich, and outside of development mode WSBRIDGE_ADMIN_TOKEN, which may hold the viewer's token.
    """
    try:
        from wsbridge.cli.top.screen import run
    except ModuleNotFoundError as error:
        raise Failed(f"{error.name} is not installed: {sys.executable} -m pip install {error.name}") from None

    settings, _ = load(environ)
    url = (url or operators_url(settings)).rstrip("/")
    run(url, settings.admin_token, is_once=once or not sys.stdout.isatty())
