"""The begin of a WebSocket whose client has left, and the end of one, without a socket."""

from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from tests.support.fake_transport import ClosedTransport, FakeTransport
from wsbridge.core.close_codes import PROTOCOL_ERROR
from wsbridge.core.frames import close_frame
from wsbridge.transports.client_messages import ClientMessages
from wsbridge.transports.websocket import WebSocketConnection, WebSocketHandler


@pytest.mark.parametrize(
    ("is_broken", "peer_has_closed", "ended", "closed"),
    [(False, False, False, False), (True, False, True, False), (True, True, False, True)],
    ids=["reads the peer's close", "understands nothing more", "has the peer's close"],
)
async def test_websocket_send_close_ends_the_stream_unless_the_peers_close_is_awaited(
    is_broken: bool, peer_has_closed: bool, ended: bool, closed: bool
) -> None:
    nothing: Any = None
    transport = FakeTransport()
    connection = WebSocketConnection(transport, ClientMessages(nothing, nothing, nothing))
    connection.is_broken, connection.peer_has_closed = is_broken, peer_has_closed
    connection.send_close(PROTOCOL_ERROR)
    assert transport.written == [close_frame(PROTOCOL_ERROR)]
    assert (transport.ended, transport.closed) == (ended, closed)
    connection.connection_lost(None)


async def test_websocket_whose_connection_is_closed_already_opens_no_session() -> None:
    headers = {"Host": "a", "Upgrade": "websocket", "Connection": "upgrade", "Sec-WebSocket-Version": "13"}
    headers["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    request = make_mocked_request("GET", "/ws", headers, transport=ClosedTransport())
    opener = Mock()
    handler = WebSocketHandler(opener, Mock(draining=False), Mock(), Mock())
    assert (await handler.connect(request)).status == 101  # as for a client that leaves a moment later
    assert not opener.open.called
