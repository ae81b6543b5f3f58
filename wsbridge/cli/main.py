"""The `wsbridge` command: words in, an exit code out. Does nothing itself but find out what is wanted."""

import difflib
import itertools
import os
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from wsbridge import __version__
from wsbridge.cli import arg_types, commands, help_text
from wsbridge.cli.help_text import Page
from wsbridge.config.settings import SettingsError

INTERRUPTED, BROKEN_PIPE = 128 + 2, 128 + 13  # as shells count signals
BRIDGE, SIDECAR = "http://127.0.0.1:8004", "http://127.0.0.1:3500"
WEBSOCKET, HEALTH = "ws://127.0.0.1:8004/ws", f"{BRIDGE}/health"
TOPIC, PUBSUB = "task-updates", "pubsub-kafka"
Run = Callable[[Namespace, Mapping[str, str]], int]
Options = Callable[[ArgumentParser], None]


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command with the words of the command line; exits with its code."""
    sys.exit(run(sys.argv[1:] if argv is None else argv, os.environ))


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command; its exit code.

    Raises:
        SystemExit: --help or --version was asked for, or the words are wrong.

    """
    try:
        try:
            args = parse(argv)
            return int(args.run(args, environ))
        finally:
            sys.stdout.flush()
    except SettingsError as error:
        for line in error.lines:
            commands.complain(line)
        return commands.USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # as with `| head -1`: nobody reads us any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at exit
        return BROKEN_PIPE


def parse(argv: Sequence[str]) -> Namespace:
    """The options of one command, its `run` among them; options and other words may come in any order."""
    parser = ArgumentParser("wsbridge", description=help_text.ABOUT, **_shape(help_text.EXAMPLES))
    parser.add_argument("--version", action="version", version=f"wsbridge {__version__}")
    listed = parser.add_subparsers(metavar="COMMAND", title="commands", prog="wsbridge")
    parsers = {}
    for name, (command, options, page) in COMMANDS.items():
        text = f"{page.text}\n\n{_catalogue()}" if name == "serve" and argv[:1] == ["serve"] else page.text
        parsers[name] = listed.add_parser(name, help=page.summary, description=text, **_shape(page.examples))
        parsers[name].set_defaults(run=command)
        options(parsers[name])
    if not argv:
        parser.print_help()
        parser.exit()
    if argv[0] not in parsers:
        near = difflib.get_close_matches(argv[0], parsers, n=1)
        if near and not argv[0].startswith("-"):
            parser.error(f"no such command: {argv[0]!r}; did you mean {near[0]}?")
        return parser.parse_args(argv)
    bad = [word for word in argv if any("\udc80" <= c <= "\udcff" for c in word)]
    if bad:
        parsers[argv[0]].error(f"expected UTF-8, got {bad[0]!r}")
    return parsers[argv[0]].parse_intermixed_args(list(_with_sidecar(argv[1:])))


def _shape(examples: str) -> dict[str, Any]:
    return {
        "epilog": f"examples:\n{examples}",
        "formatter_class": RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }


def _catalogue() -> str:
    from wsbridge.cli.check import catalogue  # noqa: PLC0415 - for that one page

    return catalogue()


def _with_sidecar(argv: Sequence[str]) -> Iterator[str]:
    """`--dapr` takes a URL or nothing: the word after it may be the event's type."""
    for word, following in itertools.pairwise([*argv, ""]):
        yield f"--dapr={SIDECAR}" if word == "--dapr" and "://" not in following else word


def _token_options(parser: ArgumentParser) -> None:
    _one_user(parser)
    parser.add_argument(
        "--ttl",
        type=arg_types.seconds,
        default=commands.TOKEN_TTL,
        metavar="SECONDS",
        help=f"validity; default: {commands.TOKEN_TTL}",
    )
    parser.add_argument(
        "--algorithm",
        metavar="NAME",
        help="HS256, HS384 or HS512; default: HS256, or the first of WSBRIDGE_JWT_ALGORITHMS",
    )


def _listen_options(parser: ArgumentParser) -> None:
    _one_user(parser)
    parser.add_argument("--token", type=arg_types.token, metavar="JWT", help="sent as a header, never in the URL")
    _add_url(parser, WEBSOCKET, "ws", "wss", "http", "https", path="/ws")
    parser.add_argument("--last-event-id", metavar="POSITION", help="resume after this position")


def _publish_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "event_type", type=arg_types.event_type, metavar="TYPE", help="of the event, such as task.created"
    )
    parser.add_argument(
        "values",
        nargs="*",
        default=[],
        type=arg_types.pair,
        metavar="KEY=TEXT",
        help="data; KEY:=JSON for what is no text",
    )
    parser.add_argument(
        "--user", required=True, action="append", type=arg_types.user, help="who gets it; may be given several times"
    )
    parser.add_argument("--topic", help=f"default: {TOPIC}, or the first of WSBRIDGE_TOPICS")
    parser.add_argument("--id", help="default: a new one; an event with an id that was there is not sent again")
    _add_url(parser, BRIDGE, "http", "https")
    parser.add_argument(
        "--dapr",
        nargs="?",
        metavar="URL",
        type=arg_types.url(SIDECAR, "http", "https"),
        help=f"publish through the sidecar there; default: {SIDECAR}",
    )
    parser.add_argument("--pubsub", help=f"the sidecar's component; default: {PUBSUB}, or as WSBRIDGE_PUBSUB_NAME says")


def _healthcheck_options(parser: ArgumentParser) -> None:
    _add_url(parser, HEALTH, "http", "https", path="/health")


def _no_options(_: ArgumentParser) -> None:
    """There is nothing to choose."""


def _one_user(parser: ArgumentParser) -> None:
    parser.add_argument("--user", required=True, type=arg_types.user, help="the user's id")


def _add_url(parser: ArgumentParser, default: str, *schemes: str, path: str = "") -> None:
    parser.add_argument(
        "--url",
        type=arg_types.url(default, *schemes, path=path),
        help=f"of the bridge; default: {default}, or as WSBRIDGE_HOST and WSBRIDGE_PORT say",
    )


COMMANDS: dict[str, tuple[Run, Options, Page]] = {
    "serve": (commands.serve, _no_options, help_text.SERVE),
    "token": (commands.token, _token_options, help_text.TOKEN),
    "listen": (commands.listen, _listen_options, help_text.LISTEN),
    "publish": (commands.publish, _publish_options, help_text.PUBLISH),
    "check": (commands.check, _no_options, help_text.CHECK),
    "healthcheck": (commands.healthcheck, _healthcheck_options, help_text.HEALTHCHECK),
}
