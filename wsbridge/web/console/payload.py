"""`GET /console/payload`: the data of one event, which an operator must ask for. Each answer is logged."""

from dataclasses import dataclass

from aiohttp import hdrs, web

from wsbridge.broker.base import Broker, BrokerUnavailable
from wsbridge.connections.client_address import address_of
from wsbridge.core.event_ids import shortened
from wsbridge.core.events import Position
from wsbridge.telemetry.log import log
from wsbridge.web.parameters import asked_for


@dataclass(eq=False)
class PayloadHandler:
    broker: Broker

    async def payload(self, request: web.Request) -> web.Response:
        """The data verbatim, as text. 404 if the history of the user does not have the event any more."""
        user, event_id = asked_for(request, "user_id"), shortened(asked_for(request, "event_id"))
        try:
            data = await self._data(user, event_id)
        except BrokerUnavailable as unavailable:
            raise web.HTTPServiceUnavailable(text=f"The history cannot be read now: {unavailable}") from None
        if data is None:
            raise web.HTTPNotFound(text="The history of this user does not have this event, or not any more.")
        log.info("payload.shown", user=user, event_id=event_id, peer=address_of(request))
        headers = {hdrs.CACHE_CONTROL: "no-store", hdrs.X_CONTENT_TYPE_OPTIONS: "nosniff"}
        return web.Response(body=data, content_type="text/plain", charset="utf-8", headers=headers)

    async def _data(self, user: str, event_id: str) -> bytes | None:
        position = await self.broker.find(user, event_id)
        if position is None:
            return None
        resume = await self.broker.resume(user, str(Position(position.epoch, position.offset - 1)))
        return next((entry.data for entry in resume.entries if entry.offset == position.offset), None)
