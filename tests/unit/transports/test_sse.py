"""Streams of clients that have left before their request is handled. test_sse.py in tests/integration has the rest."""

from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from tests.support.fake_transport import ClosedTransport
from wsbridge.transports.sse import SseHandler


async def test_stream_whose_connection_is_closed_already_is_lost_and_no_internal_error() -> None:
    request = make_mocked_request("GET", "/sse", transport=ClosedTransport())
    with pytest.raises(ConnectionResetError):
        await SseHandler(Mock(), Mock(), ping_timeout=1.0).stream(request)
