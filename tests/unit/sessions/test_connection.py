"""The connection of every transport, and the fake one, has all members that a session uses."""

import pytest

from tests.support.fake_connection import FakeConnection
from wsbridge.sessions.connection import Connection
from wsbridge.transports.sse import SseConnection
from wsbridge.transports.websocket import WebSocketConnection

NEEDED = {name for name in vars(Connection) if not name.startswith("_")} | set(Connection.__annotations__)


@pytest.mark.parametrize("connection", [WebSocketConnection, SseConnection, FakeConnection])
def test_connection_of_each_transport_has_all_members(connection: type) -> None:
    found = {*dir(connection), *vars(FakeConnection())} if connection is FakeConnection else {*dir(connection)}
    assert NEEDED - found == set()
