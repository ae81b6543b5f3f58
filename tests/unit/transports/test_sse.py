"""Streams of clients that have left before their request is handled. test_sse.py in tests/integration has the rest."""

from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from tests.support.fake_transport import FakeTransport
from wsbridge.transports.sse import SseHandler


class ClosedTransport(FakeTransport):
    """Its socket has no descriptor any more; uvloop raises this."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        def setsockopt(*_: object) -> None:
            raise ValueError("negative file descriptor")

        return Mock(setsockopt=setsockopt) if name == "socket" else default


async def test_stream_whose_connection_is_closed_already_is_lost_and_no_internal_error() -> None:
    transport = ClosedTransport()
    transport.abort()
    request = make_mocked_request("GET", "/sse", transport=transport)
    with pytest.raises(ConnectionResetError):
        await SseHandler(Mock(), Mock(), ping_timeout=1.0).stream(request)
