"""The `wsbridge` command line: commands, options and help. `commands` has their code.

Built on click. With argparse, help pages, suggestions for mistyped names and options between arguments would need code.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from wsbridge import __version__
from wsbridge.cli import arg_types, commands
from wsbridge.cli.command_types import PublishCommand, ServeCommand
from wsbridge.cli.commands import Environ
from wsbridge.cli.options import BRIDGE, DEFAULTS, SIDECAR, WEBSOCKET, examples, url_option, user_option
from wsbridge.config.settings import SettingsError

INTERRUPTED, BROKEN_PIPE = 128 + 2, 128 + 13  # as shells count signals


def main(argv: Sequence[str] | None = None) -> None:
    sys.exit(run(sys.argv[1:] if argv is None else argv, os.environ))


def run(argv: Sequence[str], environ: Environ) -> int:
    """Run one command and return its exit code."""
    try:
        try:
            if bad := [word for word in argv if any("\udc80" <= c <= "\udcff" for c in word)]:
                raise click.UsageError(f"expected UTF-8, got {bad[0]!r}")
            with cli.make_context("wsbridge", list(argv), obj=environ) as context:
                return int(cli.invoke(context) or 0)
        finally:
            sys.stdout.flush()
    except click.exceptions.Exit as end:  # after --help and --version
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SettingsError as error:
        for line in error.lines:
            commands.complain(line)
        return commands.USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader has exited, as with `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at exit
        return BROKEN_PIPE


@click.group(
    invoke_without_command=True,
    epilog=examples(
        "wsbridge serve",
        "wsbridge listen --user alice",
        "wsbridge publish --user alice task.created task_id=1 title='Buy milk'",
        text="Settings come from environment variables: `wsbridge serve --help` lists them, `wsbridge check` checks "
        "them. Exit codes: 0 success, 1 failure, 2 wrong options or settings, 130 ended by Ctrl-C.",
    ),
)
@click.version_option(__version__, message="wsbridge %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Deliver every event of a user to every open tab of that user, once, in order."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command(
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
    return commands.serve(environ)


@cli.command(
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
    default=str(commands.TOKEN_TTL),
    show_default=True,
    help="time until the token expires",
)
@click.option(
    "--algorithm", metavar="NAME", help="HS256, HS384 or HS512; default: the first of WSBRIDGE_JWT_ALGORITHMS, or HS256"
)
@click.pass_obj
def token(environ: Environ, /, **options: Any) -> int:
    """Make a token for tests.

    Prints nothing but the token, signed with WSBRIDGE_JWT_SECRET. A bridge with a public key or a JWKS can only verify
    tokens: the owner of the private key makes them.
    """
    return commands.token(environ, **options)


@cli.command(
    epilog=examples(
        "wsbridge listen --user alice",
        "wsbridge listen --user alice | jq -c 'select(.type == \"task_update\").event'",
        'wsbridge listen --user alice --url wss://push.example.com/ws --token "$TOKEN"',
    ),
)
@user_option
@click.option("--token", metavar="JWT", type=arg_types.token, help="sent as a header, never in the URL")
@url_option(WEBSOCKET, "ws", "wss", "http", "https", path="/ws")
@click.option("--last-event-id", metavar="POSITION", help="resume after this position")
@click.pass_obj
def listen(environ: Environ, /, **options: Any) -> int:
    """Show the events of a user as they arrive.

    In a pipe, prints each message as one line of JSON, byte for byte as received. Explains each close and each gap on
    standard error. Reconnects as a client should, and resumes after the last message that it printed.

    Without --token, makes a token for each connection if WSBRIDGE_JWT_SECRET is set.

    Ends with exit code 1 after a close code that forbids reconnecting, and when the bridge refuses --token.
    """
    return commands.listen(environ, **options)


@cli.command(
    cls=PublishCommand,
    epilog=examples(
        "wsbridge publish --user alice task.created task_id=1 title='Buy milk'",
        "wsbridge publish --user alice --user bob task.updated id=7 done:=true",
        "wsbridge publish --user alice task.created task_id=1 --dapr",
        "wsbridge publish --user alice task.created --dapr http://127.0.0.1:3501",
    ),
)
@click.argument("event_type", metavar="TYPE", type=arg_types.event_type)
@click.argument("values", metavar="[KEY=TEXT]...", nargs=-1, type=arg_types.pair)
@click.option(
    "--user",
    "users",
    metavar="ID",
    required=True,
    multiple=True,
    type=arg_types.user,
    help="id of the user who gets the event; may be repeated",
)
@click.option("--topic", help=f"default: the first of WSBRIDGE_TOPICS, or {DEFAULTS.topics[0][0]}")
@click.option("--id", "event_id", help="id of the event; default: a new one. The same id is delivered once")
@url_option(BRIDGE, "http", "https")
@click.option(
    "--dapr",
    metavar="[URL]",
    type=arg_types.url(SIDECAR, "http", "https"),
    help=f"publish through a Dapr sidecar; default of the URL: {SIDECAR}",
)
@click.option(
    "--pubsub", help=f"pub/sub component of the sidecar; default: WSBRIDGE_PUBSUB_NAME, or {DEFAULTS.pubsub_name}"
)
@click.pass_obj
def publish(environ: Environ, /, **options: Any) -> int:
    """Publish an event.

    Posts a CloudEvent of this TYPE, such as task.created, to a running bridge or to a Dapr sidecar. The pairs are its
    data: KEY=TEXT is a string, KEY:=JSON any JSON value. WSBRIDGE_USER_ID_FIELD is the field for the user.

    Prints the status of the response. The exit code is 0 only for SUCCESS from a bridge, or 204 from a sidecar. Sends
    APP_API_TOKEN to the bridge and DAPR_API_TOKEN to the sidecar if they are set.

    Prints how many connections each user has to that bridge on standard error. Outside of development mode that needs
    WSBRIDGE_ADMIN_TOKEN.
    """
    return commands.publish(environ, **options)


@cli.command(
    epilog=examples(
        "wsbridge why alice 0b8a4f0e-5f0c-4a52-9f5f-3c2f2f1f3a11",
        "wsbridge why alice task-updates/3/41 --url http://push.internal:8005",
        "wsbridge why alice 0b8a4f0e-5f0c-4a52-9f5f-3c2f2f1f3a11 --json | jq -r .code",
    )
)
@click.argument("user", metavar="USER", type=arg_types.user)
@click.argument("event_id", metavar="EVENT_ID")
@url_option(BRIDGE, "http", "https")
@click.option("--json", "as_json", is_flag=True, help="print the response of the bridge")
@click.pass_obj
def why(environ: Environ, /, **options: Any) -> int:
    """Explain why an event reached a user or did not.

    EVENT_ID is the CloudEvent's id, or topic/partition/offset if the event has none. The first line is the answer. The
    lines below it are the event's stations: when it was received, and what each connection of the user got.

    The exit code is 0 if every client that was connected then has the event, else 1. Outside of development mode the
    command needs WSBRIDGE_ADMIN_TOKEN.
    """
    return commands.why(environ, **options)


@cli.command(epilog=examples("wsbridge check", "WSBRIDGE_PORT=http wsbridge check"))
@click.pass_obj
def check(environ: Environ) -> int:
    """Check the settings.

    Prints the effective settings with secrets masked, then every mistake; an unknown WSBRIDGE_ name is a mistake here.
    The exit code is 2 if there is a mistake. Valid settings that are insecure, such as a missing token, are warnings.
    """
    return commands.check(environ)


@cli.command(epilog=examples("wsbridge healthcheck", "wsbridge healthcheck --url http://127.0.0.1:9000/health"))
@url_option(f"{BRIDGE}/health", "http", "https", path="/health")
@click.pass_obj
def healthcheck(environ: Environ, /, **options: Any) -> int:
    """Ask a running bridge for its health.

    For containers. The exit code is 0 if the bridge is healthy or degraded, else 1.
    """
    return commands.healthcheck(environ, **options)
