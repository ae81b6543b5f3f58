"""The code of each command. A function takes the options as values and returns the exit code.

Each imports what it needs, because importing everything takes half a second.
"""

# ruff: noqa: PLC0415, T201 - see above; what the commands print is their result

import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from wsbridge.config.env import load, read
from wsbridge.config.settings import PREFIX, Settings, SettingsError

if TYPE_CHECKING:
    from wsbridge.cli.listen import Tokens

OK, FAILED, USAGE = 0, 1, 2
HEALTH_TIMEOUT = 3.0  # seconds
TOKEN_TTL = 3600  # seconds
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a bridge on all addresses answers here
Environ = Mapping[str, str]


def serve(environ: Environ) -> int:
    settings, unknown = load(environ)
    import asyncio

    from wsbridge import server
    from wsbridge.supervision import event_loop
    from wsbridge.supervision.jobs import JobFailed
    from wsbridge.telemetry import log
    from wsbridge.telemetry.log_writer import LogWriter
    from wsbridge.web.quickstart import program, welcome

    loop_factory = event_loop.factory(settings.loop)
    with LogWriter(sys.stdout.buffer, log.dropped_lines, log.report_dropped) as writer:
        style = log.configure(settings.log_level, settings.log_format, writer)
        for_people = style == "console"

        def started(ports: Sequence[int]) -> None:
            if for_people and (settings.development or settings.demo):
                writer.write(welcome(program(sys.argv[0]), _host(settings), ports).encode())

        try:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(server.serve(settings, unknown, brief=for_people, started=started))
        except JobFailed:  # the log has it
            return FAILED
    return OK


def token(environ: Environ, *, user: str, ttl: int, algorithm: str | None) -> int:
    settings, _ = load(environ)
    print(_mint(settings, user, ttl, algorithm))
    return OK


def listen(environ: Environ, *, user: str, token: str | None, url: str | None, last_event_id: str | None) -> int:
    import asyncio

    from wsbridge.cli.listen import Listener
    from wsbridge.cli.output import shower, while_read

    listener = Listener(
        url=url or f"ws://{_address(load(environ)[0])}/ws",
        user=user,
        tokens=_tokens(environ, user, token),
        position=last_event_id,
        show=shower(sys.stdout, environ),
        note=complain,
    )
    try:
        asyncio.run(while_read(sys.stdout, listener.follow()))
    except KeyboardInterrupt:
        _note_position(listener.position)
        raise
    _note_position(listener.position)
    return FAILED


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
) -> int:
    from wsbridge.cli import publish
    from wsbridge.cli.http import Unreachable

    if dapr:
        settings = _settings(environ, "USER_ID_FIELD", "TOPICS", "PUBSUB_NAME")
    else:
        settings, _ = load(environ)
    field, topic = settings.user_id_field, topic or settings.topics[0][0]
    if field == publish.BY_KEY and not dapr:
        raise SettingsError(f"{PREFIX}USER_ID_FIELD is @key, which only a message from Kafka has; publish with --dapr")
    if field.startswith("@") and len(users) > 1:
        raise SettingsError(f"{PREFIX}USER_ID_FIELD is {field}, which holds one user; give --user once")
    event = publish.cloud_event(event_type, users, dict(values), event_id=event_id, user_field=field)
    try:
        if dapr:
            target, what = dapr, "sidecar"
            api_token = environ.get("DAPR_API_TOKEN")  # Dapr's own name: the sidecar expects it from its app
            pubsub = pubsub or settings.pubsub_name
            problem = publish.to_sidecar(event, target, key=users[0], pubsub=pubsub, topic=topic, token=api_token)
        else:
            target, what = url or f"http://{_address(settings, internal=True)}", "bridge"
            problem = publish.to_bridge(event, target, topic=topic, token=settings.app_api_token)
    except Unreachable as error:
        problem = f"cannot reach {target}: {error}. Is the {what} running there?"
    if problem:
        complain(problem)
        return FAILED
    print(int(HTTPStatus.NO_CONTENT) if dapr else publish.SUCCESS, flush=True)
    if not dapr:
        for user in users:
            complain(_reached(user, publish.connections(target, user, token=settings.admin_token)))
    return OK


def why(environ: Environ, *, user: str, event_id: str, url: str | None, as_json: bool) -> int:
    from wsbridge.cli.http import Unreachable
    from wsbridge.cli.why import DELIVERED, Refused, ask, report

    settings, _ = load(environ)
    target = url or f"http://{_address(settings, internal=True)}"
    try:
        answer = ask(target, user, event_id, token=settings.admin_token)
    except Unreachable as error:
        complain(f"cannot reach {target}: {error}. Is the bridge running there?")
        return FAILED
    except Refused as refused:
        complain(str(refused))
        return FAILED
    print(answer.body.decode() if as_json else report(answer), flush=True)
    return OK if answer.field("code") == DELIVERED else FAILED


def _reached(user: str, count: int | None) -> str:
    if count is None:
        return f"to see whether {user} is connected, set {PREFIX}ADMIN_TOKEN to the same value as the bridge's"
    if count == 0:
        return f"{user} has no connection to this replica now; the event is in the history"
    return f"{user} has {count} {'connection' if count == 1 else 'connections'} to this replica"


def _settings(environ: Environ, *needed: str) -> Settings:
    """The settings. Raises `SettingsError` for mistakes in the needed ones; mistakes in others are ignored."""
    settings, wrong, _ = read(environ)
    if mistakes := [text for name, text in wrong.items() if name.removeprefix(PREFIX) in needed]:
        raise SettingsError(*mistakes)
    return settings


def check(environ: Environ) -> int:
    from wsbridge.cli.check import examine

    table, mistakes, warnings = examine(environ)
    print(table, flush=True)
    for line in mistakes:
        complain(line)
    for line in warnings:
        complain(f"warning: {line}")
    return USAGE if mistakes else OK


def healthcheck(environ: Environ, *, url: str | None) -> int:
    from wsbridge.cli.http import Unreachable, send

    url = url or f"http://{_address(load(environ)[0])}/health"
    try:
        answer = send(url, timeout=HEALTH_TIMEOUT)
    except Unreachable as error:
        complain(f"cannot reach {url}: {error}")
        return FAILED
    status = answer.field("status") or "no status"
    if answer.status != HTTPStatus.OK:
        complain(f"{url} answers {answer.status} ({status})")
        return FAILED
    print(status)
    return OK


def complain(text: str) -> None:
    """Print one line for a person on standard error."""
    from wsbridge.cli.formatting import printable

    print(f"wsbridge: {printable(text)}", file=sys.stderr, flush=True)


def _address(settings: Settings, *, internal: bool = False) -> str:
    """Host and port at which this machine reaches a bridge with these settings."""
    port = settings.internal_port if internal and settings.internal_port is not None else settings.port
    if port == 0:
        raise SettingsError(f"{PREFIX}PORT is 0, which picks a free port; give --url")
    return f"{_host(settings)}:{port}"


def _host(settings: Settings) -> str:
    """The host as in a URL."""
    host = settings.host.strip("[]")
    host = _HERE.get(host, host)
    return f"[{host}]" if ":" in host else host


def _tokens(environ: Environ, user: str, token: str | None) -> "Tokens":
    from wsbridge.cli.listen import Tokens

    if token:
        return Tokens(lambda: token, renew=False)
    settings, _ = load(environ)
    if settings.jwt_secret:
        return Tokens(lambda: _mint(settings, user, TOKEN_TTL), renew=True)
    return Tokens(lambda: None, renew=False)


def _mint(settings: Settings, user: str, ttl: float, algorithm: str | None = None) -> str:
    from wsbridge.auth.tokens import mint

    return mint(settings, user, ttl=ttl, algorithm=algorithm or next(iter(settings.jwt_algorithms), "HS256"))


def _note_position(position: str | None) -> None:
    if position:
        complain(f"to resume here: --last-event-id {position}")
