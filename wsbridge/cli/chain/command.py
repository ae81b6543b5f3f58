"""`wsbridge chain` on the command line."""

# ruff: noqa: PLC0415 - what is imported later is slow to import, and every command loads this module

import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import click

from wsbridge.cli.chain.parts import Missing, Parts, find
from wsbridge.cli.formatting import printable
from wsbridge.cli.options import FAILED, Environ, complain, examples

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(epilog=examples("wsbridge chain", "KAFKA_HOME=/opt/kafka wsbridge chain"))
@click.option("--daprd", metavar="PATH", type=_FILE, help="the sidecar; default: in PATH, or of `dapr init`")
@click.option("--kafka", metavar="FOLDER", type=_FOLDER, help="Kafka's jars; default: those at KAFKA_HOME")
@click.pass_obj
def chain(environ: Environ, daprd: Path | None, kafka: Path | None) -> int:
    """Run the whole chain on this machine, to try it.

    Starts Kafka, a Redis or Valkey, two bridges, the example backend, and a Dapr sidecar for each, on free ports of
    loopback. Prints what to open and what to type. It needs java, Kafka, daprd, and valkey-server or redis-server.

    It runs until SIGTERM or Ctrl-C, and then ends all parts and removes their files. If a part ends by itself, it
    prints the last lines of its log, ends all others, keeps the logs, and ends with exit code 1.
    """
    try:
        parts = find(environ, daprd, kafka)
    except Missing as missing:
        for line in missing.lines:
            complain(line)
        return FAILED
    return _run(parts)


def _run(parts: Parts) -> int:
    """Run the chain until its end; return the exit code."""
    from wsbridge.cli.chain.chain import Chain
    from wsbridge.cli.chain.supervisor import PartFailed, Stopped, Supervisor
    from wsbridge.cli.chain.welcome import USER, welcome
    from wsbridge.web.quickstart import program

    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    directory = Path(tempfile.mkdtemp(prefix="wsbridge-chain-"))
    supervisor = Supervisor(directory, stopping)
    began = time.monotonic()
    try:
        running = Chain(parts, directory)
        running.start(supervisor, complain)
        complain(f"ready after {time.monotonic() - began:.0f} s")
        click.echo(welcome(program(sys.argv[0]), running.ports, token=running.token(USER), logs=str(directory)))
        supervisor.hold()
    except Stopped:
        complain("stopping")
    except PartFailed as failure:
        for line in failure.lines:
            click.echo(printable(line), err=True)
        complain(f"{failure}; the logs are kept in {directory}")
        return FAILED
    finally:
        supervisor.end()
    shutil.rmtree(directory)
    return 0
