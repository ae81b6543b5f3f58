"""The floor of Python: what floor.c does, in a bare loop over `send` or over the `write` of a loop's transports.

`python -m benchmarks.services.floor PORT sockets|asyncio|uvloop`
"""

import asyncio
import select
import socket
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import cast

from wsbridge.core.frames import text_frame

UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
Write = Callable[[bytes], object]
sockets: defaultdict[bytes, list[Write]] = defaultdict(list)  # by user


class Peer:
    """A connection that has opened a WebSocket, or posts."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._user: bytes | None = None
        self._kept = b""

    def take(self, data: bytes) -> None:
        if self._user is not None:
            return  # a pong
        data = self._kept + data
        while (end := data.find(b"\r\n\r\n") + 4) > 3:
            if data.startswith(b"GET /"):
                self._user = data[5 : data.index(b" ", 5)]
                sockets[self._user].append(self._write)
                self._write(UPGRADED)
                return
            size = int(data[:end].lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(data) < end + size:
                break
            for line in data[end : end + size].split(b"\n"):
                user, _, text = line.partition(b" ")
                frame = text_frame(text)
                for write in sockets[user]:
                    write(frame)
            self._write(TAKEN)
            data = data[end + size :]
        self._kept = data

    def leave(self) -> None:
        if self._user is not None:
            sockets[self._user].remove(self._write)


class Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._peer = Peer(cast("asyncio.Transport", transport).write)  # uvloop's does not derive from it

    def data_received(self, data: bytes) -> None:
        self._peer.take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._peer.leave()


async def with_transports(listener: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, sock=listener, backlog=4096)
    await server.serve_forever()


def with_sockets(listener: socket.socket) -> None:
    peers: dict[int, tuple[socket.socket, Peer]] = {}
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    while True:
        for descriptor, _ in epoll.poll():
            if descriptor == listener.fileno():
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[sock.fileno()] = sock, Peer(sock.send)
                epoll.register(sock, select.EPOLLIN)
                continue
            sock, peer = peers[descriptor]
            try:
                data = sock.recv(1 << 18)
            except ConnectionError:
                data = b""
            if data:
                peer.take(data)
            else:
                del peers[descriptor]
                peer.leave()
                sock.close()


def main(port: int, kind: str) -> None:
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    if kind == "sockets":
        with_sockets(listener)
    elif kind == "uvloop":
        import uvloop  # noqa: PLC0415 - only this kind needs it

        uvloop.run(with_transports(listener))
    else:
        asyncio.run(with_transports(listener))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
