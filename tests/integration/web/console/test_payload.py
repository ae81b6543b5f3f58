"""`GET /console/payload`: the data of one event, for operators."""

from urllib.parse import urlencode

import pytest

from tests.support.logs import Logs
from tests.support.running import Running
from wsbridge.broker.base import BrokerUnavailable

HOSTILE = "<script>alert(1)</script>/é"


def path(user: str, event_id: str) -> str:
    return "/console/payload?" + urlencode({"user_id": user, "event_id": event_id})


async def test_payload_is_the_data_verbatim_as_text(bridge: Running, logs: Logs) -> None:
    for n in range(3):
        await bridge.publish({"user_id": HOSTILE, "n": n}, id=f"{HOSTILE}{n}")
    async with bridge.http.get(bridge.url + path(HOSTILE, f"{HOSTILE}1")) as response:
        assert (response.content_type, response.charset) == ("text/plain", "utf-8")
        assert response.headers["Cache-Control"] == "no-store"
        assert await response.json(content_type=None) == {"user_id": HOSTILE, "n": 1}
    assert len(logs.of("payload.shown", user=HOSTILE, event_id=f"{HOSTILE}1", peer="127.0.0.1")) == 1


async def test_payload_that_is_not_in_the_history_is_404(bridge: Running) -> None:
    await bridge.publish({"user_id": "u1"}, id="e1")
    for user, event_id in (("u1", "e2"), ("u2", "e1")):
        assert (await bridge.get(path(user, event_id)))[0] == 404


async def test_payload_while_the_history_is_unavailable_is_503(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: str) -> None:
        raise BrokerUnavailable

    monkeypatch.setattr(bridge.bridge.broker, "find", unavailable)
    assert (await bridge.get(path("u1", "e1")))[0] == 503
