"""Publishes events through the sidecar, by Dapr's publish API."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

CONTENT_TYPE = "application/cloudevents+json"  # with it a sidecar keeps the id of the envelope
TIMEOUT = 5.0  # seconds
AT_ONCE = 8  # connections to the sidecar


class PublishFailed(Exception):  # noqa: N818 - a temporary state
    """The sidecar has not confirmed the event; the text gives the reason."""


@dataclass(eq=False, kw_only=True)
class Publisher:
    """Publishes to one topic through the sidecar at `port` of this machine. `token` is what it requires, if any."""

    port: int
    pubsub: str
    topic: str
    token: str | None

    def session(self) -> aiohttp.ClientSession:
        """A session for `publish`. The caller must close it."""
        headers = {"content-type": CONTENT_TYPE} | ({"dapr-api-token": self.token} if self.token else {})
        timeout, connector = aiohttp.ClientTimeout(total=TIMEOUT), aiohttp.TCPConnector(limit=AT_ONCE)
        return aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector)

    async def publish(self, http: aiohttp.ClientSession, event: Mapping[str, Any], key: str) -> None:
        """Publish a CloudEvent; `key` is its partition key. Raises `PublishFailed`."""
        url = f"http://127.0.0.1:{self.port}/v1.0/publish/{quote(self.pubsub, safe='')}/{quote(self.topic, safe='')}"
        try:
            async with http.post(
                url, data=msgspec.json.encode(event), params={"metadata.partitionKey": key}
            ) as response:
                if response.status != HTTPStatus.NO_CONTENT:
                    raise PublishFailed(f"the sidecar answers {response.status} for {self.pubsub}/{self.topic}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise PublishFailed(f"the sidecar cannot be reached: {str(error) or type(error).__name__}") from None
