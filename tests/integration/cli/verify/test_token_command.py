"""`--token-command`: what it prints, and how it fails."""

import asyncio

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


async def test_token_command_that_ends_at_its_cancellation_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its client would continue without end after `verify` has cancelled it."""

    class Process:
        returncode = 0

        async def communicate(self) -> tuple[bytes, None]:
            await asyncio.sleep(0)
            waiting.cancel()
            return b"t", None

    async def create(*_: object, **_options: object) -> Process:
        return Process()

    monkeypatch.setattr(asyncio, "create_subprocess_shell", create)
    waiting = asyncio.create_task(token_of("true", "u1", 9))
    with pytest.raises(asyncio.CancelledError):
        await waiting
