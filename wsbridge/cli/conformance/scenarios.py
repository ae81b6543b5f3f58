"""The scenarios: what the server does to a client, and what the client must do. Each docstring is shown to people."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from wsbridge.cli.conformance.connection import Violation
from wsbridge.cli.conformance.steps import begun, event, hello, not_before, resumed
from wsbridge.cli.conformance.trial import Trial
from wsbridge.config.settings import Settings
from wsbridge.core.close_codes import CLOSES, FORCE_DISCONNECT, INTERNAL, OVERLOADED, SHUTDOWN, TOKEN_EXPIRED, Close
from wsbridge.core.events import Position
from wsbridge.core.messages import error, gap, goodbye

AT_ONCE = 3.0  # seconds for a program that does something at once, on a busy machine
SOON = 0.15  # seconds: the least wait of a client that must not reconnect at once
HINT = 1.5  # seconds: the wait that a goodbye asks for
EXPIRY = 6.0  # seconds: the life of a token
SILENCE = 60.0  # seconds after which a client must have noticed a dead connection
_UNNAMED = (1000, 1001, 3000, 4000, 4001, 4499, 4501, 4999)  # codes of the rule that are in no table

SOCKETS, STREAMS = "WebSockets", "streams"

Play = Callable[[Trial], Awaitable[None]]


class Scenario(NamedTuple):
    name: str
    text: str
    play: Play
    needs_token: bool = False
    only: str = ""  # the transport, if it does not fit the other


async def messages(client: Trial) -> None:
    """prints each event once, and ignores types and fields that it does not know"""
    connection = await client.connects()
    await connection.accept(hello(0), event(1), b'{"type":"from_the_future","n":1}', error("bad_message", "a text"))
    await connection.send(event(2)[:-1] + b',"new":{"a":[null]}}', event(3, kind="another_topic"))
    await client.prints("e:1", "e:2", "e:3")


async def large(client: Trial) -> None:
    """receives an event of the largest size"""
    connection = await client.connects()
    await connection.accept(hello(0), event(1, padding=Settings().max_event_bytes - 100), event(2))
    await client.prints("e:1", "e:2")


async def resume(client: Trial) -> None:
    """resumes after the last event when the connection is lost, twice"""
    (await begun(client)).cut()
    connection = await client.connects(after="e:1")
    await connection.accept(hello(1, recovered=True), event(2), event(3))
    await client.prints("e:1", "e:2", "e:3")
    connection.cut()
    connection = await client.connects(after="e:3")
    await connection.accept(hello(3, recovered=True), event(4))
    await client.prints("e:1", "e:2", "e:3", "e:4")


async def resume_before_events(client: Trial) -> None:
    """resumes after the position of `connected` if no event has arrived yet"""
    connection = await client.connects()
    await connection.accept(hello(41), error("bad_message", "a text"))
    await asyncio.sleep(HINT)  # Firefox shows a page nothing of a connection that is closed at once
    await connection.close(*OVERLOADED)
    connection = await client.connects(after="e:41")
    await connection.accept(hello(41, recovered=True), event(42))
    await client.prints("e:42")


async def missed(client: Trial) -> None:
    """prints `gap` when events are lost, and continues from the position of the gap"""
    (await begun(client)).cut()
    connection = await client.connects(after="e:1")
    lost = gap(Position("e", 1), Position("f", 7), "reset")
    await connection.accept(hello(7, recovered=False, epoch="f"), lost)
    await client.prints("e:1", "gap")
    connection.cut()
    connection = await client.connects(after="f:7")
    await connection.accept(hello(7, recovered=True, epoch="f"), event(8, epoch="f"))
    await client.prints("e:1", "gap", "f:8")


async def goodbye_early(client: Trial) -> None:
    """loses and repeats nothing when a goodbye announces a close, and returns when it says"""
    old = await begun(client)
    said = time.monotonic()
    await old.send(goodbye(SHUTDOWN, HINT, 2 * HINT), event(2))
    await client.prints("e:1", "e:2")
    new = await client.next(2 * HINT)
    if new is None:
        await old.close(*SHUTDOWN)
        new = await client.connects(after="e:2")
    else:
        await old.send(event(3))
    not_before(new, said + HINT)
    last = Position.parse(new.position or "") or Position("e", 0)
    await new.accept(hello(last.offset, recovered=True), *map(event, range(last.offset + 1, 5)))
    await client.prints("e:1", "e:2", "e:3", "e:4")


async def goodbye_late(client: Trial) -> None:
    """waits as long as a goodbye says when the close follows at once"""
    connection = await begun(client)
    said = time.monotonic()
    await connection.send(goodbye(SHUTDOWN, HINT))
    await connection.close(*SHUTDOWN)
    connection = await client.connects(after="e:1")
    not_before(connection, said + HINT)
    await connection.accept(hello(1, recovered=True), event(2))
    await client.prints("e:1", "e:2")


async def goodbye_final(client: Trial) -> None:
    """ends after a goodbye with a final code, even if the close frame is lost"""
    connection = await begun(client)
    await connection.send(goodbye(FORCE_DISCONNECT))
    connection.cut()
    await client.gives_up()


async def close(client: Trial, code: Close) -> None:
    """The client obeys one close code."""
    await (await begun(client)).close(*code)
    await (resumed(client) if code.reconnect else client.gives_up())


async def backoff(client: Trial) -> None:
    """waits before each attempt while the server refuses it"""
    connection = await begun(client)
    first = time.monotonic()
    for _ in range(4):
        await connection.close(*OVERLOADED)
        connection = await client.connects(after="e:1")
        await connection.accept(goodbye(OVERLOADED))
    if (took := time.monotonic() - first) < 4 * SOON:
        raise Violation(f"connected four times within {took:.2f} s; expected a growing, random wait from 0.25 s on")


async def refused(client: Trial) -> None:
    """tries again when the handshake is answered with 503"""
    (await begun(client)).cut()
    for _ in range(2):
        (await client.connects(after="e:1")).refuse(503)
    await resumed(client)


async def silence(client: Trial) -> None:
    """notices within a minute that nothing answers any more"""
    connection = await begun(client)
    connection.silent = True
    after = await client.next(SILENCE)
    if after is None:
        raise Violation(f"still on a connection that has been silent for {SILENCE:g} s")
    await after.accept(hello(1, recovered=True), event(2))
    await client.prints("e:1", "e:2")


async def token(client: Trial) -> None:
    """fetches a fresh token after 4401 and reconnects at once; the second time, it waits"""
    connection = await begun(client, lives=3600)
    tokens = [connection.token]
    for least in (0.0, SOON):
        await connection.send(goodbye(TOKEN_EXPIRED))
        await connection.close(*TOKEN_EXPIRED)
        ended = time.monotonic()
        connection = await client.connects(after="e:1")
        if connection.token is None or connection.token in tokens:
            raise Violation(f"connected with the token {connection.token} again; expected a fresh one")
        if not least and connection.at - ended > AT_ONCE:
            raise Violation(f"waited for {connection.at - ended:.1f} s with a fresh token; expected it at once")
        not_before(connection, ended + least)
        tokens.append(connection.token)
        await connection.accept(*([hello(1, recovered=True, lives=3600)] if least else ()))
    await connection.send(event(2))
    await client.prints("e:1", "e:2")


async def refresh(client: Trial) -> None:
    """has a fresh token before the old one expires, or fetches one then"""
    connection = await begun(client, lives=EXPIRY)
    after = await client.next(EXPIRY)
    if after is None and connection.auths and connection.auths[-1] != connection.token:
        await connection.send(event(2))
        await client.prints("e:1", "e:2")
        return
    if after is None:
        await connection.send(goodbye(TOKEN_EXPIRED))
        await connection.close(*TOKEN_EXPIRED)
        after = await client.connects(after="e:1")
    if after.token in (None, connection.token):
        raise Violation(f"connected with the token {after.token} again; expected a fresh one")
    await after.accept(hello(1, recovered=True, lives=3600), event(2))
    await client.prints("e:1", "e:2")


async def refused_stream(client: Trial) -> None:
    """ends when the stream is refused with 403"""
    (await begun(client)).cut()
    (await client.connects(after="e:1")).refuse(403, "user_mismatch")
    await client.gives_up()


async def token_stream(client: Trial) -> None:
    """fetches a fresh token when the stream is refused with 401"""
    connection = await client.connects()
    connection.refuse(401, "token_expired")
    after = await client.connects()
    if after.token in (None, connection.token):
        raise Violation(f"connected with the token {after.token} again; expected a fresh one")
    await after.accept(hello(0, lives=3600), event(1))
    await client.prints("e:1")


def _scenarios() -> dict[str, Scenario]:
    plays: tuple[Play, ...] = (
        messages, large, resume, resume_before_events, missed, goodbye_early, goodbye_late, goodbye_final, backoff,
        refused, silence,
    )  # fmt: skip
    listed = [Scenario(play.__name__, play.__doc__ or "", play) for play in plays]
    listed += [Scenario(play.__name__, play.__doc__ or "", play, needs_token=True) for play in (token, refresh)]
    listed.append(Scenario(refused_stream.__name__, refused_stream.__doc__ or "", refused_stream, only=STREAMS))
    listed.append(
        Scenario(token_stream.__name__, token_stream.__doc__ or "", token_stream, needs_token=True, only=STREAMS)
    )
    codes = {each.code: each for each in (*(Close(code, "") for code in _UNNAMED), *CLOSES)}
    del codes[TOKEN_EXPIRED.code]  # the scenario `token`
    for number, each in sorted(codes.items()):
        text = f"{'reconnects and resumes' if each.reconnect else 'ends'} after the close code {number}"
        only = "" if each.reason and number >= INTERNAL.code else SOCKETS
        listed.append(Scenario(f"close_{number}", text, partial(close, code=each), only=only))
    return {each.name: each for each in listed}


SCENARIOS = _scenarios()
