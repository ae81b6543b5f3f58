"""The commands that run a bridge, check it, and make tokens for it.

Each imports what it needs, because importing everything takes half a second.
"""

# ruff: noqa: PLC0415 - see above

import sys
from collections.abc import Sequence
from http import HTTPStatus

import click

from wsbridge.cli import arg_types
from wsbridge.cli.options import (
    BRIDGE,
    FAILED,
    USAGE,
    Environ,
    Failed,
    address,
    complain,
    examples,
    host_in_url,
    url_option,
    user_option,
)
from wsbridge.config.env import load
from wsbridge.config.settings import Settings

HEALTH_TIMEOUT = 3.0  # seconds
HEALTHY = ("healthy", "degraded")  # what /health says with status 200
TOKEN_TTL = 3600  # seconds


class ServeCommand(click.Command):
    """Lists all settings in its help."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from wsbridge.cli.check import catalogue

        formatter.write(f"\n{catalogue()}\n")
        super().format_options(ctx, formatter)


@click.command(
    cls=ServeCommand,
    epilog=examples(
        "wsbridge serve",
        "WSBRIDGE_PORT=9000 WSBRIDGE_LOG_LEVEL=debug wsbridge serve",
        "WSBRIDGE_HOST=0.0.0.0 WSBRIDGE_JWT_SECRET_FILE=/run/secrets/jwt wsbridge serve",
    ),
)
@click.pass_obj
def serve(environ: Environ) -> int:
    """Run the bridge.

    It runs until SIGTERM or Ctrl-C. Then it shuts down gracefully within WSBRIDGE_DRAIN_TIMEOUT. A second signal ends
    it at once. All settings come from environment variables:
    """
    settings, unknown = load(environ)
    import asyncio

    from wsbridge import server
    from wsbridge.supervision import event_loop
    from wsbridge.supervision.jobs import JobFailed
    from wsbridge.telemetry import log
    from wsbridge.telemetry.log_writer import LogWriter
    from wsbridge.telemetry.traces.environment import tracing
    from wsbridge.web.quickstart import program, welcome

    loop_factory = event_loop.factory(settings.loop)
    with LogWriter(sys.stdout.buffer, log.dropped_lines, log.report_dropped) as writer:
        style = log.configure(settings.log_level, settings.log_format, writer)
        for_people = style == "console"

        def started(ports: Sequence[int]) -> None:
            if for_people and (settings.development or settings.demo):
                topic, _ = settings.topics[0]
                writer.write(welcome(program(sys.argv[0]), host_in_url(settings), ports, topic).encode())

        try:
            with (
                tracing(environ, sends_all=settings.send_traceparent) as traces,
                asyncio.Runner(loop_factory=loop_factory) as runner,
            ):
                runner.run(server.serve(settings, unknown, brief=for_people, traces=traces, started=started))
        except JobFailed:  # the log has it
            return FAILED
    return 0


@click.command(
    epilog=examples(
        "wsbridge token --user alice",
        'wsbridge listen --user alice --token "$(wsbridge token --user alice --ttl 60)"',
    ),
)
@user_option
@click.option(
    "--ttl",
    metavar="SECONDS",
    type=arg_types.seconds,
    default=str(TOKEN_TTL),
    show_default=True,
    help="time until the token expires",
)
@click.option(
    "--algorithm", metavar="NAME", help="HS256, HS384 or HS512; default: the first of WSBRIDGE_JWT_ALGORITHMS, or HS256"
)
@click.pass_obj
def token(environ: Environ, user: str, ttl: int, algorithm: str | None) -> None:
    """Make a token for tests.

    Prints nothing but the token, signed with WSBRIDGE_JWT_SECRET. A bridge with a public key or a JWKS can only verify
    tokens: the owner of the private key makes them.
    """
    click.echo(make_token(load(environ)[0], user, ttl, algorithm))


def make_token(settings: Settings, user: str, ttl: int = TOKEN_TTL, algorithm: str | None = None) -> str:
    from wsbridge.auth.tokens import mint

    return mint(settings, user, ttl=ttl, algorithm=algorithm or next(iter(settings.jwt_algorithms), "HS256"))


@click.command(epilog=examples("wsbridge check", "WSBRIDGE_PORT=http wsbridge check"))
@click.pass_obj
def check(environ: Environ) -> int:
    """Check the settings.

    Prints the effective settings with secrets masked, then every mistake; an unknown WSBRIDGE_ name is a mistake here.
    The exit code is 2 if there is a mistake. Valid settings that are insecure, such as a missing token, are warnings.
    """
    from wsbridge.cli.check import examine

    table, mistakes, warnings = examine(environ)
    click.echo(table)
    for line in (*mistakes, *(f"warning: {warning}" for warning in warnings)):
        complain(line)
    return USAGE if mistakes else 0


@click.command(epilog=examples("wsbridge healthcheck", "wsbridge healthcheck --url http://127.0.0.1:9000/health"))
@url_option(f"{BRIDGE}/health", "http", "https", path="/health")
@click.pass_obj
def healthcheck(environ: Environ, url: str | None) -> None:
    """Ask a running bridge for its health.

    For containers. The exit code is 0 if the bridge is healthy or degraded, else 1.
    """
    from wsbridge.cli.http import reaching, send

    url = url or f"http://{address(load(environ)[0])}/health"
    with reaching(url):
        answer = send(url, timeout=HEALTH_TIMEOUT)
    status = answer.field("status")
    if answer.status == HTTPStatus.OK and status not in HEALTHY:
        raise Failed(f"{url} answers {answer.status}, but not as a bridge does: check --url")
    if answer.status != HTTPStatus.OK:
        raise Failed(f"{url} answers {answer.status} ({status or 'no status'})")
    click.echo(status)
