"""`wsbridge verify` on the command line."""

# ruff: noqa: PLC0415 - what is imported later is slow to import, and every command loads this module

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wsbridge.cli import arg_types
from wsbridge.cli.options import (
    DEFAULTS,
    FAILED,
    INTERRUPTED,
    SIDECAR,
    WEBSOCKET,
    Environ,
    Failed,
    address,
    complain,
    examples,
    operators_url,
    url_option,
)
from wsbridge.config.env import load
from wsbridge.config.settings import PREFIX, Settings

if TYPE_CHECKING:
    from wsbridge.cli.listen import Token
    from wsbridge.cli.verify.publisher import Post

MOST_EVENTS = 100_000  # of a run
MOST_DELIVERIES = 500_000
MOST_USERS = 12  # by default
COMMAND_TIMEOUT = 30.0  # seconds for --token-command


@click.command(
    epilog=examples(
        "wsbridge verify --direct --seconds 10",
        "wsbridge verify --url wss://push.example.com/ws --token-command './jwt {user}'",
        "wsbridge verify --during 'kubectl rollout restart deploy/x' --html verify.html",
    )
)
@url_option(WEBSOCKET, "ws", "wss", "http", "https", path="/ws")
@click.option("--clients", type=click.IntRange(1, 1000), default=24, show_default=True, help="connections to open")
@click.option(
    "--user",
    "users",
    metavar="ID",
    multiple=True,
    type=arg_types.user,
    help=f"canary user; may be repeated. Default: new ids, one for two clients, at most {MOST_USERS}",
)
@click.option(
    "--token-command",
    metavar="COMMAND",
    help="prints the token for {user}; default: a new token if WSBRIDGE_JWT_SECRET is set",
)
@click.option(
    "--publish-url",
    metavar="URL",
    type=arg_types.url(SIDECAR, "http", "https"),
    help=f"sidecar that publishes; default: {SIDECAR}. With --direct, a bridge",
)
@click.option("--direct", is_flag=True, help="post to the bridge instead of publishing through Dapr and Kafka")
@click.option("--topic", help=f"topic of the bridge; default: the first of WSBRIDGE_TOPICS, or {DEFAULTS.topics[0][0]}")
@click.option(
    "--pubsub", help=f"pub/sub component of the sidecar; default: WSBRIDGE_PUBSUB_NAME, or {DEFAULTS.pubsub_name}"
)
@click.option(
    "--seconds", type=click.IntRange(1, 3600), default=40, show_default=True, help="time for which events are published"
)
@click.option(
    "--rate", type=click.FloatRange(0.1, 1000), default=20, show_default=True, help="events a second, of all users"
)
@click.option(
    "--wait", type=click.IntRange(1, 600), default=10, show_default=True, help="seconds to wait for the last events"
)
@click.option("--during", metavar="COMMAND", default="", help="shell command to run after a third of the time")
@click.option(
    "--during-limit",
    type=click.IntRange(1, 3600),
    default=120,
    show_default=True,
    help="seconds after which that command is killed",
)
@click.option("--strict", is_flag=True, help="exit with 1 after a warning as well")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
@click.option(
    "--html", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="write a page with a chart"
)
@click.pass_obj
def verify(
    environ: Environ,
    *,
    url: str | None,
    clients: int,
    users: tuple[str, ...],
    token_command: str | None,
    publish_url: str | None,
    direct: bool,
    topic: str | None,
    pubsub: str | None,
    seconds: int,
    rate: float,
    wait: int,
    during: str,
    during_limit: int,
    strict: bool,
    as_json: bool,
    html: Path | None,
) -> int:
    """Prove that every event arrives once and in order.

    Publishes marked events for canary users, through Dapr or with --direct to the bridge itself. Opens clients through
    the ingress, which reconnect and resume. Compares what they got with what was published. Names each fault with its
    cure.

    Give it the settings of the bridge: WSBRIDGE_TOPICS, WSBRIDGE_PUBSUB_NAME, WSBRIDGE_USER_ID_FIELD,
    WSBRIDGE_HISTORY_TTL and WSBRIDGE_HISTORY_SIZE. Sends DAPR_API_TOKEN to the sidecar, or APP_API_TOKEN to the bridge.

    Ends by itself. Ctrl-C ends it earlier, with a report of what it has seen. The exit code is 1 after a failure.
    """
    import asyncio
    import json

    from wsbridge.cli.verify import run
    from wsbridge.cli.verify.findings import examine
    from wsbridge.cli.verify.page import page
    from wsbridge.cli.verify.report import Report

    settings, _ = load(environ)
    name = secrets.token_hex(4)
    if not users:
        users = tuple(f"verify-{name}-{n + 1}" for n in range(min(MOST_USERS, (clients + 1) // 2)))
    users = tuple(dict.fromkeys(users))
    if len(users) > clients:
        raise click.UsageError(f"there are {len(users)} users, which need as many --clients")
    most = rate * (seconds + (during_limit if during else 0))
    if most > MOST_EVENTS or most * clients / len(users) > MOST_DELIVERIES:
        raise click.UsageError(f"more than {MOST_EVENTS:,} events or {MOST_DELIVERIES:,} deliveries: lower --rate")
    plan = run.Plan(
        run=name,
        url=url or f"ws://{address(settings)}/ws",
        users=users,
        clients=clients,
        seconds=seconds,
        rate=rate,
        wait=wait,
        during=during,
        during_limit=during_limit,
        token=_tokens(settings, token_command),
        post=_post(settings, publish_url, topic, pubsub, direct=direct),
        user_field=settings.user_id_field,
        history_ttl=settings.history_ttl,
        history_size=settings.history_size,
    )
    record = asyncio.run(run.verify(plan, complain))
    report = Report(record, examine(record), strict)
    click.echo(json.dumps(report.summary()) if as_json else report.text())
    if html:
        try:
            html.write_text(page(report), encoding="utf-8")
        except OSError as error:
            raise Failed(f"cannot write {html}: {error.strerror}") from None
    if record.interrupted:
        return INTERRUPTED
    return 0 if report.passed else FAILED


def _tokens(settings: Settings, command: str | None) -> "Callable[[str], Token]":
    """A function that returns the source of a user's tokens."""
    from wsbridge.cli.commands import make_token
    from wsbridge.cli.verify.token_command import token_of

    def tokens(user: str) -> "Token":
        async def minted() -> str:
            return make_token(settings, user)

        async def printed() -> str:
            return await token_of(command or "", user, COMMAND_TIMEOUT)

        return printed if command else minted if settings.jwt_secret else None

    return tokens


def _post(settings: Settings, url: str | None, topic: str | None, pubsub: str | None, *, direct: bool) -> "Post":
    """A function that publishes an event for a user."""
    from wsbridge.cli.http import reaching
    from wsbridge.cli.publish import BY_KEY, to_bridge, to_sidecar

    topic, pubsub = topic or settings.topics[0][0], pubsub or settings.pubsub_name
    url = url or (operators_url(settings) if direct else SIDECAR)
    if direct and settings.user_id_field == BY_KEY:
        raise click.UsageError(f"{PREFIX}USER_ID_FIELD is @key, which only Kafka has: leave --direct out")

    def post(event: Mapping[str, Any], user: str) -> None:
        with reaching(url, "bridge" if direct else "sidecar"):
            if direct:
                to_bridge(event, url, topic=topic, token=settings.app_api_token)
            else:
                to_sidecar(event, url, key=user, pubsub=pubsub, topic=topic, token=settings.dapr_api_token)

    return post
