"""`wsbridge listen`: shows the messages of a user in colour or in a pipe, and explains each close and each gap."""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TextIO

from wsbridge import client
from wsbridge.cli.formatting import explain, is_colourful, one_line, pretty, printable
from wsbridge.cli.http import why_unreachable
from wsbridge.client import Cause, Client, Ended, Message
from wsbridge.config.value_types import without_secrets
from wsbridge.core.close_codes import LOST, NO_STATUS, TOKEN_MISSING, Close

CUTS = 3  # after nearly the same time without a message: a time-out
_CUT = {1001, NO_STATUS.code, LOST.code}  # a bridge that ends a connection sends other codes
Token = str | Callable[[], Awaitable[str | None]] | None


class Listener:
    """Follows `/ws` with a client until a close code forbids reconnecting.

    `show` is called with each message, byte for byte; `note` with each explanation for a person.
    """

    def __init__(self, follower: Client, *, show: Callable[[bytes], None], note: Callable[[str], None]) -> None:
        self.client = follower
        self._show = show
        self._note = note
        self._token_was_given = isinstance(follower.token, str)
        self._trouble = ""  # the last reported reason why connecting failed; each is reported once
        self._heard: float | None = None  # when the last message of this connection came
        self._idle: list[float] = []  # seconds without a message before each of the last cuts
        self._idle_was_noted = False
        follower.on_disconnect = self._disconnected

    async def follow(self) -> None:
        try:
            async with self.client:
                async for message in self.client:
                    self._heard = self.client.clock()
                    self._show(bytes(message.text))
                    self._explain(message)
        except Ended as ended:
            no_websocket = (
                f"no WebSocket at {without_secrets(self.client.url)} (HTTP status {ended.cause}); check --url"
            )
            self._note(explain(ended.cause) if isinstance(ended.cause, Close) else no_websocket)

    def _explain(self, message: Message) -> None:
        if message.type == "connected" and self._token_was_given and message.expires_in_ms is None:
            # Only a bridge that has verified the token says when it expires.
            self._token_was_given = False
            self._note("this bridge does not check tokens: --token had no effect")
        elif message.type == "gap":
            after = f"after {message.after} " if message.after else ""
            lost = f"gap ({message.reason}): the events {after}are lost; an application loads its state again here"
            self._note(printable(f"{lost}. Events continue from {message.last_event_id}"))

    def _disconnected(self, cause: Cause, seconds: float) -> None:
        if isinstance(cause, Close):
            self._trouble = ""
            now = "now with a new token" if cause.code == TOKEN_MISSING.code else "now"
            when = f"in {seconds:.1f} s" if seconds else now
            self._note(f"{explain(cause)}. Reconnecting {when}")
            self._compare_cuts(cause)
            return
        self._idle.clear()  # a bridge that cannot be reached was not cut off by a time-out
        why = why_unreachable(cause, client.CONNECT_TIMEOUT) if isinstance(cause, Exception) else f"HTTP status {cause}"
        if why != self._trouble:
            self._trouble = why
            self._note(f"cannot reach {without_secrets(self.client.url)}: {printable(why)}. Retrying until it answers")

    def _compare_cuts(self, close: Close) -> None:
        """Note once that connections are cut at a constant interval, which is shorter than the interval of pings."""
        heard, self._heard = self._heard, None
        if close.code not in _CUT or heard is None:
            self._idle.clear()
            return
        self._idle = [*self._idle, self.client.clock() - heard][-CUTS:]
        least, most = min(self._idle), max(self._idle)
        is_timeout = len(self._idle) == CUTS and least >= 1 and most <= min(1.1 * least, client.PING_INTERVAL)
        if is_timeout and not self._idle_was_noted:
            self._idle_was_noted = True
            self._note(
                f"cut after {most:.1f} s without a message, {CUTS} times: probably a proxy ends idle connections; set "
                "its idle time-out above the bridge's WSBRIDGE_PING_INTERVAL of 25 s by default (nginx "
                "proxy-read-timeout, HAProxy timeout tunnel)"
            )


def shower(stream: TextIO, environ: Mapping[str, str]) -> Callable[[bytes], None]:
    """A function that writes a message and flushes."""
    if not stream.isatty():
        return lambda message: _write(stream, one_line(message))
    colours = is_colourful(stream, environ)
    return lambda message: _write(
        stream, pretty(message.decode(errors="replace"), colours=colours).encode(stream.encoding, "replace") + b"\n"
    )


def _write(stream: TextIO, line: bytes) -> None:
    stream.buffer.write(line)
    stream.flush()


async def while_read(stream: TextIO, work: Coroutine[None, None, None]) -> None:
    """Run `work`, but end at once when the reader of the stream has exited, as with `| head -1`.

    Without it the command would end only at the next message, which may be hours later. Raises `BrokenPipeError` if the
    reader has exited.
    """
    loop, output = asyncio.get_running_loop(), stream.fileno()
    task, unread = loop.create_task(work), False  # not in the background: it ends with this function

    def end() -> None:
        nonlocal unread
        unread = True
        task.cancel()

    is_pipe = stat.S_ISFIFO(os.fstat(output).st_mode)
    if is_pipe:  # the writing end of a pipe becomes readable when its reader has exited
        loop.add_reader(output, end)
    try:
        await task
    except asyncio.CancelledError:
        if unread:
            raise BrokenPipeError from None
        raise
    finally:
        if is_pipe:
            loop.remove_reader(output)
