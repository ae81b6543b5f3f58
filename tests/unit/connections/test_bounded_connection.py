"""How a paused connection ends; tests on real sockets are in the integration test of the same name."""

import socket
from typing import Any

import pytest

from tests.support.fake_transport import FakeTransport
from tests.support.ports import port
from wsbridge.connections.bounded_connection import BoundedConnection
from wsbridge.telemetry.metrics import Metrics


class Transport(FakeTransport):
    def __init__(self) -> None:
        super().__init__()
        self.options: list[Any] = []

    def get_extra_info(self, name: str, default: object = None) -> Any:
        return self

    def setsockopt(self, _: int, option: int, __: object) -> None:
        self.options.append(option)


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
async def connection(transport: Transport) -> BoundedConnection:
    found = BoundedConnection(port(Metrics(), limit=10, handshake_rate=1.0), "203.0.113.7", known=False)
    found.connection_made(transport)
    return found


@pytest.mark.parametrize("is_paused", [False, True])
async def test_busy_connection_is_cut_to_make_room_only_while_its_peer_reads_nothing(
    connection: BoundedConnection, transport: Transport, is_paused: bool
) -> None:
    limit = connection._port.connection_limit
    limit.set_busy(connection)
    if is_paused:
        connection.pause_writing()
    limit.make_room()
    assert transport.closed is connection.is_over is is_paused


@pytest.mark.parametrize("is_paused", [False, True])
async def test_cut_lets_the_kernel_send_the_last_response_unless_nobody_reads(
    connection: BoundedConnection, transport: Transport, is_paused: bool
) -> None:
    if is_paused:
        connection.pause_writing()
    connection.cut("failures")
    assert transport.aborted == 1
    assert transport.options == ([socket.SO_LINGER] if is_paused else [])
