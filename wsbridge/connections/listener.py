"""The listening sockets of a port, and the loop that accepts their connections.

asyncio's own loop accepts a whole backlog at each wake-up, and logs an error for each connection when no descriptors
are left. Here a wake-up accepts a few, the others wait in the kernel, and a refusal needs no transport.
"""

import asyncio
import contextlib
import errno
import itertools
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from wsbridge.connections.client_address import plain
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

BACKLOG = 4_096  # connections that wait in the kernel: after a deploy all clients come at once
BATCH = 16  # connections taken at a time; the others wait in the kernel
LOOKED_AT = 64  # connections accepted at one wake-up, including refused ones, which are fast
PAUSE = 0.2  # seconds after an accept that failed
REMIND = 60.0  # seconds between two log lines about it
ANY_V6 = "::"
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(eq=False)
class Listener:
    """The sockets of a port, which are bound by `bind`."""

    make: Callable[[str], asyncio.Protocol]  # creates the protocol of a connection, for the peer's address
    refuses: Callable[[str], bytes | None]  # the response that ends a peer's connection, or None to take it
    make_room: Callable[[], None]
    metrics: Metrics
    sockets: list[socket.socket] = field(default_factory=list, init=False)
    failed_at: float = field(default=float("-inf"), init=False)  # when a failed accept was logged
    _taking: int = field(default=0, init=False)  # accepted connections without a protocol, which no limit counts yet

    @property
    def port(self) -> int:
        return int(self.sockets[0].getsockname()[1])

    async def bind(self, host: str, port: int) -> None:
        """Listen on all addresses of the host; `::` means all IPv6 and IPv4 addresses.

        Raises `OSError` if one of the addresses cannot be bound.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        absent: OSError | None = None
        for family, address in dict.fromkeys((info[0], info[4][0]) for info in found):
            try:
                self.sockets.append(_listening(family, str(address), self.port if self.sockets else port))
            except OSError as error:
                if error.errno not in _ABSENT:  # `localhost` may resolve to IPv6 without IPv6 support
                    self.close()
                    raise
                absent = error
        if absent and not self.sockets:
            raise absent

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()

    async def accept(self, sock: socket.socket) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:  # owns the tasks of the connections; an error in one ends this job
            while True:
                failure: asyncio.Future[OSError] = loop.create_future()
                loop.add_reader(sock, self._wake_up, sock, group, failure)
                try:
                    error = await failure
                finally:
                    loop.remove_reader(sock)
                await self._wait_after(error)

    def _wake_up(self, sock: socket.socket, group: asyncio.TaskGroup, failure: asyncio.Future[OSError]) -> None:
        """Take a few of the waiting connections."""
        room = BATCH - self._taking
        if failure.done() or not room:
            return
        try:
            for connection, peer in itertools.islice(self._welcome(sock), room):
                self._taking += 1
                group.create_task(self._take(connection, peer))
        except OSError as error:
            failure.set_result(error)
        except Exception as error:  # the boundary to the loop, which would only log it
            failure.set_exception(error)

    def _welcome(self, sock: socket.socket) -> Iterator[tuple[socket.socket, str]]:
        """Refuse the connections of one wake-up that must be refused. Yields the others."""
        for connection, address in _waiting(sock):
            peer = plain(str(address[0]))
            if (answer := self.refuses(peer)) is None:
                yield connection, peer
                continue
            connection.setblocking(False)  # noqa: FBT003 - the method's only argument
            with contextlib.suppress(OSError):  # the client has disconnected
                connection.send(answer)
            connection.close()

    async def _take(self, connection: socket.socket, peer: str) -> None:
        connection.setblocking(False)  # noqa: FBT003 - as above
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self.make(peer), connection)
        except OSError:
            connection.close()  # the client has disconnected
        finally:
            self._taking -= 1

    async def _wait_after(self, error: OSError) -> None:
        """Pause after a failed accept (no descriptors or memory left). Connections wait in the kernel meanwhile."""
        self.metrics.connection_refused("accept")
        now = asyncio.get_running_loop().time()
        if now - self.failed_at >= REMIND:
            self.failed_at = now
            log.error("accept.failed", why=error.strerror or str(error), again=PAUSE)
        self.make_room()
        await asyncio.sleep(PAUSE)


def _waiting(sock: socket.socket) -> Iterator[tuple[socket.socket, Any]]:
    """The connections that wait in the kernel."""
    with contextlib.suppress(BlockingIOError, ConnectionAbortedError):  # no more, or a client has disconnected already
        for _ in range(LOOKED_AT):
            yield sock.accept()


def _listening(family: int, address: str, port: int) -> socket.socket:
    both = family == socket.AF_INET6 and address == ANY_V6 and socket.has_dualstack_ipv6()
    sock = socket.create_server(
        (address, port), family=socket.AddressFamily(family), backlog=BACKLOG, dualstack_ipv6=both
    )
    sock.setblocking(False)  # noqa: FBT003 - the method's only argument
    # Connections inherit both options. asyncio sets the first one only if the `proto` of a socket is IPPROTO_TCP, and
    # that of an accepted socket is 0.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock
