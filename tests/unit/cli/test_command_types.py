"""Commands with their own help or arguments."""

import click
import pytest
from click.testing import CliRunner

from wsbridge.cli.command_types import PublishCommand, ServeCommand
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


def test_serve_command_lists_the_settings_in_its_help() -> None:
    assert "WSBRIDGE_STATIONS_MAX_BYTES" in CliRunner().invoke(ServeCommand("serve"), ["--help"]).output
