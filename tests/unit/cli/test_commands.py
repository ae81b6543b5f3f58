"""The help of `wsbridge serve`."""

from click.testing import CliRunner

from wsbridge.cli.commands import ServeCommand


def test_serve_command_lists_the_settings_in_its_help() -> None:
    assert "WSBRIDGE_STATIONS_MAX_BYTES" in CliRunner().invoke(ServeCommand("serve"), ["--help"]).output
