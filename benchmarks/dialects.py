"""Templates with which the load generator speaks to each contender: handshakes and posted events. See load.c."""

from dataclasses import dataclass, field

DATA = (
    '{"event_type":"task.updated","user_id":"u%u","task_id":"%i","mark":"%m","title":"Prepare the quarterly report",'
    '"description":"Collect the numbers of all teams and send a draft before the meeting on Thursday","done":false}'
)
MESSAGE = '{"type":"task_update","event":' + DATA + "}"  # what a client gets from servers that do not build messages
_CLOUD_EVENT = (
    '{"id":"%i","source":"backend","type":"com.dapr.event.sent","specversion":"1.0",'
    '"datacontenttype":"application/json","pubsubname":"pubsub-kafka","topic":"task-updates","data":' + DATA + "}"
)
_BULK = '{"id":"bulk","type":"com.dapr.event.sent.bulk","topic":"task-updates","pubsubname":"pubsub-kafka","entries":['
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # load.c compares the answer to this key


@dataclass(frozen=True)
class Dialect:
    """Templates: `single` posts one event in a request, `bulk` several."""

    upgrade: str
    single: dict[str, str]
    bulk: dict[str, str]
    options: dict[str, str] = field(default_factory=dict)
    resume: str = ""  # the handshake of a client that was connected before

    def settings(self, *, is_bulk: bool) -> dict[str, str]:
        """The options that the load generator must `set` before posting."""
        return {"prefix": "", "between": "", "suffix": "", "each": ""} | (self.bulk if is_bulk else self.single)


def upgrade(target: str) -> str:
    """A handshake."""
    return (
        f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\n\r\n"
    )


def _head(target: str, content_type: str = "application/json", more: str = "") -> str:
    return f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n{more}Content-Length: "


SIDECAR = Dialect(  # wsbridge, and the services in services/ that take the same deliveries
    upgrade("/ws?user_id=u%u"),
    {"head": _head("/events/task-updates", "application/cloudevents+json"), "entry": _CLOUD_EVENT},
    {
        "head": _head("/events/task-updates"),
        "prefix": _BULK,
        "entry": f'{{"entryId":"%i","contentType":"application/cloudevents+json","event":{_CLOUD_EVENT}}}',
        "between": ",",
        "suffix": "]}",
    },
    {"greeting": "{", "refused": '"reason"'},
    upgrade("/ws?user_id=u%u&last_event_id=%p"),
)
SOCKET_IO = Dialect(
    upgrade("/socket.io/?EIO=4&transport=websocket&user_id=u%u"),
    SIDECAR.single,
    SIDECAR.bulk,
    {"greeting": "40", "hello": "40", "ping": "2", "pong": "3"},
)
FLOOR = Dialect(
    upgrade("/%u"),
    {"head": _head("/"), "entry": f"%u {MESSAGE}"},
    {"head": _head("/"), "entry": f"%u {MESSAGE}", "between": "\n"},
)
NCHAN = Dialect(  # takes one message in a request: a bulk is sent as many requests, without waiting for answers
    upgrade("/sub/u%u"),
    {"head": _head("/pub/u%u"), "entry": MESSAGE, "each": "1"},
    {"head": _head("/pub/u%u"), "entry": MESSAGE, "each": "1"},
)
_PUBLISH = f'{{"channel":"u%u","data":{MESSAGE}}}'
CENTRIFUGO = Dialect(
    upgrade("/connection/uni_websocket?cf_connect=%7B%22subs%22%3A%7B%22u%u%22%3A%7B%7D%7D%7D"),
    {"head": _head("/api/publish", more="X-API-Key: bench\r\n"), "entry": _PUBLISH},
    {
        "head": _head("/api/batch", more="X-API-Key: bench\r\n"),
        "prefix": '{"commands":[',
        "entry": f'{{"publish":{_PUBLISH}}}',
        "between": ",",
        "suffix": "]}",
    },
    {"greeting": "{", "refused": '"error"', "ping": "{}"},
)
