"""Options that commands share."""

import click
import pytest
from click.testing import CliRunner

from wsbridge.cli.options import BRIDGE, examples, url_option, user_option


@click.command(epilog=examples("one --user a", "two"))
@url_option(BRIDGE, "http", "https")
@user_option
def command(url: str | None, user: str) -> int:
    click.echo(f"{url} {user}")
    return 0


def test_options_have_a_help_with_examples_on_lines_of_their_own() -> None:
    out = CliRunner().invoke(command, ["--help"]).output
    assert "  Examples:\n    one --user a\n    two\n" in out
    assert f"default: {BRIDGE}" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "code"), [(["--user", "a"], 0), ([], 2), (["--user", ""], 2), (["--user", "a", "--url", "ftp://x"], 2)]
)
def test_options_are_checked(words: list[str], code: int) -> None:
    assert CliRunner().invoke(command, words).exit_code == code
