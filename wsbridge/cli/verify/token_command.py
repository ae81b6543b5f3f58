"""Gets a token from a command of the user."""

import asyncio
import contextlib
import os
import shlex
import signal


class TokenFailed(Exception):  # noqa: N818 - the failure of the command
    """There is no token; the text gives the reason."""


async def token_of(command: str, user: str, timeout: float) -> str:  # noqa: ASYNC109 - of the command
    """Run the command with `{user}` replaced, quoted for the shell; return what it prints.

    Raises `TokenFailed` if it fails, prints no token or takes longer than `timeout` seconds.
    """
    process = await asyncio.create_subprocess_shell(
        command.replace("{user}", shlex.quote(user)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout):
            output, _ = await process.communicate()
    except TimeoutError:
        raise TokenFailed(f"--token-command had no token within {timeout:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    token = output.decode(errors="replace").strip()
    if process.returncode:
        raise TokenFailed(f"--token-command ended with exit code {process.returncode}")
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise TokenFailed("--token-command printed no token")
    return token
