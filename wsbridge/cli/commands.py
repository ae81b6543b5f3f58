"""What each command does, and the exit code it ends with. Knows no command line: the options come as values.

Each imports what it needs: the server's parts take a third of a second to load.
"""

# ruff: noqa: ARG001, PLC0415, T201 - each has options, needed or not; see above; what they print is their result

import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wsbridge.config.env import load, read
from wsbridge.config.settings import PREFIX, Settings, SettingsError

if TYPE_CHECKING:
    from wsbridge.cli.listen import Tokens

OK, FAILED, USAGE = 0, 1, 2
HEALTH_TIMEOUT = 3.0  # seconds
TOKEN_TTL = 3600  # seconds
HTTP_OK = 200
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - listening everywhere, it answers here
Environ = Mapping[str, str]


def serve(args: Namespace, environ: Environ) -> int:
    """The bridge, until SIGTERM or SIGINT."""
    settings, unknown = load(environ)
    import asyncio

    from wsbridge import server
    from wsbridge.supervision.jobs import JobFailed
    from wsbridge.telemetry import log
    from wsbridge.telemetry.log_writer import LogWriter
    from wsbridge.web.quickstart import program, welcome

    with LogWriter(sys.stdout.buffer, log.dropped_lines, log.report_dropped) as writer:
        style = log.configure(settings.log_level, settings.log_format, writer)
        is_for_people = style == "console"

        def started(ports: Sequence[int]) -> None:
            if is_for_people and (settings.development or settings.demo):
                writer.write(welcome(program(sys.argv[0]), _host(settings), ports).encode())

        try:
            asyncio.run(server.serve(settings, unknown, brief=is_for_people, started=started))
        except JobFailed:  # the log has it
            return FAILED
    return OK


def token(args: Namespace, environ: Environ) -> int:
    """Prints a token, and nothing else."""
    settings, _ = load(environ)
    print(_mint(settings, args.user, args.ttl, args.algorithm))
    return OK


def listen(args: Namespace, environ: Environ) -> int:
    """One line for each message, until a close that says to stay away."""
    import asyncio

    from wsbridge.cli.listen import Listener
    from wsbridge.cli.output import shower, while_read

    listener = Listener(
        args.url or f"ws://{_address(load(environ)[0])}/ws",
        args.user,
        tokens=_tokens(args, environ),
        position=args.last_event_id,
        show=shower(sys.stdout, environ),
        note=complain,
    )
    try:
        asyncio.run(while_read(sys.stdout, listener.follow()))
    except KeyboardInterrupt:
        _tell_position(listener.position)
        raise
    _tell_position(listener.position)
    return FAILED


def publish(args: Namespace, environ: Environ) -> int:
    """Prints the answer's status; how many connections the users have is for a person."""
    from wsbridge.cli import publish
    from wsbridge.cli.http import Unreachable

    if args.dapr:
        settings = _settings(environ, "USER_ID_FIELD", "TOPICS", "PUBSUB_NAME")
    else:
        settings, _ = load(environ)
    field, topic = settings.user_id_field, args.topic or settings.topics[0][0]
    if field == publish.BY_KEY and not args.dapr:
        raise SettingsError(f"{PREFIX}USER_ID_FIELD is @key, which only a message from Kafka has: give --dapr")
    if field.startswith("@") and len(args.user) > 1:
        raise SettingsError(f"{PREFIX}USER_ID_FIELD is {field}, in which there is one user: give --user once")
    event = publish.cloud_event(args.event_type, args.user, dict(args.values), event_id=args.id, user_field=field)
    try:
        if args.dapr:
            url, what = args.dapr, "sidecar"
            api_token = environ.get("DAPR_API_TOKEN")  # Dapr's own name: what the sidecar wants of its app
            pubsub = args.pubsub or settings.pubsub_name
            problem = publish.to_sidecar(event, url, key=args.user[0], pubsub=pubsub, topic=topic, token=api_token)
        else:
            url, what = args.url or f"http://{_address(settings, internal=True)}", "bridge"
            problem = publish.to_bridge(event, url, topic=topic, token=settings.app_api_token)
    except Unreachable as error:
        problem = f"cannot reach {url}: {error}. Is the {what} running there?"
    if problem:
        complain(problem)
        return FAILED
    print(publish.ACCEPTED if args.dapr else publish.SUCCESS, flush=True)
    if not args.dapr:
        for user in args.user:
            complain(_reached(user, publish.connections(url, user, token=settings.admin_token)))
    return OK


def _reached(user: str, count: int | None) -> str:
    if count is None:
        return f"only operators see whether {user} is connected: set {PREFIX}ADMIN_TOKEN as the bridge has it"
    if count == 0:
        return f"{user} has no connection to this replica now; the event is in the history"
    return f"{user} has {count} {'connection' if count == 1 else 'connections'} to this replica"


def _settings(environ: Environ, *needed: str) -> Settings:
    """Settings of which only these have to be right.

    Raises:
        SettingsError: one of them is wrong.

    """
    settings, wrong, _ = read(environ)
    if mistakes := [text for name, text in wrong.items() if name.removeprefix(PREFIX) in needed]:
        raise SettingsError(*mistakes)
    return settings


def check(args: Namespace, environ: Environ) -> int:
    """Prints the settings; an unknown name is a mistake here, a weak setting is not."""
    from wsbridge.cli.check import examine

    table, mistakes, warnings = examine(environ)
    print(table, flush=True)
    for line in mistakes:
        complain(line)
    for line in warnings:
        complain(f"warning: {line}")
    return USAGE if mistakes else OK


def healthcheck(args: Namespace, environ: Environ) -> int:
    """Prints the status."""
    from wsbridge.cli.http import Unreachable, send

    url = args.url or f"http://{_address(load(environ)[0])}/health"
    try:
        answer = send(url, timeout=HEALTH_TIMEOUT)
    except Unreachable as error:
        complain(f"cannot reach {url}: {error}")
        return FAILED
    try:
        status = str(json.loads(answer.body)["status"])
    except (ValueError, LookupError, TypeError):
        status = "no status"
    if answer.status != HTTP_OK:
        complain(f"{url} answers {answer.status} ({status})")
        return FAILED
    print(status)
    return OK


def complain(text: str) -> None:
    """One line for a person, beside the output."""
    from wsbridge.cli.formatting import printable

    print(f"wsbridge: {printable(text)}", file=sys.stderr, flush=True)


def _address(settings: Settings, *, internal: bool = False) -> str:
    """Where a bridge with these settings answers, from this machine."""
    port = settings.internal_port if internal and settings.internal_port is not None else settings.port
    if port == 0:
        raise SettingsError(f"{PREFIX}PORT is 0, which picks a free port: say with --url where the bridge is")
    return f"{_host(settings)}:{port}"


def _host(settings: Settings) -> str:
    """As it stands in a URL."""
    host = settings.host.strip("[]")
    host = _HERE.get(host, host)
    return f"[{host}]" if ":" in host else host


def _tokens(args: Namespace, environ: Environ) -> "Tokens":
    from wsbridge.cli.listen import Tokens

    if args.token:
        return Tokens(lambda: str(args.token), renew=False)
    settings, _ = load(environ)
    if settings.jwt_secret:
        return Tokens(lambda: _mint(settings, args.user, TOKEN_TTL), renew=True)
    return Tokens(lambda: None, renew=False)


def _mint(settings: Settings, user: str, ttl: float, algorithm: str | None = None) -> str:
    from wsbridge.auth.tokens import mint

    return mint(settings, user, ttl=ttl, algorithm=algorithm or next(iter(settings.jwt_algorithms), "HS256"))


def _tell_position(position: str | None) -> None:
    if position:
        complain(f"to go on from here: --last-event-id {position}")
