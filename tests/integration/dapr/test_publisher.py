"""Publishing through a sidecar."""

import pytest

from tests.support.fake_sidecar import FakeSidecar
from tests.support.valkey import free_port
from wsbridge.dapr import publisher as module
from wsbridge.dapr.publisher import Publisher, PublishFailed


def publisher(port: int, token: str | None = None) -> Publisher:
    return Publisher(port=port, pubsub="pub/sub", topic="receipts", token=token)


@pytest.mark.parametrize("token", [None, "what the sidecar requires"])
async def test_publisher_posts_the_event_as_dapr_documents_it(token: str | None) -> None:
    async with FakeSidecar() as sidecar:
        one = publisher(sidecar.port, token)
        async with one.session() as http:
            await one.publish(http, {"id": "a"}, "u/ü")
        (request,) = sidecar.requests
        assert (request.match_info["pubsub"], request.match_info["topic"]) == ("pub/sub", "receipts")
        assert (request.query["metadata.partitionKey"], request.content_type) == ("u/ü", "application/cloudevents+json")
        assert (request.headers.get("dapr-api-token"), sidecar.events) == (token, [{"id": "a"}])


async def test_publisher_names_the_status_of_a_sidecar_that_refuses() -> None:
    async with FakeSidecar() as sidecar:
        sidecar.status = 403
        one = publisher(sidecar.port)
        async with one.session() as http:
            with pytest.raises(PublishFailed, match="answers 403 for pub/sub/receipts"):
                await one.publish(http, {}, "u")


async def test_publisher_without_a_sidecar_says_that_it_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 1.0)
    one = publisher(free_port())
    async with one.session() as http:
        with pytest.raises(PublishFailed, match="the sidecar cannot be reached"):
            await one.publish(http, {}, "u")
