"""`wsbridge doctor` on the command line."""

# ruff: noqa: PLC0415 - what is imported later is slow to import, and every command loads this module

from typing import Any

import click

from wsbridge.cli import arg_types
from wsbridge.cli.commands import make_token
from wsbridge.cli.options import BRIDGE, FAILED, SIDECAR, Environ, examples, operators_url, url_option
from wsbridge.config.env import load

PUBLIC = "https://push.example.com"
HINTS = {  # parameter → the hint in the last line of the report if this option was not given
    "public_url": "--public-url URL (ingress)",
    "canary": "--canary (partitions)",
    "token": "--token JWT (your provider's tokens)",
    "caller": "--caller URL (other apps)",
}


@click.command(
    epilog=examples(
        "wsbridge doctor",
        "wsbridge doctor --canary --public-url https://push.example.com",
        "wsbridge doctor --url http://push.internal:8005 --json | jq .healthy",
    )
)
@url_option(BRIDGE, "http", "https", is_base=True)
@click.option(
    "--public-url",
    metavar="URL",
    type=arg_types.url(PUBLIC, "http", "https", is_base=True),
    help="URL that browsers use: also examines the ingress",
)
@click.option("--token", metavar="JWT", type=arg_types.token, help="for the ingress; default: a new one if possible")
@click.option("--origin", metavar="ORIGIN", help="origin of your pages; default: from the settings, or --public-url")
@click.option(
    "--idle",
    metavar="SECONDS",
    type=arg_types.seconds,
    default="30",
    show_default=True,
    help="time for which the ingress must keep an idle connection",
)
@click.option(
    "--dapr",
    metavar="URL",
    type=arg_types.url(SIDECAR, "http", "https", is_base=True),
    help=f"URL of the sidecar; default: port DAPR_HTTP_PORT of this machine, or {SIDECAR}",
)
@click.option(
    "--caller",
    metavar="URL",
    type=arg_types.url(SIDECAR, "http", "https", is_base=True),
    help="URL of another app's sidecar: checks whether that app may invoke the bridge",
)
@click.option("--canary", is_flag=True, help="publish an event in each partition, and wait for it")
@click.option("--json", "as_json", is_flag=True, help="print the findings as JSON")
@click.pass_obj
def doctor(environ: Environ, /, *, as_json: bool, **options: Any) -> int:
    """Examine a deployment and name each fault with its cure.

    Inside a deployment it takes the settings, the tokens and the sidecar's port from the environment. From outside,
    --url names the bridge and --dapr a sidecar; without --dapr the sidecar is not checked. Prints no secret.

    A line for each finding: failure, warning, ok, or not checked with the reason. The exit code is 1 if there is a
    failure, else 0.
    """
    import asyncio
    import sys

    from wsbridge.cli.doctor.findings import as_json as in_json
    from wsbridge.cli.doctor.findings import has_failed, report

    def note(text: str) -> None:
        if sys.stderr.isatty():
            click.echo(text, err=True)

    if options["public_url"]:
        note(f"ingress: takes {options['idle']:g} s (--idle)")
    findings = asyncio.run(_examine(environ, note=note, **options))
    hints = [text for parameter, text in HINTS.items() if not options[parameter]]
    click.echo(in_json(findings) if as_json else report(findings, hints))
    return FAILED if has_failed(findings) else 0


async def _examine(environ: Environ, *, url: str | None, dapr: str | None, token: str | None, **options: Any) -> Any:
    import aiohttp

    from wsbridge.cli.doctor.deployment import Deployment
    from wsbridge.cli.doctor.examination import examine
    from wsbridge.cli.doctor.ingress import USER

    settings, _ = load(environ)
    here = f"http://127.0.0.1:{settings.dapr_http_port}"
    async with aiohttp.ClientSession() as http:
        deployment = Deployment(
            settings=settings,
            http=http,
            url=url.rstrip("/") if url else operators_url(settings),
            sidecar=(dapr or ("" if url else here)).rstrip("/") or None,
            api_token=settings.dapr_api_token,
            token=token or (make_token(settings, USER) if settings.jwt_secret else None),
            is_own_token=token is None,
            **options,
        )
        return await examine(deployment)
