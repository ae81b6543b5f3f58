"""The `wsbridge` command line: its group of commands, and the exit code of each error.

Built on click. With argparse, help pages, suggestions for mistyped names and options between arguments would need code.
"""

import os
import sys
from collections.abc import Sequence

import click

from wsbridge import __version__
from wsbridge.cli import commands, event_commands
from wsbridge.cli.chain.command import chain
from wsbridge.cli.conformance.command import conformance
from wsbridge.cli.doctor.command import doctor
from wsbridge.cli.options import BROKEN_PIPE, INTERRUPTED, USAGE, Environ, complain, examples
from wsbridge.cli.top.command import top
from wsbridge.cli.verify.command import verify
from wsbridge.config.settings import SettingsError


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
            complain(line)
        return USAGE
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


for command in (
    commands.serve,
    commands.token,
    commands.check,
    commands.healthcheck,
    event_commands.listen,
    event_commands.publish,
    event_commands.why,
    chain,
    conformance,
    doctor,
    top,
    verify,
):
    cli.add_command(command)
