"""What most scenarios have in common: the first messages, and the client's reaction to them."""

from wsbridge.cli.conformance.connection import Connection, Violation
from wsbridge.cli.conformance.trial import Trial
from wsbridge.core.events import Entry, Position
from wsbridge.core.messages import connected, update
from wsbridge.core.timestamps import timestamp

USER = "conformance"
EARLY = 0.05  # seconds by which a wait may be shorter: the message took time to the client, the connection none


def hello(offset: int, *, recovered: bool | None = None, epoch: str = "e", lives: float | None = None) -> bytes:
    """`connected` before the event that follows this offset."""
    expires = None if lives is None else round(lives * 1000)
    return connected(USER, "session", Position(epoch, offset), 25, recovered, expires)


def event(offset: int, *, epoch: str = "e", kind: str = "task_update", padding: int = 0) -> bytes:
    data = b'{"n":%d,"padding":"%s"}' % (offset, b"x" * padding)
    return update(Entry(USER, epoch, offset, kind, data, timestamp(), 0.0, f"event-{offset}"))


async def begun(client: Trial, *, lives: float | None = None) -> Connection:
    """The client's first connection, on which it has received e:1."""
    connection = await client.connects()
    await connection.accept(hello(0, lives=lives), event(1))
    await client.prints("e:1")
    return connection


async def resumed(client: Trial) -> None:
    """The client resumes after e:1 and receives e:2, once."""
    connection = await client.connects(after="e:1")
    await connection.accept(hello(1, recovered=True), event(2))
    await client.prints("e:1", "e:2")


def not_before(connection: Connection, due: float) -> None:
    if (early := due - connection.at) > EARLY:
        raise Violation(f"connected {early:.1f} s too early")
