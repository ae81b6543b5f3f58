"""The words of the commands that show events."""

import click
import pytest
from click.testing import CliRunner

from wsbridge.cli.event_commands import PublishCommand
from wsbridge.cli.options import SIDECAR


@click.command(cls=PublishCommand)
@click.argument("event_type")
@click.option("--dapr")
def publish(event_type: str, dapr: str | None) -> None:
    click.echo(f"{event_type} {dapr}")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--dapr", "t"], f"t {SIDECAR}"),
        (["t", "--dapr"], f"t {SIDECAR}"),
        (["--dapr", "http://x:1", "t"], "t http://x:1"),
        (["t"], "t None"),
    ],
)
def test_publish_command_takes_dapr_with_a_url_or_without(words: list[str], found: str) -> None:
    assert CliRunner().invoke(publish, words).output == found + "\n"
