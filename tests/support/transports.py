"""Connections of a client that follows docs/protocol.md, over WebSocket and SSE."""

import contextlib
import socket
from typing import Protocol, Self

import aiohttp

from wsbridge.cli.verify.visit import Visit

LOST = (aiohttp.ClientError, OSError, TimeoutError)  # raised where the connection is lost
CONNECT_TIMEOUT = 15.0  # seconds until the first message


class Ended(Exception):  # noqa: N818 - every connection does
    """The other side closed; the text describes how."""


class Line(Protocol):
    """A connection over one of the two transports."""

    visit: Visit

    async def next(self) -> tuple[bytes, str | None]:
        """The next message, and the position in the transport's own field, if there is one. Raises `Ended`."""
        ...

    async def leave(self, *, cleanly: bool) -> None: ...


class Socket:
    """A WebSocket."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, visit: Visit) -> None:
        self.visit = visit
        self._ws = ws

    @classmethod
    async def open(cls, http: aiohttp.ClientSession, url: str, visit: Visit, user: str) -> Self:
        query = {"user_id": user} | ({"last_event_id": str(visit.asked)} if visit.asked else {})
        patience = aiohttp.ClientWSTimeout(ws_close=1.0)
        try:
            return cls(await http.ws_connect(f"{url}/ws", params=query, timeout=patience, max_msg_size=0), visit)
        except aiohttp.WSServerHandshakeError as error:
            raise Ended(f"status {error.status}") from None

    async def next(self) -> tuple[bytes, str | None]:
        message = await self._ws.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return message.data.encode(), None
        raise Ended(f"code {self._ws.close_code or 1006}")

    async def leave(self, *, cleanly: bool) -> None:
        sock = self._ws.get_extra_info("socket")
        with contextlib.suppress(*LOST):
            if not cleanly and sock is not None:
                with sock.dup() as own:  # uvloop's object has no `shutdown`
                    own.shutdown(socket.SHUT_RDWR)
            await self._ws.close()


class Stream:
    """Server-Sent Events."""

    def __init__(self, response: aiohttp.ClientResponse, visit: Visit) -> None:
        self.visit = visit
        self._response = response

    @classmethod
    async def open(cls, http: aiohttp.ClientSession, url: str, visit: Visit, user: str) -> Self:
        headers = {"Last-Event-ID": str(visit.asked)} if visit.asked else {}
        forever = aiohttp.ClientTimeout(total=None)
        response = await http.get(f"{url}/sse", params={"user_id": user}, headers=headers, timeout=forever)
        if response.status != 200:
            response.close()
            raise Ended(f"status {response.status}")
        return cls(response, visit)

    async def next(self) -> tuple[bytes, str | None]:
        data, position = [], None
        while line := await self._response.content.readline():
            name, _, value = line.removesuffix(b"\n").partition(b": ")
            if name == b"data":
                data.append(value)
            elif name == b"id":
                position = value.decode()
            elif not name and data:
                return b"\n".join(data), position
        raise Ended("the end of the stream")

    async def leave(self, *, cleanly: bool) -> None:
        self._response.close()
