"""Bodies of deliveries, as a sidecar sends them."""

import json
import uuid
from typing import Any

EXAMPLE = (  # data of an event
    b'{"event_type":"task.created","user_id":"user-123","task_id":"456","title":"New Task",'
    b'"timestamp":"2026-02-07T12:00:00.000Z"}'
)


def cloud_event(data: Any, **envelope: Any) -> dict[str, Any]:
    """A CloudEvent as daprd 1.18 posts it."""
    return {
        "id": str(uuid.uuid4()),
        "source": "backend",
        "type": "com.dapr.event.sent",
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "pubsubname": "pubsub-kafka",
        "topic": "task-updates",
        "data": data,
    } | envelope


def bulk_of(*events: Any, **entry: Any) -> dict[str, Any]:
    """A bulk delivery as daprd 1.18 posts it. The ids of the entries are their indexes."""
    return {
        "id": str(uuid.uuid4()),
        "type": "com.dapr.event.sent.bulk",
        "topic": "task-updates",
        "pubsubname": "pubsub-kafka",
        "metadata": {"pubsubName": "pubsub-kafka"},
        "entries": [
            {
                "entryId": str(place),
                "event": event,
                "contentType": "application/cloudevents+json",
                "metadata": {"__key": "k", "__offset": str(place), "__partition": "0"},
            }
            | entry
            for place, event in enumerate(events)
        ],
    }


def enveloped(data: bytes, **envelope: Any) -> bytes:
    """`cloud_event` as bytes, with the data verbatim."""
    event = cloud_event(None, **envelope)
    del event["data"]
    return json.dumps(event).encode()[:-1] + b',"data":' + data + b"}"


def bulk_bytes(*events: bytes, **metadata: str) -> bytes:
    """`bulk_of` as bytes, with the events verbatim. The metadata is that of each."""
    facts = json.dumps({"__key": "k"} | metadata).encode()
    entry = b'{"entryId":"%d","event":%b,"contentType":"application/cloudevents+json","metadata":%b}'
    entries = b",".join(entry % (number, event, facts) for number, event in enumerate(events))
    return json.dumps(bulk_of()).encode().replace(b'"entries": []', b'"entries": [' + entries + b"]")
