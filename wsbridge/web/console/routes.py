"""The routes of the console, each with its caller."""

from wsbridge.auth.access import Access, Caller, Handler, Route
from wsbridge.broker.base import Broker
from wsbridge.config.settings import Settings
from wsbridge.web.all_replicas import AllReplicas
from wsbridge.web.console.page import pages
from wsbridge.web.console.payload import PayloadHandler
from wsbridge.web.console.stream import StreamHandler


def routes(
    settings: Settings, access: Access, broker: Broker, replicas: AllReplicas, *, name: str, publish: Handler
) -> list[Route]:
    """`name` is that of this replica. `publish` takes an event like one of the sidecar."""
    hello = {
        "replica": name,
        "topics": dict(settings.topics),
        "user_field": settings.user_id_field,
        "shares_redis": settings.redis_url is not None,
    }
    stream = StreamHandler(replicas, access.may_write, hello)
    return [
        *(("GET", path, Caller.ANYONE, page) for path, page in pages(needs_token=bool(settings.admin_token)).items()),
        ("GET", "/console/stream", Caller.VIEWER, stream.stream),
        ("GET", "/console/payload", Caller.OPERATOR, PayloadHandler(broker).payload),
        ("POST", "/console/events/{topic}", Caller.OPERATOR, publish),
    ]
