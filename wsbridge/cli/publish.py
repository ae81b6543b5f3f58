"""Makes a CloudEvent from words and posts it to a bridge or to a sidecar."""

import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from wsbridge.cli import http
from wsbridge.cli.options import Failed
from wsbridge.core.timestamps import timestamp

SOURCE = "wsbridge-cli"
CONTENT_TYPE = "application/cloudevents+json"  # with it a sidecar keeps id and type of the envelope
TIMEOUT = 10.0  # seconds
SUCCESS = "SUCCESS"
BY_KEY = "@key"  # the user is the key of the Kafka message, which only a sidecar can set
_OF_BRIDGE = {
    401: "the bridge refuses the token: set APP_API_TOKEN to the same value as the bridge's",
    403: "the bridge refuses events: set APP_API_TOKEN to the same value for the bridge and for this command",
    404: "no such route: if the bridge has a WSBRIDGE_INTERNAL_PORT, name that port with --url",
    429: http.TOO_MANY,
    503: "the bridge is about to exit: see job.failed in its log",
}
_OF_SIDECAR = {
    400: "the sidecar does not know that pub/sub component: see --pubsub and the sidecar's resources",
    401: "the sidecar refuses the token: set DAPR_API_TOKEN to the same value as the sidecar's",
    403: "the sidecar does not allow that topic for its app id: see the component's scopes",
    404: "the sidecar does not know that pub/sub component: see --pubsub and the sidecar's resources",
    500: "the sidecar could not publish it: see its log",
}
_OF_STATUS = {
    "DROP": "the bridge cannot use this event: see event.dropped in its log",
    "RETRY": "the bridge cannot store it now: see event.retried in its log, and try again",
}


def cloud_event(
    event_type: str,
    users: Sequence[str],
    values: Mapping[str, Any],
    *,
    event_id: str | None = None,
    user_field: str = "user_id",
) -> dict[str, Any]:
    """A structured CloudEvent 1.0 in JSON; `user_field` is as in `WSBRIDGE_USER_ID_FIELD`."""
    now = timestamp()
    user_id = users[0] if len(users) == 1 else list(users)
    data: dict[str, Any] = {"event_type": event_type}
    subject = {}
    if user_field == "@subject":
        subject = {"subject": user_id}
    elif user_field != BY_KEY:
        _put(data, user_field.split("."), user_id)
    return {
        "specversion": "1.0",
        "id": event_id or str(uuid.uuid4()),
        "source": SOURCE,
        "type": event_type,
        "time": now,
        "datacontenttype": "application/json",
        **subject,
        "data": {**data, **values} | ({} if "timestamp" in values else {"timestamp": now}),
    }


def _put(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *outer, last = path
    for name in outer:
        data = data.setdefault(name, {})
    data[last] = value


def to_bridge(event: Mapping[str, Any], url: str, *, topic: str, token: str | None) -> None:
    """Post the event, so that it is in the history of its users.

    Raises `Failed` for any other answer than SUCCESS, and `Unreachable` if no bridge answered.
    """
    answer = _post(event, f"{url.rstrip('/')}/events/{quote(topic, safe='')}", token)
    status = answer.field("status") if answer.status == HTTPStatus.OK else None
    if isinstance(status, str) and status in _OF_STATUS:
        raise Failed(f"{status}: {_OF_STATUS[status]}")
    if answer.status == HTTPStatus.NOT_FOUND and (topics := _listed(answer)):
        raise Failed(f"404: the bridge is not subscribed to {topic}. Name one of its topics with --topic: {topics}")
    if status != SUCCESS:
        raise Failed(f"{answer.status}: " + _OF_BRIDGE.get(answer.status, "unexpected response; check --url"))


def _listed(answer: http.Answer) -> str:
    """The topics of the bridge, which it lists if it does not have the one of the event; else ""."""
    topics = answer.field("topics")
    return ", ".join(map(str, topics)) if isinstance(topics, list) else ""


def connections(url: str, user: str, *, token: str | None) -> int | None:
    """How many the user has on the replica that answers; None if it refuses to answer."""
    try:
        answer = http.ask_operator_route(url, "/user", token=token, user_id=user)
    except http.Unreachable:
        return None
    sessions = answer.field("sessions")
    return len(sessions) if answer.status == HTTPStatus.OK and isinstance(sessions, list) else None


def to_sidecar(
    event: Mapping[str, Any],
    url: str,
    *,
    key: str,
    pubsub: str,
    topic: str,
    token: str | None,
    partition: int | None = None,
) -> None:
    """Publish the event. `key` is the partition key: the events of one partition stay in order.

    `partition` overrides it. Raises `Failed` if the sidecar has not published it, and `Unreachable` if no sidecar
    answered.
    """
    query = urlencode(
        {"metadata.partitionKey": key} | ({} if partition is None else {"metadata.partitionNumber": partition})
    )
    answer = _post(event, f"{url.rstrip('/')}/v1.0/publish/{quote(pubsub)}/{quote(topic, safe='')}?{query}", token)
    if answer.status != HTTPStatus.NO_CONTENT:
        raise Failed(f"{answer.status}: " + _OF_SIDECAR.get(answer.status, "unexpected response; check --dapr"))


def _post(event: Mapping[str, Any], url: str, token: str | None) -> http.Answer:
    headers = {"content-type": CONTENT_TYPE} | ({"dapr-api-token": token} if token else {})
    return http.send(url, method="POST", body=msgspec.json.encode(event), headers=headers, timeout=TIMEOUT)
