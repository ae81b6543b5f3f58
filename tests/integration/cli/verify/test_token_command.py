"""`--token-command`: what it prints, and how it fails."""

import pytest

from wsbridge.cli.verify.token_command import TokenFailed, token_of


async def test_token_command_gets_the_user_quoted_for_the_shell() -> None:
    assert await token_of('printf %s.{user} t | tr -d "\' ;"', "a'; b", 9) == "t.ab"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("echo t; exit 3", "ended with exit code 3"),
        ("true", "printed no token"),
        ("echo two words", "printed no token"),
        ("sleep 60", "no token within 0.1 s"),
    ],
)
async def test_token_command_that_prints_no_token_fails(command: str, text: str) -> None:
    with pytest.raises(TokenFailed, match=text):
        await token_of(command, "u1", 0.1 if "sleep" in command else 9)
