"""The commands that show events to people and explain them. Each imports what it needs, as those of `commands` do."""

# ruff: noqa: PLC0415 - see above

import itertools
import json
import sys
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import click

from wsbridge.cli import arg_types
from wsbridge.cli.commands import make_token
from wsbridge.cli.options import (
    BRIDGE,
    DEFAULTS,
    FAILED,
    INTERRUPTED,
    SIDECAR,
    WEBSOCKET,
    Environ,
    address,
    complain,
    examples,
    operators_url,
    url_option,
    user_option,
)
from wsbridge.config.env import load
from wsbridge.config.settings import PREFIX, Settings, SettingsError

if TYPE_CHECKING:
    from wsbridge.cli.listen import Token

_OF_SIDECAR = (  # settings to publish through one
    f"{PREFIX}USER_ID_FIELD", f"{PREFIX}TOPICS", f"{PREFIX}PUBSUB_NAME", "DAPR_API_TOKEN",
)  # fmt: skip


@click.command(
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
def listen(environ: Environ, user: str, token: str | None, url: str | None, last_event_id: str | None) -> int:
    """Show the events of a user as they arrive.

    In a pipe, prints each message as one line of JSON, byte for byte as received. Explains each close and each gap on
    standard error. Reconnects as a client should, and resumes after the last message that it printed.

    Without --token, makes a token for each connection if WSBRIDGE_JWT_SECRET is set.

    Ends with exit code 1 after a close code that forbids reconnecting, and when the bridge refuses --token.
    """
    import asyncio

    from wsbridge.cli.listen import Listener, shower, while_read
    from wsbridge.client import MAX_MESSAGE_BYTES, Client

    settings, _ = load(environ)
    url = url or f"ws://{address(settings)}/ws"
    largest = max(MAX_MESSAGE_BYTES, 2 * settings.max_event_bytes)
    client = Client(url, user, token or _minted(settings, user), last_event_id, max_message_bytes=largest)
    code = FAILED
    try:
        asyncio.run(while_read(sys.stdout, Listener(client, show=shower(sys.stdout, environ), note=complain).follow()))
    except KeyboardInterrupt:
        code = INTERRUPTED
    if client.position:
        complain(f"to resume here: --last-event-id {client.position}")
    return code


def _minted(settings: Settings, user: str) -> "Token":
    """A function that makes a token for each connection, if there is a secret to sign it."""

    async def minted() -> str:
        return make_token(settings, user)

    return minted if settings.jwt_secret else None


class PublishCommand(click.Command):
    """Takes `--dapr` with a URL or without: the word after it may be the type of the event."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [
            f"--dapr={SIDECAR}" if word == "--dapr" and "://" not in following else word
            for word, following in itertools.pairwise([*args, ""])
        ]
        return super().parse_args(ctx, words)


@click.command(
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
@click.option("--topic", help=f"topic of the bridge; default: the first of WSBRIDGE_TOPICS, or {DEFAULTS.topics[0][0]}")
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
def publish(
    environ: Environ,
    *,
    event_type: str,
    values: Sequence[tuple[str, Any]],
    users: Sequence[str],
    topic: str | None,
    event_id: str | None,
    url: str | None,
    dapr: str | None,
    pubsub: str | None,
) -> None:
    """Publish an event.

    Posts a CloudEvent of this TYPE, such as task.created, to a running bridge or to a Dapr sidecar. The pairs are its
    data: KEY=TEXT is a string, KEY:=JSON any JSON value. WSBRIDGE_USER_ID_FIELD is the field for the user.

    Prints the status of the response. The exit code is 0 only for SUCCESS from a bridge, or 204 from a sidecar. Sends
    APP_API_TOKEN to the bridge and DAPR_API_TOKEN to the sidecar if they are set.

    Prints how many connections each user has to that bridge on standard error. Outside of development mode that needs
    WSBRIDGE_ADMIN_TOKEN.
    """
    from wsbridge.cli.http import reaching
    from wsbridge.cli.publish import BY_KEY, SUCCESS, cloud_event, connections, to_bridge, to_sidecar

    settings, _ = load(environ, *(_OF_SIDECAR if dapr else ()))
    field, topic = settings.user_id_field, topic or settings.topics[0][0]
    if field == BY_KEY and not dapr:
        raise SettingsError(f"{PREFIX}USER_ID_FIELD is @key, which only a message from Kafka has; publish with --dapr")
    if field.startswith("@") and len(users) > 1:
        raise SettingsError(f"{PREFIX}USER_ID_FIELD is {field}, which holds one user; give --user once")
    if (name := field.partition(".")[0]) in dict(values):
        raise click.UsageError(f"{name} is set by --user, because {PREFIX}USER_ID_FIELD is {field}; leave it out")
    event = cloud_event(event_type, users, dict(values), event_id=event_id, user_field=field)
    if dapr:
        pubsub = pubsub or settings.pubsub_name
        with reaching(dapr, "sidecar"):
            to_sidecar(event, dapr, key=users[0], pubsub=pubsub, topic=topic, token=settings.dapr_api_token)
        click.echo(int(HTTPStatus.NO_CONTENT))
        return
    url = url or operators_url(settings)
    with reaching(url):
        to_bridge(event, url, topic=topic, token=settings.app_api_token)
    click.echo(SUCCESS)
    for user in users:
        complain(_reached(user, connections(url, user, token=settings.admin_token)))


def _reached(user: str, count: int | None) -> str:
    if count is None:
        return f"to see whether {user} is connected, set {PREFIX}ADMIN_TOKEN to the same value as the bridge's"
    if count == 0:
        return f"{user} has no connection to this replica now; the event is in the history"
    return f"{user} has {count} {'connection' if count == 1 else 'connections'} to this replica"


@click.command(
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
def why(environ: Environ, user: str, event_id: str, url: str | None, *, as_json: bool) -> int:
    """Explain why an event reached a user or did not.

    EVENT_ID is the CloudEvent's id, or topic/partition/offset if the event has none. The first line is the answer. The
    lines below it are the event's stations: when it was received, and what each connection of the user got.

    The exit code is 0 if every client that was connected when the event arrived has it, or, if none was, a later one
    got it; else 1. Outside of development mode the command needs WSBRIDGE_ADMIN_TOKEN.
    """
    from wsbridge.cli.http import reaching, understanding
    from wsbridge.cli.why import DELIVERED, ask, report

    settings, _ = load(environ)
    url = url or operators_url(settings)
    with reaching(url):
        answer = ask(url, user, event_id, token=settings.admin_token)
    with understanding():
        click.echo(json.dumps(json.loads(answer.body)) if as_json else report(answer))  # in ASCII, for a terminal
    return 0 if answer.field("code") == DELIVERED else FAILED
